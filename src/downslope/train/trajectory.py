"""The way of a run's parameters, as its last checkpoint holds it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from downslope.train.checkpoint import Checkpoints
from downslope.train.run_folder import CHECKPOINTS
from downslope.train.setup import WATCH


def path_of(run: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Numbers of updates [m] and the projected parameters after them [m, k]; None without any.

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
    snapshot = Checkpoints(Path(run) / CHECKPOINTS).newest()
    if snapshot is None or f"{WATCH}/path_steps" not in snapshot.tensors:
        return None
    tensors = snapshot.tensors
    return tensors[f"{WATCH}/path_steps"], tensors[f"{WATCH}/path_points"].astype(np.float64)
