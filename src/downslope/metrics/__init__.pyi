from .classification import ClassificationMetrics as ClassificationMetrics
from .loss import MeanLoss as MeanLoss
from .quantiles import QuantileMetrics as QuantileMetrics
from .quantiles import pinball as pinball
from .regression import RegressionMetrics as RegressionMetrics
from .results import Results as Results
