"""Converted tables kept between runs, by a hash of what decides their rows."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from downslope.config import TableOptions
from downslope.data.ingest.convert import convert, fingerprint
from downslope.data.ingest.tabular import Table
from downslope.data.stored import StoredTable
from downslope.errors import CapacityError, DataError
from downslope.storage import remove_stale


def cache_folder() -> Path:
    """Where converted tables are kept: $DOWNSLOPE_CACHE, or the platform's cache folder."""
    chosen = os.environ.get("DOWNSLOPE_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "downslope"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "downslope"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "downslope"


def cached(table: Table, options: TableOptions) -> StoredTable:
    """The table as converted before with the same options, or converted now.

    A conversion is found again by the path, size and time of change of the table's files.
    One that does not agree with its manifest is made again, and a note says so.

    Raises:
        DataError: the table cannot be used.
        CapacityError: the disk is full.
    """
    folder = cache_folder() / "tables" / fingerprint(table, options)
    note = None
    if folder.exists():
        try:
            return StoredTable.open(folder)
        except DataError as error:
            note = f"the converted table in the cache was damaged and made again ({error})"
            _discard(folder)
    try:
        stored = convert(table, options, folder)
    except CapacityError as error:
        if not isinstance(error.__cause__, OSError):  # memory, not the disk
            raise
        raise CapacityError(f"{error} (DOWNSLOPE_CACHE names it)") from error
    except (DataError, OSError):
        # Another process may have finished the same conversion first.
        if not folder.exists():
            raise
        stored = StoredTable.open(folder)
    if note:
        stored.notes = (*stored.notes, note)
    return stored


def _discard(folder: Path) -> None:
    """Takes the folder out of sight in one step, then removes it."""
    remove_stale(folder.parent)
    aside = Path(tempfile.mkdtemp(prefix=f".tmp-{os.getpid()}-", dir=folder.parent))
    os.rename(folder, aside / folder.name)
    shutil.rmtree(aside, ignore_errors=True)
