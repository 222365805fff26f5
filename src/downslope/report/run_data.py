"""A run's folder as read: settings, records that count, results."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from downslope.errors import DataError
from downslope.report.journal import read_journal
from downslope.report.reading import Clock, Course, last, mapping, number, without_undone
from downslope.storage import read_json

FORMAT = "downslope run 1"
RESTORE = "restore it from a copy"


class RunData:
    """What a run's folder holds, also of a run under way; reading it loads no JAX.

    Args:
        folder: made by `fit` with `out`.

    Attributes:
        folder: path of the folder.
        asked: settings, from `run.json`.
        records: the journal's records that count, oldest first.
        summary: the numbers of `result.json`, or None before the run has ended.

    Raises:
        DataError: the folder is no run, or a file in it is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.asked: dict[str, Any] = _asked(self.folder)
        self.records: list[dict[str, Any]] = _records(self.folder / "journal.jsonl")
        self.summary: dict[str, Any] | None = _summary(self.folder / "result.json")

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.resolve().name

    @cached_property
    def kept(self) -> list[dict[str, Any]]:
        """The records without what a divergence took back."""
        return without_undone(self.records)  # type: ignore[return-value]

    @cached_property
    def course(self) -> Course:
        """Examples used and batch size at each step."""
        training = mapping(self.asked.get("training"))
        return Course(self.kept, number(training.get("batch_size")))

    @cached_property
    def clock(self) -> Clock:
        """Seconds at each step."""
        return Clock(self.kept)

    @property
    def is_over(self) -> bool:
        """Whether it has ended: a summary was written, and no resumption came after it."""
        events = [record.get("event") for record in self.records]
        ends = [i for i, event in enumerate(events) if event == "stopped"]
        resumed = [i for i, event in enumerate(events) if event == "resumed"]
        if ends and resumed:
            return resumed[-1] < ends[-1]
        return self.summary is not None and not resumed

    @property
    def result(self) -> dict[str, Any]:
        """The summary of a run that has ended, else empty: that of a sitting before is old."""
        return (self.summary or {}) if self.is_over else {}

    def find(self, event: str) -> dict[str, Any] | None:
        """The newest record of an event, or None."""
        return last(self.records, event)  # type: ignore[return-value]


def _asked(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.is_file():
        raise DataError("not the folder of a run", path=folder, remedy="name one made by fit --out")
    asked = read_json(path)
    if not isinstance(asked, dict) or asked.get("format") != FORMAT:
        raise DataError(f"not in the format {FORMAT!r}", path=path, remedy=RESTORE)
    digest = asked.pop("sha256", None)
    # the file is replaced as a whole, so what does not match was changed by other hands
    if digest != hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest():
        raise DataError("does not match its SHA-256", path=path, remedy=RESTORE)
    return asked


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        records = read_journal(path)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise DataError("a line is no record of a run", path=path, remedy=RESTORE) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path, remedy=RESTORE) from error
    if not all(isinstance(record, dict) for record in records):
        raise DataError("a line is no record of a run", path=path, remedy=RESTORE)
    return records


def _summary(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path, remedy=RESTORE) from error
    if not isinstance(found, dict):
        raise DataError("no summary of a run", path=path, remedy=RESTORE)
    return found
