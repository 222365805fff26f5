"""The smallest batch for a given error of the gradient, with a given probability."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
