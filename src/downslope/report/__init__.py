"""Records and pages of a run: journal, progress while it trains, reader of its folder, report."""

from downslope import _moved

__getattr__, __dir__, __all__ = _moved.attach_stub(__name__, __file__)
