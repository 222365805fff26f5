"""Picture of a solution."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope import UsageError


def draw(solution: Any, ax: Any, num_points: int) -> Any:
    """Values along a line, or over a plane in colours."""
    net = solution.terms.net
    if len(net.low) > 2 or (len(net.low) == 2 and net.num_outputs > 1):
        raise UsageError("a plot needs a line, or one output over a plane; call it with points")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure().add_subplot()
    lines = [np.linspace(a, b, num_points) for a, b in zip(net.low, net.high, strict=True)]
    if len(lines) == 1:
        ax.plot(lines[0], solution(lines[0][:, None]))
        return ax
    x, y = np.meshgrid(*lines)
    values = solution(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)
    ax.figure.colorbar(ax.pcolormesh(x, y, values, shading="auto"), ax=ax)
    return ax
