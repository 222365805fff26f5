"""Records of runs, one line of JSON each, so that the whole resumes after any stop."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import downslope


@dataclass(frozen=True, kw_only=True)
class Point:
    """Test loss during a run, and the seconds after which its parameters were there."""

    seconds: float
    loss: float
    step: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is kept of a run.

    Attributes:
        version: of the rival's settings, or of downslope's sources.
        points: in the order of time; the last one is of the parameters that the run returned.
        seconds: that the run took, on its clock.
        end: why it ended.
        batch_size, learning_rate: at the end.
        load: of the machine when the run ended, 1 for a busy core.
        notes: what else is worth keeping, such as the run's decisions.
    """

    workload: str
    rival: str
    seed: int
    version: str
    horizon_seconds: float
    points: list[Point]
    seconds: float
    end: str
    num_steps: int
    batch_size: int | None
    learning_rate: float | None
    load: float
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What makes it the same run as another."""
        return self.workload, self.rival, self.seed, self.version

    @property
    def final_loss(self) -> float:
        """Test loss of the parameters that the run returned."""
        return self.points[-1].loss if self.points else math.inf

    @property
    def lowest_loss(self) -> float:
        """Lowest test loss of the run."""
        return min((point.loss for point in self.points), default=math.inf)

    def reach(self, target: float) -> float:
        """Seconds after which the test loss is at most the target, infinite if it never is.

        Between two points the loss is taken to change linearly.
        """
        before: Point | None = None
        for point in self.points:
            if point.loss <= target:
                if before is None or not math.isfinite(before.loss):
                    return point.seconds
                share = (before.loss - target) / (before.loss - point.loss)
                return before.seconds + share * (point.seconds - before.seconds)
            before = point
        return math.inf

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite loss is None."""
        found = dataclasses.asdict(self)
        found["points"] = [
            [_short(p.seconds), _short(p.loss) if math.isfinite(p.loss) else None, p.step]
            for p in self.points
        ]
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Record:
        """The record that `to_json` gave."""
        points = [
            Point(seconds=seconds, loss=math.inf if loss is None else loss, step=step)
            for seconds, loss, step in found["points"]
        ]
        return cls(**{**found, "points": points})


def _short(value: float) -> float:
    return float(f"{value:.6g}")


class RecordFile:
    """Records of a file, to which each new one is appended.

    A last line that a stop cut short is ignored, and ended before the next one.
    """

    def __init__(self, path: Path):
        self.path = path
        self.records: list[Record] = []
        self._needs_newline = False
        if path.exists():
            text = path.read_text()
            self._needs_newline = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    self.records.append(Record.from_json(json.loads(line)))
                except (json.JSONDecodeError, TypeError, KeyError):
                    continue
        self._keys = {record.key for record in self.records}

    def has(self, workload: str, rival: str, seed: int, version: str) -> bool:
        """Whether that run is recorded."""
        return (workload, rival, seed, version) in self._keys

    def append(self, record: Record) -> None:
        """Keep a record, on disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            if self._needs_newline:
                file.write("\n")
                self._needs_newline = False
            file.write(json.dumps(record.to_json()) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)
        self._keys.add(record.key)


def sources_digest() -> str:
    """Digest of downslope's Python sources: another one means other runs."""
    root = Path(downslope.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:10]
