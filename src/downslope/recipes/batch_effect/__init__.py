"""Batch effects between laboratories: is it estimable, take it off, see whether it is gone.

from downslope.recipes import batch_effect
batch_effect.batch_correct(adata, key="lab", condition="treatment")
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
