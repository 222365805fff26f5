"""Instruments that read the noise of gradients, on any gradients: plain arrays in, records out.

Each folder is one subject; `Estimate` is what all of them give back, and `anatomy` puts
them together for a loss of JAX.
"""

from __future__ import annotations

import importlib
import typing as _t

from downslope.estimate import Estimate, not_estimable

if _t.TYPE_CHECKING:
    from downslope.noise.survey.anatomy import anatomy, check_sections
    from downslope.noise.survey.extras import Extras
    from downslope.noise.survey.point import Setting
    from downslope.noise.survey.record import Anatomy, Section

# Imported at first use: the records alone do not wait for JAX.
_HOME = {
    "Anatomy": "downslope.noise.survey.record",
    "Extras": "downslope.noise.survey.extras",
    "Section": "downslope.noise.survey.record",
    "Setting": "downslope.noise.survey.point",
    "anatomy": "downslope.noise.survey.anatomy",
    "check_sections": "downslope.noise.survey.anatomy",
}

__all__ = [
    "Anatomy",
    "Estimate",
    "Extras",
    "Section",
    "Setting",
    "anatomy",
    "check_sections",
    "not_estimable",
]


def __getattr__(name: str) -> _t.Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
