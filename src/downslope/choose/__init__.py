"""Decisions as pure functions of measurements: numbers in, numbers out, each with its reason.

Policies decide; controllers call them while a run trains. Names are imported on first use.
"""

from downslope import _moved

__getattr__, __dir__, __all__ = _moved.attach_stub(__name__, __file__)
