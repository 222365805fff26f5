"""Windows of a buffer: the rows that the device takes at once.

A window is a range of rows inside a buffer. One window is one update, or, when the
gradient is accumulated, one part of an update; `ends` marks the part that completes it.
The device reads `step_rows` rows from `starts` on, and counts only those from `lows` to
`highs`: a short last batch is padded with rows of zero weight.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Windows(NamedTuple):
    """Windows of one buffer; every array has the same fixed length M.

    `starts`, `lows` and `highs` are int32 row numbers inside the buffer, `offsets` are those of
    `lows` inside the update, `ends` is bool, and windows `first` to `first + count` are to run.
    """

    starts: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    first: int
    count: int

    @property
    def sizes(self) -> np.ndarray:
        """Rows counted in each window, int32 [M]."""
        return self.highs - self.lows

    def after(self, row: int) -> Windows:
        """The windows without those that end at or before `row` of the buffer."""
        done = int(np.searchsorted(self.highs[: self.count], row, side="right"))
        return self._replace(first=done, count=self.count - done)


def capacity(buffer_rows: int, batch_rows: int, step_rows: int) -> int:
    """Upper bound on the number of windows in a buffer, for arrays of a fixed length."""
    if batch_rows == step_rows:
        return -(-buffer_rows // step_rows)
    return buffer_rows // step_rows + buffer_rows // batch_rows + 3


def split_buffer(
    first_row: int, length: int, num_rows: int, *, batch_rows: int, step_rows: int, buffer_rows: int
) -> Windows:
    """The windows of a buffer that begins at position `first_row` of an epoch of `num_rows`.

    Batches begin at multiples of `batch_rows` from the beginning of the epoch, whatever the size
    of buffers and windows.
    """
    stop = first_row + length
    batches = np.arange(first_row // batch_rows, -(-stop // batch_rows)) * batch_rows
    # a batch may be as long as the table: only its parts inside this buffer are listed
    parts = np.arange(
        max(0, first_row - batches[-1]) // step_rows * step_rows,
        min(batch_rows, stop - batches[0]),
        step_rows,
    )
    begins = batches[:, None] + parts
    ends_at = np.minimum(np.minimum(begins + step_rows, batches[:, None] + batch_rows), stop)
    begins = np.maximum(begins, first_row)
    keep = begins < ends_at
    begins, ends_at = begins[keep], ends_at[keep]
    size = capacity(buffer_rows, batch_rows, step_rows)
    return Windows(
        starts=_fixed(np.clip(begins - first_row, 0, buffer_rows - step_rows), size, np.int32),
        lows=_fixed(begins - first_row, size, np.int32),
        highs=_fixed(ends_at - first_row, size, np.int32),
        offsets=_fixed(begins % batch_rows, size, np.int32),
        ends=_fixed((ends_at % batch_rows == 0) | (ends_at == num_rows), size, np.bool_),
        first=0,
        count=len(begins),
    )


def _fixed(values: np.ndarray, size: int, dtype: type) -> np.ndarray:
    out = np.zeros(size, dtype)
    out[: len(values)] = values
    return out
