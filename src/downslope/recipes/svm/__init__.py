"""Support vector machines by subgradients, each with a proof of how near the best it is.

from downslope.recipes.svm import SVM
model = SVM().fit(X, y)
print(model.certificate_)
"""

import importlib.util as _util

import lazy_loader as _lazy

if _util.find_spec("sklearn") is None:
    raise ImportError("downslope.recipes.svm needs scikit-learn: pip install 'downslope[sklearn]'")

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
