"""A converted table: rows of float32 on disk, and the encoding that made them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from downslope.data.ingest.buckets import read_all
from downslope.data.ingest.encoding import Encoding
from downslope.errors import DataError
from downslope.storage import UNHASHED, read_json, verify
from downslope.tree import aligned_empty

FORMAT = "downslope table 1"
TRAIN, HELD_OUT = f"train{UNHASHED}", f"held_out{UNHASHED}"
ENCODING, TABLE = "encoding.json", "table.json"


class TableBatch(NamedTuple):
    """Rows as a model sees them; leading axes are those of the rows.

    Attributes:
        x: float32 [..., num_numeric].
        codes: int32 [..., num_codes_columns].
        y: float32 [...]: class index or standardised number.
        weight: float32 [...]: mean 1 over the training rows.
    """

    x: Any
    codes: Any
    y: Any
    weight: Any


class RowFile:
    """A Source over a file of contiguous float32 rows.

    The fingerprint is that of the conversion (table, options, format) and of the part: the
    same conversion gives the same rows.
    """

    def __init__(self, path: Path, encoding: Encoding, fingerprint: str, shuffled: bool):
        self.path = path
        self.shuffled = shuffled
        self.fingerprint = hashlib.sha256(f"{fingerprint} {path.name}".encode()).hexdigest()
        self.row_bytes = 4 * encoding.width
        self._width = encoding.width
        self._numbers, self._codes = encoding.num_numeric, encoding.num_codes_columns
        self._fd = os.open(path, os.O_RDONLY)
        self.num_rows = os.fstat(self._fd).st_size // self.row_bytes

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Rows `start` to `stop`, float32 [stop - start, width].

        Args:
            start: first row, from 0.
            stop: one past the last row, at most `num_rows`.
            out: C-contiguous float32 of that shape, to be filled and returned.

        Raises:
            ValueError: the range lies outside the file, or the file is closed.
        """
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed")
        if not 0 <= start <= stop <= self.num_rows:
            raise ValueError(f"rows {start} to {stop} of {self.num_rows}")
        if out is None:
            out = aligned_empty((stop - start, self._width), np.float32)
        elif out.shape != (stop - start, self._width) or out.dtype != np.float32:
            raise ValueError(f"out has shape {out.shape} and type {out.dtype}")
        try:
            view = out.reshape(-1, copy=False).view(np.uint8).data
            read_all(self._fd, view, start * self.row_bytes)
        except EOFError as error:
            raise DataError(
                "the file became shorter while it was read",
                path=self.path,
                remedy="convert the table again",
            ) from error
        return out

    def expect(self, start: int, stop: int) -> None:
        """Ask the kernel, where it can be asked, to read these rows ahead."""
        if hasattr(os, "posix_fadvise"):
            size = (stop - start) * self.row_bytes
            os.posix_fadvise(self._fd, start * self.row_bytes, size, os.POSIX_FADV_WILLNEED)

    def unpack(self, rows: Any) -> TableBatch:
        """The parts of rows [..., width]; slices and one cast, so JAX may trace it."""
        codes = self._numbers + self._codes
        return TableBatch(
            x=rows[..., : self._numbers],
            codes=rows[..., self._numbers : codes].astype("int32"),
            y=rows[..., codes],
            weight=rows[..., codes + 1],
        )

    def close(self) -> None:
        """Close the file; reading afterwards raises ValueError."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class StoredTable:
    """A converted table, open for reading.

    Attributes:
        folder: its files.
        encoding: how columns became numbers.
        train: rows for training, in random order.
        held_out: rows for validation in the order of the table, or None.
        notes: what was left out or changed while converting, one sentence each.
        fingerprint: sha256 over the table, the options and the format.
    """

    def __init__(self, folder: Path, encoding: Encoding, record: dict[str, Any]):
        self.folder, self.encoding = folder, encoding
        self.notes: tuple[str, ...] = tuple(record["notes"])
        self.fingerprint: str = record["fingerprint"]
        self.num_train: int = record["num_train"]
        self.num_held_out: int = record["num_held_out"]
        self.train = RowFile(folder / TRAIN, encoding, self.fingerprint, shuffled=True)
        self.held_out = None
        if self.num_held_out:
            self.held_out = RowFile(folder / HELD_OUT, encoding, self.fingerprint, shuffled=False)

    @staticmethod
    def open(folder: str | os.PathLike[str]) -> StoredTable:
        """The converted table in `folder`, after comparing its files with its manifest.

        Raises:
            DataError: a file is missing, of another size or changed.
        """
        folder = Path(folder)
        verify(folder)
        encoding = Encoding.from_json(read_json(folder / ENCODING))
        record = read_json(folder / TABLE)
        try:
            return StoredTable(folder, encoding, record)
        except (KeyError, TypeError) as error:
            raise DataError(f"lacks {error}", path=folder / TABLE) from error

    def close(self) -> None:
        """Close its files."""
        self.train.close()
        if self.held_out is not None:
            self.held_out.close()
