"""From sources to blocks of rows, with NumPy and Arrow only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from downslope.errors import UsageError

if TYPE_CHECKING:
    from downslope.config import TableOptions
    from downslope.data.arrays import Arrays
    from downslope.data.stored import StoredTable


def open(
    path: str | os.PathLike[str] | Any, options: TableOptions | None = None
) -> Arrays | StoredTable:
    """Rows for `downslope.fit`, from a file, a folder of files or a data frame.

    Without `options`, a `.npy` file is a memory map whose batches are arrays [B, ...], and
    a `.npz` file or a data frame gives batches that are dicts of its arrays or columns.

    With `options`, any table (Parquet, Arrow IPC, CSV, `.npy`, `.npz`, or a pandas, polars or
    Arrow table in memory) is converted once into shuffled rows of float32, kept in a cache
    folder. Its `.train` and `.held_out` are sources whose batches are `(x [B, n],
    codes [B, c], y [B], weight [B])`; `.encoding` describes how columns become numbers, `.notes`
    what was left out.

    Args:
        path: a path, or a data frame.
        options: target column and how to read the others; see `downslope.TableOptions`.

    Raises:
        DataError: a table that is missing, corrupt or unusable, with the place and the remedy.
        UsageError: a table file without options, or neither a path nor a data frame.

    Example:
        >>> import numpy as np, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "points.npy")
        >>> np.save(path, np.zeros((100, 3), "float32"))
        >>> open(path).num_rows
        100
    """
    from downslope.data.arrays import Arrays, open_array_file
    from downslope.data.frames import is_frame, path_of

    if options is None and is_frame(path):
        return Arrays(path)
    if options is None:
        path = path_of(path)
        if path.suffix not in (".npy", ".npz"):
            raise UsageError(
                f"{path}: a table needs options=downslope.TableOptions(target=...); "
                "only .npy and .npz files can be read as they are"
            )
        return open_array_file(path)

    from downslope.data.ingest.cache import cached
    from downslope.data.ingest.tabular import open_table

    return cached(open_table(path, (*options.categorical, *options.text)), options)
