"""Embeddings by relations: rows of one thing lie close together, others far apart.

from downslope.recipes.embedding import Embedder
model = Embedder().fit(X, labels=y)
distances, places = model.neighbors(X_new, k=5)
"""

from __future__ import annotations

import importlib.util as _util

if _util.find_spec("sklearn") is None:
    raise ImportError(
        "downslope.recipes.embedding needs scikit-learn: pip install 'downslope[sklearn]'"
    )

from downslope.recipes.embedding.collapse import Health, health
from downslope.recipes.embedding.compare import (
    Bound,
    above_chance,
    collapse_loss,
    information_bound,
    loss_difference,
)
from downslope.recipes.embedding.estimator import Embedder
from downslope.recipes.embedding.losses import (
    nt_xent,
    pairs,
    supervised_contrastive,
    triplet,
    unit,
)
from downslope.recipes.embedding.metrics import nearest, retrieval
from downslope.recipes.embedding.network import UnitLoss, embed_in_chunks
from downslope.recipes.embedding.sampler import Units, draw_units, members_of
from downslope.recipes.embedding.views import mask, noise, shift

__all__ = [
    "Bound",
    "Embedder",
    "Health",
    "UnitLoss",
    "Units",
    "above_chance",
    "collapse_loss",
    "draw_units",
    "embed_in_chunks",
    "health",
    "information_bound",
    "loss_difference",
    "mask",
    "members_of",
    "nearest",
    "noise",
    "nt_xent",
    "pairs",
    "retrieval",
    "shift",
    "supervised_contrastive",
    "triplet",
    "unit",
]
