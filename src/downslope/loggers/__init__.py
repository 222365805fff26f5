"""Loggers to TensorBoard, MLflow, Weights & Biases and trackio.

A logger is a reader of the journal: `downslope.fit(..., readers=(TensorBoard("logs"),))`.
Each needs its own package, imported when the logger is made.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
