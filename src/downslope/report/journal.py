"""The journal: measurements, decisions and checkpoints of a run, one JSON object a line.

Lines are only ever appended. Progress, reports and loggers are readers of it: a reader is a
function of one record, called when the record is written.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from downslope.errors import DataError
from downslope.estimate import as_json
from downslope.storage import capacity_errors

Record = dict[str, Any]
Reader = Callable[[Record], None]

GOES_BACK = ("resumed", "undone")  # to the step they name: later records do not count


class Journal:
    """A writer of records to a file, where there is one, and to readers.

    Args:
        path: the file, or None to keep records in memory only.
        readers: called with each record.
    """

    def __init__(self, path: Path | None, readers: Iterable[Reader] = ()):
        self._path = path
        self._readers = tuple(readers)
        self.records: list[Record] = read_journal(path) if path else []
        self._file = _open_to_append(path) if path else None

    def write(self, event: str, **values: Any) -> None:
        """Append one record; numbers that are not finite are written as null."""
        record = {"event": event, **as_json(values)}
        self.records.append(record)
        if event in GOES_BACK:
            self.records = _forget_after(self.records, record)
        if self._file:
            with capacity_errors(self._path or ""):
                self._file.write(json.dumps(record, allow_nan=False) + "\n")
                self._file.flush()
        for reader in self._readers:
            self._hand(reader, record)

    def _hand(self, reader: Reader, record: Record) -> None:
        """Hand a record to a reader; one that fails is removed, and the run goes on."""
        try:
            reader(record)
        except Exception as error:
            self._readers = tuple(each for each in self._readers if each is not reader)
            what = f"{type(reader).__name__} failed and was removed: "
            what += f"{type(error).__name__}: {error}"
            self.write("reader lost", because=what, step=record.get("step") or 0)
            warnings.warn(f"the reader {what}", RuntimeWarning, stacklevel=3)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def no_run(folder: Path) -> DataError:
    """Error for a folder that is not one of a run, naming a run that it holds."""
    held = sorted(path.parent for path in folder.glob("*/run.json"))
    remedy = f"name one that it holds, such as {held[0]}" if held else "name one made by fit --out"
    return DataError("not the folder of a run", path=folder, remedy=remedy)


def _open_to_append(path: Path) -> TextIO:
    """Open the file at the beginning of a line: a crash may have cut the last one short."""
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    file.write("" if whole else "\n")
    return file


def read_journal(path: str | Path) -> list[Record]:
    """The records of a journal, without those that the run later repeated or took back.

    Lines that were cut off by a crash are skipped.
    """
    if not Path(path).exists():
        return []
    records: list[Record] = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if not _is_record(record):
            continue
        records.append(record)
        if record.get("event") in GOES_BACK:
            records = _forget_after(records, record)
    return records


def _is_record(value: Any) -> bool:
    """True where a line holds a record: a damaged file may hold other JSON."""
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        return False
    step = value.get("step", 0)
    if isinstance(step, bool) or not isinstance(step, (int, float)):
        return False
    return value["event"] not in GOES_BACK or "step" in value


def _forget_after(records: list[Record], back: Record) -> list[Record]:
    return [r for r in records if r is back or r.get("step", 0) <= back["step"]]
