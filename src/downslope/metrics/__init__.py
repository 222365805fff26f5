"""Loss and metrics on held-out rows, each with its uncertainty.

Three accumulators, `MeanLoss`, `ClassificationMetrics` and `RegressionMetrics`, take blocks of
rows (`add`) and end in `result()`: a dictionary of `Estimate` by name, with `.reasons` for the
metrics that cannot be estimated. Memory does not grow with the number of rows.

Remove padding before adding rows. A weight is an importance weight: rows of weight 0 do not
count, and only ratios of weights matter. A loss or prediction that is not finite leaves its
metrics out, with a reason. One row gives values without intervals; none gives reasons only.
Intervals take rows as independent and are meant for many rows: on few rows with heavy tails those
of rmse and r2 are too short.
"""

from downslope import _moved

__getattr__, __dir__, __all__ = _moved.attach_stub(__name__, __file__)
