"""Decisions as pure functions of measurements: numbers in, numbers out, each with its reason.

Policies decide, controllers ask them while a run trains; names are imported at first use.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
