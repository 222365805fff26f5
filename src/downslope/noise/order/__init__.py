"""Order of the rows of a data set: its effect on batches, tests of randomness, shuffle buffers."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
