"""Old names of public modules and objects, kept for one release with a warning."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
import warnings

import lazy_loader

TYPE_CHECKING = False  # `typing` takes half of the time of importing the package
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MODULES = {
    "downslope.engine.evaluate": "downslope.train.evaluate",
    "downslope.engine.forecast": "downslope.train.resource_estimate",
    "downslope.engine.measure": "downslope.train.measure",
    "downslope.engine.preview": "downslope.train.preview",
    "downslope.engine.result": "downslope.train.result",
    "downslope.engine.run": "downslope.train.run_folder",
    "downslope.engine.slice": "downslope.table.evidence.line_scan",
    "downslope.engine.stepper": "downslope.train.stepper",
    "downslope.engine.timing": "downslope.train.timing",
    "downslope.engine.trail": "downslope.train.trajectory",
    "downslope.choose.anneal": "downslope.choose.temperature",
    "downslope.choose.search": "downslope.choose.batch",
    "downslope.choose.stop": "downslope.choose.divergence",
    "downslope.choose.trouble": "downslope.choose.recovery",
    "downslope.choose.exchange": "downslope.choose.workers",
    "downslope.metrics.estimate": "downslope.metrics.intervals",
    "downslope.noise.record": "downslope.estimate",
    "downslope.noise.running.watch": "downslope.noise.online.monitor",
    "downslope.noise.running.probes": "downslope.noise.online.probes",
    "downslope.recipes.arguments": "downslope.arguments",
    "downslope.recipes.calibration": "downslope.table.calibration",
    "downslope.recipes.check": "downslope.table.check",
    "downslope.recipes.dry_run": "downslope.table.dry_run",
    "downslope.recipes.evidence": "downslope.table.evidence",
    "downslope.recipes.measure": "downslope.table.measure",
    "downslope.recipes.models": "downslope.models",
    "downslope.recipes.plan": "downslope.table.plan",
    "downslope.recipes.predict": "downslope.table.predict",
    "downslope.recipes.table": "downslope.table.fit",
    "downslope.recipes.time_batches": "downslope.table.time_batches",
}  # fmt: skip

PACKAGES = ("downslope.engine", "downslope.noise.running")  # that held some of them

# By old module: old name -> the name in the new one.
NAMES = {"downslope.engine.forecast": {"forecast": "estimate_resources"}}

# By package: old name -> where the object is now.
OBJECTS = {
    "downslope": {"Run": "downslope.report.run:RunReader"},
    "downslope.choose": {
        "Range": "downslope.estimate:Estimate",
        "Seen": "downslope.choose.scenario:RunFacts",
        "look_at_batch": "downslope.choose.explore:try_batch",
    },
    "downslope.metrics": {"Estimate": "downslope.estimate:Estimate"},
    "downslope.noise": {
        "Measurement": "downslope.estimate:Estimate",
        "Setting": "downslope.noise.survey.point:PointSettings",
    },
    "downslope.noise.covariance": {
        "Spectrum": "downslope.noise.covariance.eigenpairs:NoiseEigenpairs"
    },
    "downslope.report": {"Run": "downslope.report.run:RunReader"},
}


def _warn(old: str, new: str) -> None:
    message = f"{old} is now {new}; the old name goes with the next release"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


class _Finder:
    """Finds modules by their old names, once nothing else has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in MODULES and fullname not in PACKAGES:
            return None
        is_package = fullname in PACKAGES
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        old = module.__name__
        if old in MODULES:
            _warn(old, MODULES[old])
            new = importlib.import_module(MODULES[old])
            names = {k: v for k, v in vars(new).items() if not k.startswith("__")}
            names |= {k: vars(new)[v] for k, v in NAMES.get(old, {}).items()}
            vars(module).update(names)
            module.__getattr__ = lambda name: getattr(new, name)  # type: ignore[method-assign]
        else:
            module.__path__ = []


def install() -> None:
    """Let old names of modules be imported."""
    sys.meta_path.append(_Finder())


def attach_stub(package: str, file: str) -> Any:
    """`lazy_loader.attach_stub` for a package some of whose names have moved."""
    find, listing, names = lazy_loader.attach_stub(package, file)

    def find_old_too(name: str) -> Any:
        new = OBJECTS[package].get(name)
        if new is None:
            return find(name)
        module, _, attribute = new.partition(":")
        _warn(f"{package}.{name}", f"{module}.{attribute}")
        return getattr(importlib.import_module(module), attribute)

    return find_old_too, listing, names
