"""Mini-batch training that measures its own noise: tables, losses of your own, any size.

import downslope
result = downslope.fit(loss, model, data)
"""

from __future__ import annotations

import importlib
import sys
import types as _types
import typing as _t

if _t.TYPE_CHECKING:
    from downslope.config import ModelOptions, TableOptions, Training
    from downslope.data import open
    from downslope.data.arrays import Arrays
    from downslope.data.generator import Generator
    from downslope.data.source import Source
    from downslope.errors import (
        CapacityError,
        DataError,
        DownslopeError,
        MismatchError,
        StopReason,
        UsageError,
    )
    from downslope.fit import fit
    from downslope.report.run import RunReader
    from downslope.train.evaluate import Scorer
    from downslope.train.measure import measure
    from downslope.train.result import Result
    from downslope.train.run_folder import load_model, read_metadata, read_request
    from downslope.train.stepper import Stepper

__version__ = "0.1.0.dev0"

# Where each public name lives. Names are imported at first use, so that `downslope --help`
# does not wait for JAX.
_HOME = {
    "Arrays": "downslope.data.arrays",
    "CapacityError": "downslope.errors",
    "DataError": "downslope.errors",
    "DownslopeError": "downslope.errors",
    "Generator": "downslope.data.generator",
    "MismatchError": "downslope.errors",
    "ModelOptions": "downslope.config",
    "Result": "downslope.train.result",
    "RunReader": "downslope.report.run",
    "Scorer": "downslope.train.evaluate",
    "Source": "downslope.data.source",
    "Stepper": "downslope.train.stepper",
    "StopReason": "downslope.errors",
    "TableOptions": "downslope.config",
    "Training": "downslope.config",
    "UsageError": "downslope.errors",
    "fit": "downslope.fit",
    "load_model": "downslope.train.run_folder",
    "measure": "downslope.train.measure",
    "open": "downslope.data",
    "read_metadata": "downslope.train.run_folder",
    "read_request": "downslope.train.run_folder",
}

__all__ = [
    "Arrays",
    "CapacityError",
    "DataError",
    "DownslopeError",
    "Generator",
    "MismatchError",
    "ModelOptions",
    "Result",
    "RunReader",
    "Scorer",
    "Source",
    "Stepper",
    "StopReason",
    "TableOptions",
    "Training",
    "UsageError",
    "fit",
    "load_model",
    "measure",
    "open",
    "read_metadata",
    "read_request",
]


class _Package(_types.ModuleType):
    """A module that keeps `downslope.fit` the function, also once `fit.py` was imported.

    Importing a submodule sets it as an attribute of its package; without this the order of
    imports would decide what `downslope.fit` is.
    """

    def __setattr__(self, name: str, value: _t.Any) -> None:
        if not (name in _HOME and isinstance(value, _types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> _t.Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
