"""Runs shown where people look already: TensorBoard, MLflow, Weights & Biases, trackio.

A logger is a reader of the journal: `downslope.fit(..., readers=(TensorBoard("logs"),))`.
Each needs its own package, imported when the logger is made.
"""

from downslope.loggers.event_files import TensorBoard
from downslope.loggers.log import LogTo, Trackio, Wandb
from downslope.loggers.logger import Logger
from downslope.loggers.names import from_name
from downslope.loggers.tracking import MLflow

__all__ = ["LogTo", "Logger", "MLflow", "TensorBoard", "Trackio", "Wandb", "from_name"]
