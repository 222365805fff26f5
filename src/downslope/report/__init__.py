"""What a run shows: its journal, progress while it trains, the reader of its folder, the report."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
