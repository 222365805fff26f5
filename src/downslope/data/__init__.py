"""Source to blocks: everything about rows, with NumPy and Arrow only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from downslope.errors import UsageError

if TYPE_CHECKING:
    from downslope.config import TableOptions
    from downslope.data.arrays import Arrays
    from downslope.data.stored import StoredTable


def open(path: str | os.PathLike[str], options: TableOptions | None = None) -> Arrays | StoredTable:
    """Rows for `downslope.fit`, from a file or a folder of files.

    Without `options`, a `.npy` file is a memory map whose batches are arrays [B, ...], and
    a `.npz` file gives batches that are dicts of its arrays.

    With `options`, any table (Parquet, Arrow IPC, CSV, `.npy`, `.npz`) is converted once into
    shuffled rows of float32, kept in a cache folder. Its `.train` and `.held_out` are sources
    whose batches are `(x [B, n], codes [B, c], y [B], weight [B])`; `.encoding` says how
    columns became numbers, `.notes` what was left out.

    Args:
        path: the table.
        options: target column and how to read the others; see `downslope.TableOptions`.

    Raises:
        DataError: the table is missing, corrupt or unusable, with the place and the remedy.
        UsageError: a table without options.

    Example:
        >>> import numpy as np, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "points.npy")
        >>> np.save(path, np.zeros((100, 3), "float32"))
        >>> open(path).num_rows
        100
    """
    from downslope.data.arrays import open_array_file

    if options is None:
        if Path(path).suffix not in (".npy", ".npz"):
            raise UsageError(
                f"{path}: a table needs options=downslope.TableOptions(target=...); "
                "only .npy and .npz files can be read as they are"
            )
        return open_array_file(Path(path))

    from downslope.data.ingest.cache import cached
    from downslope.data.ingest.tabular import open_table

    return cached(open_table(path, (*options.categorical, *options.text)), options)
