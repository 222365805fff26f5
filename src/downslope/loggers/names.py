"""Loggers by name, as on the command line."""

from __future__ import annotations

from collections.abc import Callable

from downslope.errors import UsageError
from downslope.loggers.event_files import TensorBoard
from downslope.loggers.log import Trackio, Wandb
from downslope.loggers.logger import Logger
from downslope.loggers.tracking import MLflow

_KINDS: dict[str, tuple[Callable[[str], Logger], str]] = {
    "tensorboard": (TensorBoard, "FOLDER"),
    "mlflow": (lambda uri: MLflow(uri or None), "[URI]"),
    "wandb": (Wandb, "PROJECT"),
    "trackio": (Trackio, "PROJECT"),
}
FORMS = tuple(f"{name}:{what}" for name, (_, what) in _KINDS.items())


def from_name(name: str) -> Logger:
    """The logger of a name such as `tensorboard:FOLDER`, `mlflow:URI` or `wandb:PROJECT`.

    Args:
        name: the kind, a colon, and the destination; `mlflow` alone uses MLflow's own setting.

    Raises:
        UsageError: no such logger, nothing after the colon, or its package is not installed.

    Example:
        >>> type(from_name("tensorboard:logs")).__name__
        'TensorBoard'
    """
    kind, _, where = name.partition(":")
    if kind not in _KINDS or (not where and kind != "mlflow"):
        raise UsageError(f"a logger must be one of {', '.join(FORMS)}; got {name!r}")
    return _KINDS[kind][0](where)
