"""Heavy tails: concentration of the noise, tail index, and the effect of clipping."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
