"""Batch normalisation: by mini-batch, ghost batch, laboratory or frozen statistics.

from downslope.recipes import batch_norm
population = batch_norm.population_statistics(net, result.params, x)
predict = batch_norm.Predictor(net=net, model=result.params, population=population)
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
