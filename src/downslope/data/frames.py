"""Data frames in memory, of any library that supports Arrow: pandas, polars, Arrow itself.

A frame is read through the Arrow PyCapsule interface (`__arrow_c_stream__`), pandas through
Arrow's own converter, and others through `__dataframe__`. No library but Arrow is imported.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from downslope.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

IN_MEMORY = Path("data frame")  # in place of the path of a table that has none
_INTERFACES = ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")


def is_frame(data: Any) -> bool:
    """True if the object is a table of columns in memory; a single column is not.

    Example:
        >>> import pyarrow as pa
        >>> is_frame(pa.table({"x": [1.0]})), is_frame([1.0]), is_frame("table.csv")
        (True, False, False)
    """
    if isinstance(data, type) or not any(hasattr(data, name) for name in _INTERFACES):
        return _is_pandas(data)
    return len(getattr(data, "shape", (0, 0))) == 2  # a stream of batches has no shape


def _is_pandas(data: Any) -> bool:
    pandas: Any = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def arrow_table(frame: Any) -> pa.Table:
    """The frame as an Arrow table that shares the frame's memory where possible.

    The index of a pandas frame is not a column. A stream of batches is read to its end, once.

    Raises:
        DataError: a column that Arrow cannot hold (objects of several types, complex
            numbers), two columns of the same name, no columns or no rows.
    """
    import pyarrow as pa

    failures = (pa.ArrowException, ValueError, TypeError, OverflowError, NotImplementedError)
    try:
        table = _converted(frame)
    except failures as error:
        refuse_duplicates([str(name) for name in getattr(frame, "columns", [])])
        raise DataError(
            f"cannot be read as an Arrow table ({_reason(error)})",
            path=IN_MEMORY,
            column=_culprit(frame, failures),
            remedy="give each column one type that Arrow knows, or leave the column out",
        ) from error
    refuse_duplicates(table.column_names)
    if not table.num_columns or not table.num_rows:
        what = "rows" if table.num_columns else "columns"
        raise DataError(f"the table has no {what}", path=IN_MEMORY, remedy="give one with data")
    return table


def _converted(frame: Any) -> pa.Table:
    import pyarrow as pa

    if _is_pandas(frame):
        return pa.Table.from_pandas(frame, preserve_index=False)
    if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
        return pa.table(frame)
    import pyarrow.interchange

    return pyarrow.interchange.from_dataframe(frame)


def _culprit(frame: Any, failures: tuple[type[Exception], ...]) -> str | None:
    """The first column that cannot be converted by itself, where columns can be picked."""
    for name in getattr(frame, "columns", []):
        with contextlib.suppress(Exception):
            one = frame[[name]]
            try:
                _converted(one)
            except failures:
                return str(name)
    return None


def refuse_duplicates(names: list[str], path: Path = IN_MEMORY) -> None:
    """Raise DataError if two columns have the same name."""
    for name, count in Counter(names).items():
        if count > 1:
            rule = f"{count} columns have this name"
            raise DataError(rule, path=path, column=name, remedy="rename them")


def _reason(error: BaseException) -> str:
    return " ".join(", ".join(str(part) for part in error.args).split())[:160]


def numeric_columns(frame: Any) -> dict[str, np.ndarray]:
    """The columns as arrays by name: [rows], or [rows, k] where a value is a list of k numbers.

    Args:
        frame: integers, floats, booleans and decimals, without missing values.

    Raises:
        DataError: a column without numbers, or a missing value.

    Example:
        >>> import pyarrow as pa
        >>> numeric_columns(pa.table({"x": [0.5, 1.5], "n": [3, 4]}))
        {'x': array([0.5, 1.5]), 'n': array([3, 4])}
    """
    table = arrow_table(frame)
    return {name: _numeric(name, table[name]) for name in table.column_names}


def _numeric(name: str, column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.types as pt

    from downslope.data.ingest.columns import is_number

    kind = column.type
    listed = pt.is_fixed_size_list(kind)
    if not is_number(kind.value_type if listed else kind):
        raise DataError(
            f"values of type {kind} are not numbers",
            path=IN_MEMORY,
            column=name,
            remedy="convert or drop it; downslope.table.fit.fit reads such columns as they are",
        )
    _refuse_missing(name, column)
    values = pa.concat_arrays(column.chunks)
    if listed:
        values = values.flatten()
        _refuse_missing(name, values, kind.list_size)
    if pt.is_decimal(values.type):
        values = values.cast(pa.float64())
    found = values.to_numpy(zero_copy_only=False)
    return found.reshape(-1, kind.list_size) if listed else found


def _refuse_missing(name: str, values: Any, size: int = 1) -> None:
    if values.null_count:
        raise DataError(
            "a value is missing",
            path=IN_MEMORY,
            column=name,
            row=1 + int(np.argmax(np.asarray(values.is_null()))) // size,
            remedy="fill it or drop the row",
        )


def path_of(table: Any) -> Path:
    """The path of a table.

    Raises:
        UsageError: neither a path nor a data frame.
    """
    try:
        return Path(table)
    except TypeError as error:
        raise UsageError(
            "a table must be a path or a data frame (pandas, polars, Arrow); got "
            + type(table).__name__
            + ("; collect() it first" if hasattr(table, "collect") else "")
        ) from error
