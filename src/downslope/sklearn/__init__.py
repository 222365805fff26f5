"""Estimators in the manner of scikit-learn, trained by downslope.

from downslope.sklearn import LinearClassifier
LinearClassifier().fit(X, y).predict(X)
"""

import importlib.util as _util

import lazy_loader as _lazy

if _util.find_spec("sklearn") is None:
    raise ImportError("downslope.sklearn needs scikit-learn: pip install 'downslope[sklearn]'")

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
