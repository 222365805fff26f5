"""Hessian products and extreme eigenvalues, and the learning rates that they allow."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
