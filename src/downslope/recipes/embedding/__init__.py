"""Embeddings by relations: rows of one thing lie close together, others far apart.

from downslope.recipes.embedding import Embedder
model = Embedder().fit(X, labels=y)
distances, places = model.neighbors(X_new, k=5)
"""

import importlib.util as _util

import lazy_loader as _lazy

if _util.find_spec("sklearn") is None:
    raise ImportError(
        "downslope.recipes.embedding needs scikit-learn: pip install 'downslope[sklearn]'"
    )

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
