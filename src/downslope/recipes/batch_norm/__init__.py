"""Batch normalisation: by mini-batch, ghost batch, laboratory or frozen statistics.

from downslope.recipes import batch_norm
population = batch_norm.population_statistics(net, result.params, x)
predict = batch_norm.Predictor(net=net, model=result.params, population=population)
"""

from __future__ import annotations

from downslope.recipes.batch_norm.conditioning import (
    Conditioning,
    LayerConditioning,
    conditioning,
)
from downslope.recipes.batch_norm.draws import OneLab, balanced
from downslope.recipes.batch_norm.findings import findings
from downslope.recipes.batch_norm.labs import by_lab, counted_mean, enough_rows
from downslope.recipes.batch_norm.layer import (
    Norm,
    Statistics,
    by_batch,
    by_ghost,
    frozen,
    init,
)
from downslope.recipes.batch_norm.moments import Moments, group_moments
from downslope.recipes.batch_norm.population import Population, population_statistics
from downslope.recipes.batch_norm.prediction import Predictor

__all__ = [
    "Conditioning",
    "LayerConditioning",
    "Moments",
    "Norm",
    "OneLab",
    "Population",
    "Predictor",
    "Statistics",
    "balanced",
    "by_batch",
    "by_ghost",
    "by_lab",
    "conditioning",
    "counted_mean",
    "enough_rows",
    "findings",
    "frozen",
    "group_moments",
    "init",
    "population_statistics",
]
