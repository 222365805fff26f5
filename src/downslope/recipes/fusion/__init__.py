"""Numbers and words together: two branches that are joined late.

from downslope.recipes.fusion import FusionClassifier
FusionClassifier(text="news").fit(table, rating, times=date, groups=country)
"""

import importlib.util as _util

import lazy_loader as _lazy

if _util.find_spec("sklearn") is None:
    raise ImportError(
        "downslope.recipes.fusion needs scikit-learn: pip install 'downslope[sklearn]'"
    )

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
