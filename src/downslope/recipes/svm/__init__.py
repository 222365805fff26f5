"""Support vector machines by subgradients, each with a proof of how near the best it is.

from downslope.recipes.svm import SVM
model = SVM().fit(X, y)
print(model.certificate_)
"""

from __future__ import annotations

import importlib.util as _util

if _util.find_spec("sklearn") is None:
    raise ImportError("downslope.recipes.svm needs scikit-learn: pip install 'downslope[sklearn]'")

from downslope.recipes.svm.certificate import Certificate, certify
from downslope.recipes.svm.estimator import SVM
from downslope.recipes.svm.problem import crammer_singer

__all__ = ["SVM", "Certificate", "certify", "crammer_singer"]
