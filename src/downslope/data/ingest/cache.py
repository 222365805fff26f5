"""A cache of converted tables, keyed by a hash of everything that decides their rows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from downslope.config import TableOptions
from downslope.data.ingest.convert import convert, fingerprint
from downslope.data.ingest.tabular import Table
from downslope.data.stored import StoredTable
from downslope.errors import CapacityError, DataError


def cache_folder() -> Path:
    """The folder of converted tables: $DOWNSLOPE_CACHE, or the platform's cache folder."""
    chosen = os.environ.get("DOWNSLOPE_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "downslope"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "downslope"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "downslope"


def cached(table: Table, options: TableOptions) -> StoredTable:
    """The converted table from the cache, converting it first where it is not there.

    A conversion is found again by the options and by the path, size and modification time of
    the table's files. One that cannot be read is converted again, and a note says so.

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
            why = f"damaged, or from another version of downslope ({error})"
            note = f"the table was converted again: the one in the cache is {why}"
    try:
        stored = convert(table, options, folder, replace=note is not None)
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
