"""Odds of malignancy with their uncertainty, from 30 measures of 569 biopsies.

The weights of a logistic regression are sampled from their posterior by mini-batches. Shown are a
few held-out cases: the probability of malignancy, and the interval that the posterior leaves it.

    python examples/posterior.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

from downslope.recipes.posterior import sample


def loss(model, batch, key):
    """Negative log likelihood of each biopsy, nats."""
    x, malignant = batch
    return jax.nn.softplus((1 - 2 * malignant) * logits(model, x))


def logits(model, x):
    """Log odds of malignancy."""
    return x @ model["weights"] + model["bias"]


def main() -> None:
    """Sample and print."""
    x, benign = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, malignant = scale(x)[order].astype(np.float32), (1 - benign)[order].astype(np.float32)
    rows, held_out = (x[:469], malignant[:469]), (x[469:], malignant[469:])
    model = {"weights": np.zeros(30, np.float32), "bias": np.zeros((), np.float32)}
    found = sample(loss, model, rows, prior_scale=1.0)
    print(found.describe())
    best = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), found.mean())
    point = float(jnp.mean(-loss(best, held_out, None)))
    print(
        f"log likelihood of 100 held-out biopsies: {found.log_predictive_density(loss, held_out)}"
    )
    print(f"of the mean weights alone: {point:.4f} nats/row")
    mean, lo, hi = found.predict(lambda m: jax.nn.sigmoid(logits(m, held_out[0][:5])))
    for probability, low, high, truth in zip(mean, lo, hi, held_out[1], strict=False):
        print(f"malignant {probability:.3f} ({low:.3f} to {high:.3f}), in truth {int(truth)}")


if __name__ == "__main__":
    main()
