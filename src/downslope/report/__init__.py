"""What a run tells a reader: its journal, progress while it trains, the report."""

from __future__ import annotations

import importlib
import typing as _t

if _t.TYPE_CHECKING:
    from downslope.report.page import write_report
    from downslope.report.run import Run

# Imported at first use: the journal is written by every run, the page by few of them.
_HOME = {"Run": "downslope.report.run", "write_report": "downslope.report.page"}

__all__ = ["Run", "write_report"]


def __getattr__(name: str) -> _t.Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
