from .linear import LinearClassifier as LinearClassifier
from .linear import LinearRegressor as LinearRegressor
from .linear import LinearSVC as LinearSVC
from .loading import load as load
from .mlp import MLPClassifier as MLPClassifier
from .mlp import MLPRegressor as MLPRegressor
