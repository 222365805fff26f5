"""What a run shows: its journal, progress while it trains, the reader of its folder, the report."""

from downslope import _moved

__getattr__, __dir__, __all__ = _moved.attach_stub(__name__, __file__)
