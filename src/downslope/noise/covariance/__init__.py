"""Noise covariance and its alignment with the Hessian."""

from downslope import _moved

__getattr__, __dir__, __all__ = _moved.attach_stub(__name__, __file__)
