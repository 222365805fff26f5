"""Numbers and words together: two branches that are joined late.

from downslope.recipes.fusion import FusionClassifier
FusionClassifier(text="news").fit(table, rating, times=date, groups=country)
"""

from __future__ import annotations

import importlib.util as _util

if _util.find_spec("sklearn") is None:
    raise ImportError(
        "downslope.recipes.fusion needs scikit-learn: pip install 'downslope[sklearn]'"
    )

from downslope.recipes.fusion.classifier import FusionClassifier
from downslope.recipes.fusion.explain import Explanation, Word
from downslope.recipes.fusion.regressor import FusionRegressor
from downslope.recipes.fusion.simulate import RatedNews, rated_news
from downslope.recipes.fusion.splits import Split, split

__all__ = [
    "Explanation",
    "FusionClassifier",
    "FusionRegressor",
    "RatedNews",
    "Split",
    "Word",
    "rated_news",
    "split",
]
