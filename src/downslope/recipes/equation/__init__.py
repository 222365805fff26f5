"""Differential equations by mini-batches of points.

from downslope.recipes.equation import Equation, dirichlet, interval, derivative
found = Equation(residual, interval(0, 1), [dirichlet(0.0)]).solve(seconds=20)
print(found.describe())
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
