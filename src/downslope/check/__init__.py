"""Checks before training: of a table, of a gradient, of memory; whether a loss can be solved.

Functions are imported at first use: the checks of a table do not wait for JAX.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
