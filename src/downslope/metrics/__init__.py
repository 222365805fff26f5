"""How good a model is on held-out rows: loss and task metrics, each with its uncertainty.

Three accumulators, `MeanLoss`, `ClassificationMetrics` and `RegressionMetrics`, take
blocks of rows (`add`), can be joined (`merge`), and end in `result()`: a dictionary of
`Estimate` by name, with `.reasons` for the metrics that cannot be estimated. Memory does
not grow with the number of rows.

Rules for all of them. The caller slices padding off. A weight is an importance weight: a
row of weight 0 does not count, and only ratios of weights matter. A loss or prediction
that is not finite leaves its metrics out, with a reason. One row gives values without
intervals; none gives reasons only. Intervals take rows as independent and are meant for
many rows: on few rows with heavy tails those of rmse and r2 come out too short.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
