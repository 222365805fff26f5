"""Origin of a run: command, versions, machine, seeds."""

from __future__ import annotations

import dataclasses
import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import downslope
from downslope import Training
from downslope.config import AUTO, OptimizerName
from downslope.flags import NONE, flag_of
from downslope.report.journal import Record
from downslope.table.run import TableRequest

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "pyarrow", "scipy")


def origin(asked: TableRequest, command: str | None, records: list[Record]) -> Record:
    """Everything that repeating the run needs, and the machine it ran on.

    The peak of memory is that of this process, or what an earlier record of the run holds, if
    that is more: a report may be made by another process than the one that trained.
    """
    earlier = [r for r in records if r["event"] == "record"]
    if command and "--resume" in shlex.split(command):
        command = None  # it repeats nothing, unlike the first command
    command = command or (earlier[-1].get("command") if earlier else None)
    peaks = [r.get("peak_memory_bytes") for r in earlier] + [_peak_memory()]
    return {
        "command": command or equal_command(asked),
        "versions": _versions(),
        "hardware": _hardware(),
        "seeds": {"table": asked.table.seed, "training": asked.training.get("seed")},
        "fingerprint": asked.fingerprint,
        "table": asked.path,
        "peak_memory_bytes": max((p for p in peaks if p is not None), default=None),
    }


def equal_command(asked: TableRequest) -> str:
    """A command that asks for the same; "" where an optimizer or a table has no name."""
    optimizer = asked.training.get("optimizer", AUTO)
    if asked.path is None or optimizer not in (*get_args(OptimizerName), AUTO):
        return ""
    words = ["downslope", "fit", asked.path]
    said = set()
    given = ((asked.table, vars(asked.table)), (asked.model, vars(asked.model)))
    for config, values in (*given, (Training, asked.training)):
        for field in dataclasses.fields(config):
            value = values.get(field.name, field.default)
            if value != field.default and field.name not in said:
                words += _words(flag_of(field.name), value)
                said.add(field.name)  # one flag sets the seed of both
    return shlex.join(words)


def _words(flag: str, value: Any) -> list[str]:
    if isinstance(value, tuple) and all(isinstance(v, str) for v in value):
        return [word for each in value for word in _words(flag, each)]
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    text = NONE if value is None else str(value)
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _versions() -> dict[str, str]:
    found = {"downslope": downslope.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, Any]:
    import jax

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_bytes": _memory(),
        "system": platform.platform(),
        "device": jax.devices()[0].device_kind,
    }


def _processor() -> str:
    """Name of the processor, which Linux keeps in a file."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _peak_memory() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kibibytes but on a Mac
