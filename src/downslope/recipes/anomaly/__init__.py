"""Anomalies in periodic signals: learned from normal ones, with a stated rate of false alarms."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
