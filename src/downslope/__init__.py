"""Mini-batch training that measures its own noise: tables, losses of your own, any size.

import downslope
result = downslope.fit(loss, model, data)
"""

from downslope import _moved

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = _moved.attach_stub(__name__, __file__)
_moved.install()
