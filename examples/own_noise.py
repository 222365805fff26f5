"""Instruments on your own gradients: logistic regression in plain NumPy, no JAX."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer

from downslope.noise.covariance import in_words, noise_profile, sharpness_ratio
from downslope.noise.gradient import expected_angle
from downslope.noise.required import required_batch
from downslope.noise.scale import Noise, from_examples
from downslope.noise.tails import deviation_norms, tail_report


def main(steps: int = 300, batch_size: int = 32) -> Noise:
    table = load_breast_cancer()
    scaled = (table.data - table.data.mean(axis=0)) / table.data.std(axis=0)
    x, y = np.column_stack([scaled, np.ones(len(scaled))]), table.target

    def chance(theta):
        return 1 / (1 + np.exp(-(x @ theta)))

    theta, rng = np.zeros(x.shape[1]), np.random.default_rng(0)
    for _ in range(steps):
        rows = rng.choice(len(x), batch_size, replace=False)
        theta -= 0.05 * (chance(theta) - y)[rows] @ x[rows] / batch_size

    p = chance(theta)
    gradients = (p - y)[:, None] * x  # [n, d]: one per row, not averaged
    hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x)

    noise = from_examples(gradients)
    print("noise scale:", noise.scale)
    print("spent beyond the least:", noise.spent_beyond(batch_size))
    print("angle between two batches:", expected_angle(gradients, batch_size).angle_degrees)
    asked = required_batch(gradients, relative_error=0.5, miss_probability=0.1)
    print("batch for half an error of |G| in nine of ten:", asked.needed)

    curvatures, directions = np.linalg.eigh(hessian)
    profile = noise_profile(gradients, curvatures[::-1], directions.T[::-1], num_sharp=5)
    ratio = sharpness_ratio(gradients, lambda v: hessian @ v, float(np.trace(hessian)))
    print(in_words(ratio, profile.sharp_over_flat, profile.num_sharp))
    print(tail_report(deviation_norms(gradients)).sentence)
    return noise


if __name__ == "__main__":
    main()
