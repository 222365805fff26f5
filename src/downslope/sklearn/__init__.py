"""Estimators in the manner of scikit-learn, trained by downslope.

from downslope.sklearn import LinearClassifier
LinearClassifier().fit(X, y).predict(X)
"""

from __future__ import annotations

import importlib.util as _util

if _util.find_spec("sklearn") is None:
    raise ImportError("downslope.sklearn needs scikit-learn: pip install 'downslope[sklearn]'")

from downslope.sklearn.linear import LinearClassifier, LinearRegressor, LinearSVC
from downslope.sklearn.loading import load
from downslope.sklearn.mlp import MLPClassifier, MLPRegressor

__all__ = [
    "LinearClassifier",
    "LinearRegressor",
    "LinearSVC",
    "MLPClassifier",
    "MLPRegressor",
    "load",
]
