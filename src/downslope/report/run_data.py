"""A run's folder as read: settings, records that count, results."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from downslope.errors import DataError
from downslope.estimate import Estimate, not_estimable
from downslope.report.journal import no_run, read_journal
from downslope.report.reading import (
    Clock,
    Course,
    Record,
    estimate,
    listing,
    mapping,
    number,
    of_event,
    step_of,
    text,
    without_undone,
)
from downslope.storage import read_json, read_signed

FORMAT = "downslope run 1"
RESTORE = "restore it from a copy"
NOT_HELD_OUT = not_estimable("no rows were held out", unit="")


class RunData:
    """Contents of a run's folder, also of a run under way; see `downslope.report.run.RunReader`."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.asked: dict[str, Any] = _asked(self.folder)
        self.records: list[dict[str, Any]] = _read(read_journal, self.folder / "journal.jsonl")
        self.summary: dict[str, Any] | None = _summary(self.folder / "result.json")

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @cached_property
    def kept(self) -> list[dict[str, Any]]:
        """The records without those of updates that a divergence took back."""
        return without_undone(self.records)  # type: ignore[return-value]

    @cached_property
    def course(self) -> Course:
        """Examples used and batch size at each step."""
        return Course(self.kept, number(self.training.get("batch_size")))

    @cached_property
    def clock(self) -> Clock:
        """Seconds at each step."""
        return Clock(self.kept)

    @property
    def is_over(self) -> bool:
        """True once it has ended: a summary was written, and no resumption came after it."""
        events = [record["event"] for record in of_event(self.records, "stopped", "resumed")]
        return events[-1] == "stopped" if "resumed" in events else self.summary is not None

    @property
    def result(self) -> dict[str, Any]:
        """The summary of a run that has ended; empty for one under way, resumed ones included."""
        return (self.summary or {}) if self.is_over else {}

    @property
    def training(self) -> Record:
        """Training settings, as asked."""
        return mapping(self.asked.get("training"))

    @property
    def metadata(self) -> Record:
        """Settings of the recipe, as asked."""
        return mapping(self.asked.get("metadata"))

    def find(self, *events: str) -> dict[str, Any] | None:
        """The newest record of an event, or None; further names are those of older versions."""
        found = of_event(self.records, *events)
        return found[-1] if found else None  # type: ignore[return-value]

    def of(self, *events: str) -> list[Record]:
        """The records of an event in order, without those that a divergence took back."""
        return of_event(self.kept, *events)

    @cached_property
    def num_steps(self) -> float:
        """Updates made, so far where the run is under way."""
        found = number(self.result.get("num_steps"))
        return max((step_of(r) for r in self.kept), default=0.0) if found is None else found

    @cached_property
    def seconds(self) -> float | None:
        """Time spent training, so far where the run is under way."""
        found = number(self.result.get("seconds"))
        known = [s for r in self.records if (s := number(r.get("seconds"))) is not None]
        return max(known, default=None) if found is None else found

    @cached_property
    def size(self) -> tuple[int, float] | None:
        """Number of parameters and their bytes, or None where `run.json` does not say."""
        count, size = 0, 0.0
        shapes = mapping(self.asked.get("params"))
        for shape in shapes.values():
            kind, *sides = listing(shape) or [""]
            lengths = [number(side) for side in sides]
            if not text(kind) or None in lengths:
                return None
            here = math.prod(int(length or 0) for length in lengths)
            bits = text(kind)[len(text(kind).rstrip("0123456789")) :]  # of float32, bool
            count, size = count + here, size + here * int(bits or 8) / 8
        return (count, size) if shapes else None

    def score(self, *names: str) -> tuple[str, Estimate]:
        """The first of these held-out metrics that has a value: of the model that was kept, or the
        latest of a run under way.
        """
        values = mapping(self.result.get("validation"))
        ends = mapping(self.result.get("validation_intervals"))
        newest = mapping([{}, *self.of("evaluated")][-1].get("metrics"))
        kept: list[tuple[str, Estimate]] = []
        for name in names:
            lo, hi = (*listing(ends.get(name)), None, None)[:2]
            kept.append((name, estimate({"value": values.get(name), "lo": lo, "hi": hi}, "")))
        every = [*kept, *((name, estimate(newest.get(name))) for name in names)]
        return next((each for each in every if each[1].is_measured), (names[-1], NOT_HELD_OUT))


def _asked(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.is_file():
        raise no_run(folder)
    asked = read_signed(path)
    if asked.get("format") != FORMAT:
        raise DataError(f"not in the format {FORMAT!r}", path=path, remedy=RESTORE)
    return asked


def _read(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except (OSError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"cannot be read ({why})", path=path, remedy=RESTORE) from error


def _summary(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found = _read(read_json, path)
    if not isinstance(found, dict):
        raise DataError("no summary of a run", path=path, remedy=RESTORE)
    return found
