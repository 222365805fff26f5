"""The gradient noise scale: how many examples a batch needs before its noise equals its signal."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
