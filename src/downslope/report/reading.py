"""Plain numbers out of journal records, damaged ones included.

A journal may have been cut short, edited, or written by another version: anything other than a
finite number reads as missing, never as an error and never as NaN.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from downslope.estimate import Estimate

Record = Mapping[str, Any]

LARGEST = 1e100  # beyond any measurement; charts of larger numbers overflow


def number(value: Any) -> float | None:
    """The value as a finite number, or None.

    Example:
        >>> number(3), number("3"), number(float("nan")), number(True)
        (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if abs(found) < LARGEST else None


def numbers(values: Any) -> list[float | None]:
    """The values of a list as `number` reads them; empty if it is no list."""
    return [number(each) for each in values] if isinstance(values, (list, tuple)) else []


def mapping(value: Any) -> Record:
    """The value where it is a dictionary, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def listing(value: Any) -> Sequence[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, (list, tuple)) else []


def text(value: Any) -> str:
    """The value where it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def scale_name(record: Record) -> str:
    """Name in a `measured` record of the noise scale in the metric that the optimizer steps in.

    Example:
        >>> scale_name({"noise_scale": {"value": 45.0}})
        'noise_scale'
    """
    own = "preconditioned_noise_scale"
    return own if own in record else "noise_scale"


def estimate(value: Any, unit: str | None = None) -> Estimate:
    """An estimate from a record; a damaged one has a reason and no value.

    Args:
        unit: replaces the one in the record.

    Example:
        >>> print(estimate({"value": 0.5, "lo": None, "unit": "nats"}))
        0.5 nats
    """
    found = mapping(value)
    plain = {name: number(found.get(name)) for name in ("value", "lo", "hi")}
    named = {} if unit is None else {"unit": unit}
    return Estimate.from_json({**found, **plain, **named})


def of_event(records: Sequence[Record], *events: str) -> list[Record]:
    """The records of an event in order; further names are those of older versions."""
    return [record for record in records if record.get("event") in events]


def step_of(record: Record) -> float:
    """Updates made when the record was written."""
    return number(record.get("step")) or 0.0


def without_undone(records: Sequence[Record]) -> list[Record]:
    """The records without those of updates that a divergence took back; decisions stay."""
    kept: list[Record] = []
    for record in records:
        if record.get("event") == "diverged":
            back = step_of(record)
            kept = [r for r in kept if step_of(r) <= back or r.get("event") == "decided"]
        kept.append(record)
    return kept


class Course:
    """Examples used and batch size at each step, from a run's records.

    Args:
        records: the journal's, in order.
        asked: the batch size asked for, where it was a number.

    Example:
        >>> course = Course([{"event": "progress", "step": 10, "batch_size": 32},
        ...                  {"event": "decided", "step": 10, "knob": "batch_size", "new": 64},
        ...                  {"event": "progress", "step": 20, "batch_size": 64}])
        >>> course.examples(10), course.examples(15), course.batch_size(15)
        (320.0, 640.0, 64.0)
    """

    def __init__(self, records: Sequence[Record], asked: float | None = None):
        known = [
            (step_of(r), size)
            for r in of_event(records, "progress", "measured")
            if (size := number(r.get("batch_size"))) and size > 0
        ]
        self._until = [step for step, _ in sorted(known)]
        self._sizes = [size for _, size in sorted(known)]
        self._asked = asked if asked and asked > 0 else None
        counts = {step_of(r): number(r.get("num_examples")) for r in records}
        self._total, before, done = [], 0.0, 0.0
        for step, size in sorted(known):
            count = counts.get(step)  # a short last batch makes it less than steps times size
            done = done + (step - before) * size if count is None else count
            before = step
            self._total.append(done)

    def batch_size(self, step: float) -> float | None:
        """Examples of the update, or None where no record says."""
        if not self._sizes:
            return self._asked
        return self._sizes[min(bisect_left(self._until, step), len(self._sizes) - 1)]

    def examples(self, step: float) -> float | None:
        """Examples used up to the step, interpolated between the records."""
        size = self.batch_size(step)
        if size is None:
            return None
        at = bisect_left(self._until, step)
        before, done = (self._until[at - 1], self._total[at - 1]) if at else (0.0, 0.0)
        if at < len(self._until) and self._until[at] > before:
            size = (self._total[at] - done) / (self._until[at] - before)
        return done + (step - before) * size


class Clock:
    """Seconds since the run began at each step, interpolated between a run's records."""

    def __init__(self, records: Sequence[Record]):
        known: dict[float, float] = {}
        for record in records:
            seconds = number(record.get("seconds"))
            if seconds is not None and record.get("event") not in ("solved", "trial"):
                known.setdefault(step_of(record), seconds)
        self._last = max(known, default=-1.0)
        known.setdefault(0.0, 0.0)
        self._steps = sorted(known)
        self._seconds = [known[step] for step in self._steps]

    def seconds(self, step: float) -> float | None:
        """Seconds at the step; None beyond the last record."""
        import numpy as np

        return None if step > self._last else float(np.interp(step, self._steps, self._seconds))
