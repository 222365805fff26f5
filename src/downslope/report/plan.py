"""The numbers of a run's journal that plans of other runs rest on."""

from __future__ import annotations

import os
from typing import Any

from downslope.errors import DataError
from downslope.report.measurements import readings, stretches, timed
from downslope.report.reading import Record, number, of_event, step_of
from downslope.report.run_data import RunData


def read_run(run: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of `downslope.choose.RunFacts`, read from a run's folder.

    Args:
        run: the run's folder: its `journal.jsonl`, and `run.json` for the parameters' shapes.

    Raises:
        DataError: the folder is no run, or its journal has no step.
    """
    data = RunData(run)
    num_steps = int(max((step_of(r) for r in data.kept), default=0))
    path = data.folder / "journal.jsonl"
    if not num_steps:
        if any(record.get("is_solved") for record in data.of("solved")):
            remedy = "there are no steps to plan; ask for a search with --optimizer adam"
            raise DataError("was solved at once", path=path, remedy=remedy)
        raise DataError("no step was made", path=path, remedy="let the run make some steps first")
    found = readings(data)
    parts = stretches(found, num_steps)
    times = timed(data)
    by_size = times or _progress_times(data)
    return {
        "num_steps": num_steps,
        "seconds": max((_seconds(r) for r in data.kept), default=0.0),
        "stretch_steps": tuple(steps for _, steps in parts),
        "batch_sizes": tuple(reading.batch_size for reading, _ in parts),
        "noise_scales": tuple(reading.bounds[0] for reading, _ in parts),
        "noise_los": tuple(reading.bounds[1] for reading, _ in parts),
        "noise_his": tuple(reading.bounds[2] for reading, _ in parts),
        "num_unread": sum(reading.level is None for reading in found),
        "batch_size": data.course.batch_size(num_steps),
        "timed_sizes": tuple(sorted(by_size)),
        "timed_seconds": tuple(tuple(by_size[size]) for size in sorted(by_size)),
        "was_timed": bool(times),
        "num_bytes": None if data.size is None else data.size[1],
        **_memory(data),
    }


def _seconds(record: Record) -> float:
    return number(record.get("seconds")) or 0.0


def _progress_times(run: RunData) -> dict[float, list[float]]:
    """Seconds a step between one progress record and the next, by batch size.

    The first record is left out where there are more: it waited for compiling. So is what
    follows a resumption or a change of the batch size.
    """
    found: dict[float, list[float]] = {}
    before: Record | None = None

    def add(before: Record, after: Record) -> None:
        steps = step_of(after) - step_of(before)
        seconds = _seconds(after) - _seconds(before)
        size = run.course.batch_size(step_of(after))
        same = size == run.course.batch_size(step_of(before) + 1)
        if size is not None and same and steps > 0 and seconds > 0:
            found.setdefault(size, []).append(seconds / steps)

    for record in of_event(run.kept, "progress", "resumed"):
        if record["event"] == "resumed":
            before = None
            continue
        if before is not None:
            add(before, record)
        before = record
    if not found and before is not None:
        add({"step": 0, "seconds": 0.0}, before)
    return found


def _memory(run: RunData) -> dict[str, float | None]:
    """Bytes that a step takes, from the newest record that has them."""
    names = ("fixed_bytes", "example_bytes")
    known = [r for r in run.kept if all(number(r.get(name)) is not None for name in names)]
    return {name: number(known[-1].get(name)) if known else None for name in names}
