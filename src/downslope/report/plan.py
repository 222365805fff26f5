"""What a run's journal tells about its noise and its costs, in plain numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from downslope.errors import DataError
from downslope.report.journal import Record, read_journal
from downslope.storage import read_json


def read_run(run: str | os.PathLike[str]) -> dict[str, Any]:
    """The numbers that `downslope.choose.RunFacts` takes, read from a run's folder.

    Args:
        run: the run's folder: its `journal.jsonl`, and `run.json` for the parameters' shapes.

    Raises:
        DataError: the folder is no run, or its journal has no step.
    """
    folder = Path(run)
    if not (folder / "run.json").is_file():
        raise DataError("not the folder of a run", path=run, remedy="name one made by fit --out")
    request = read_json(folder / "run.json")
    path = folder / "journal.jsonl"
    records = _without_undone(read_journal(path))
    num_steps = max((_step(r) for r in records), default=0)
    if not num_steps:
        if any(r.get("event") == "solved" and r.get("is_solved") for r in records):
            remedy = "there are no steps to plan; ask for a search with --optimizer adam"
            raise DataError("was solved at once", path=path, remedy=remedy)
        raise DataError("no step was made", path=path, remedy="let the run make some steps first")
    asked = request.get("training", {}).get("batch_size")
    readings, unread = _readings(records)
    sizes = _Sizes(records, asked if isinstance(asked, int) else None)
    return {
        "num_steps": num_steps,
        "seconds": max((_seconds(r) for r in records), default=0.0),
        **_stretches(readings, num_steps),
        "num_unread": unread,
        "batch_size": sizes.at(num_steps),
        **_times(records, sizes),
        "num_bytes": _num_bytes(request.get("params", {})),
        **_memory(records),
    }


def _step(record: Record) -> int:
    return int(record.get("step") or 0)


def _seconds(record: Record) -> float:
    """Of the run so far, 0 where a record has none."""
    seconds = record.get("seconds")
    return float(seconds) if isinstance(seconds, (int, float)) else 0.0


def _without_undone(records: Sequence[Record]) -> list[Record]:
    """Without what was measured after the state that a divergence went back to."""
    kept: list[Record] = []
    for record in records:
        if record.get("event") == "diverged":
            kept = [each for each in kept if _step(each) <= _step(record)]
        kept.append(record)
    return kept


def _readings(records: Sequence[Record]) -> tuple[list[tuple[int, float, Record]], int]:
    """Step, batch size and noise scale of each reading that bounds it; how many do not."""
    found, unread = [], 0
    for record in records:
        if record.get("event") != "measured" or not record.get("batch_size"):
            continue
        noise = record.get("noise_scale") or {}
        if (noise.get("value") or noise.get("lo") or 0) > 0:
            found.append((_step(record), float(record["batch_size"]), noise))
        else:
            unread += 1
    return found, unread


def _stretches(readings: list[tuple[int, float, Record]], num_steps: int) -> dict[str, Any]:
    """Each reading stands for the steps since the one before; the last, to the end too."""
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("stretch_steps", "batch_sizes", "noise_scales", "noise_los", "noise_his")
    }
    before = 0
    for place, (step, size, noise) in enumerate(readings):
        until = num_steps if place == len(readings) - 1 else step
        if until <= before:
            continue
        row = (until - before, size, *(_positive(noise.get(key)) for key in ("value", "lo", "hi")))
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        before = until
    return {name: tuple(column) for name, column in columns.items()}


def _positive(number: Any) -> float | None:
    return float(number) if number is not None and number > 0 else None


class _Sizes:
    """The batch size of each step, as far as records tell."""

    def __init__(self, records: Sequence[Record], asked: int | None):
        self._known = [(_step(r), float(r["batch_size"])) for r in records if r.get("batch_size")]
        self._asked = asked

    def at(self, step: int) -> float | None:
        """That of the first record at or after the step, else of the last one."""
        after = [size for where, size in self._known if where >= step]
        if after or self._known:
            return after[0] if after else self._known[-1][1]
        return None if self._asked is None else float(self._asked)


def _times(records: Sequence[Record], sizes: _Sizes) -> dict[str, Any]:
    """Seconds of steps by batch size: timed on purpose, else as the run went on."""
    found: dict[float, list[float]] = {}
    timed = [r for r in records if r.get("event") == "timed"]
    for record in timed:
        for size, seconds in zip(record["batch_sizes"], record["step_seconds"], strict=True):
            several = seconds if isinstance(seconds, list) else [seconds]
            found.setdefault(float(size), []).extend(several)
    if not found:
        found = _seen_times(records, sizes)
    return {
        "timed_sizes": tuple(sorted(found)),
        "timed_seconds": tuple(tuple(found[size]) for size in sorted(found)),
        "was_timed": bool(timed),
    }


def _seen_times(records: Sequence[Record], sizes: _Sizes) -> dict[float, list[float]]:
    """Seconds a step between one progress record and the next, by batch size.

    The first is left out where it can be: it waited for compiling. So is what follows a
    resumption, and where the batch size changed.
    """
    found: dict[float, list[float]] = {}
    before: Record | None = None
    for record in records:
        if record.get("event") == "resumed":
            before = None
        if record.get("event") != "progress":
            continue
        if before is not None:
            _add(found, sizes, before, record)
        before = record
    if not found and before is not None:
        _add(found, sizes, {"step": 0, "seconds": 0.0}, before)
    return found


def _add(found: dict[float, list[float]], sizes: _Sizes, before: Record, after: Record) -> None:
    steps, seconds = _step(after) - _step(before), after["seconds"] - before["seconds"]
    size = sizes.at(_step(after))
    if size is not None and size == sizes.at(_step(before) + 1) and steps > 0 and seconds > 0:
        found.setdefault(size, []).append(seconds / steps)


def _num_bytes(params: dict[str, Any]) -> float | None:
    """Bytes of all parameters, and so of a gradient."""
    if not params:
        return None
    return float(sum(_bits(kind) / 8 * math.prod(shape) for kind, *shape in params.values()))


def _bits(kind: str) -> int:
    digits = kind[len(kind.rstrip("0123456789")) :]
    return int(digits) if digits else 8


def _memory(records: Sequence[Record]) -> dict[str, Any]:
    """What a step takes in memory, where a record says so."""
    names = ("fixed_bytes", "example_bytes")
    known = [r for r in records if all(r.get(name) is not None for name in names)]
    return {name: float(known[-1][name]) if known else None for name in names}
