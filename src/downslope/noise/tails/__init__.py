"""Heavy tails: which examples carry the noise, the tail index, and what clipping does."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
