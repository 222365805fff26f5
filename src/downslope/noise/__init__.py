"""Instruments that read the noise of gradients, on any gradients: plain arrays in, records out.

Each folder is one subject, every result an `Estimate`; `anatomy` applies all instruments to a
JAX loss. Subjects are imported at first use.
"""

from downslope import _moved

__getattr__, __dir__, __all__ = _moved.attach_stub(__name__, __file__)
