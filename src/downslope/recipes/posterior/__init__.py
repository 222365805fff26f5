"""Samples of a posterior by mini-batches: steps, batches and burn-in follow from measured noise.

from downslope.recipes.posterior import sample
found = sample(loss, model, data, prior_scale=1.0)
print(found.describe())
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
