"""Instruments that read the noise of gradients, on any gradients: plain arrays in, records out.

Each folder is one subject, every result an `Estimate`; `anatomy` applies all instruments to a
JAX loss. Subjects are imported at first use.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
