"""Trajectory of a run's parameters, from its last checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from downslope.train.checkpoint import Checkpoints
from downslope.train.run_folder import CHECKPOINTS
from downslope.train.state import MONITOR


def path_of(run: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Update numbers [m] and the projected parameters after them [m, k]; None without any.

    The projection is random and keeps lengths within 18 %; see `downslope.noise.trajectory`.
    Points lie at least 0.2 s of training apart.

    Args:
        run: the run's folder.

    Raises:
        DataError: every checkpoint is damaged.

    Example:
        >>> import downslope, tempfile
        >>> x = np.random.default_rng(0).normal(size=(500, 3)).astype("float32")
        >>> loss = lambda model, batch, key: 0.5 * (batch @ model) ** 2
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> fitted = downslope.fit(loss, np.ones(3, "float32"), x, steps=50, out=folder)
        >>> steps, points = path_of(folder)
        >>> len(steps) == len(points), points.shape[1]
        (True, 64)
    """
    checkpoint = Checkpoints(Path(run) / CHECKPOINTS).newest()
    if checkpoint is None or f"{MONITOR}/path_steps" not in checkpoint.tensors:
        return None
    tensors = checkpoint.tensors
    return tensors[f"{MONITOR}/path_steps"], tensors[f"{MONITOR}/path_points"].astype(np.float64)
