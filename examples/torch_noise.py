"""Gradient noise scale in a PyTorch loop: gradients of both halves of every batch."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from downslope.noise.adapters import HalfBatches
from downslope.noise.scale import Noise

try:
    import torch
except ModuleNotFoundError:  # only this loop needs PyTorch; measuring the noise does not
    torch = None


def main(steps: int = 300, batch_size: int = 64) -> Noise | None:
    if torch is None:
        print("skipped: PyTorch is not installed (pip install torch)")
        return None
    torch.manual_seed(0)
    data = load_digits()
    images = torch.tensor(data.data / 16, dtype=torch.float32)
    digits = torch.tensor(data.target)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    order = np.random.default_rng(0)

    def gradient(rows):
        loss = torch.nn.functional.cross_entropy(model(images[rows]), digits[rows])
        return torch.autograd.grad(loss, parameters)

    halves, half = HalfBatches(), batch_size // 2
    for number in range(1, steps + 1):
        rows = torch.as_tensor(order.choice(len(images), batch_size, replace=False))
        first, second = gradient(rows[:half]), gradient(rows[half:])
        share = half / batch_size
        halves.add(first, second, half, batch_size - half)
        for p, one, two in zip(parameters, first, second, strict=True):
            p.grad = share * one + (1 - share) * two  # the gradient of the whole batch
        optimizer.step()
        if number % max(steps // 3, 1) == 0:
            print(f"step {number}: noise scale {halves.noise(last=50).scale}")
    noise = halves.noise(last=50)
    print("spent beyond the least:", noise.spent_beyond(batch_size))
    return noise


if __name__ == "__main__":
    main()
