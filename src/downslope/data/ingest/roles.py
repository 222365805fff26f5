"""Roles of columns: those that were named, checked; the others from type and values."""

from __future__ import annotations

import pyarrow as pa

from downslope.arguments import nearest
from downslope.config import TableOptions
from downslope.data.ingest.columns import Kind, natural_kind, readable_as
from downslope.data.ingest.learn import looks_like_text
from downslope.data.ingest.numbers import looks_like_numbers
from downslope.data.ingest.tabular import Table
from downslope.errors import DataError, UsageError


def check_names(table: Table, options: TableOptions) -> None:
    """Check that the options name each column once, and only columns of the table.

    Raises:
        UsageError: no target, or a column in two roles.
        DataError: no such column.
    """
    if options.target is None:
        raise UsageError(f"name the column to predict: --target, one of {_some(table.names)}")
    roles: dict[str, tuple[str, ...]] = {"target": (options.target,)}
    for role in ("weight", "group"):
        roles[role] = (getattr(options, role),) if getattr(options, role) else ()
    roles |= {
        role: tuple(getattr(options, role)) for role in ("number", "categorical", "text", "ignore")
    }
    seen: dict[str, str] = {}
    for role, names in roles.items():
        for name in names:
            if name not in table.types:
                raise _unknown(table, name, role)
            if seen.setdefault(name, role) != role:
                raise UsageError(f"column {name!r} is named as {seen[name]} and as {role}")
    if options.time_column is not None and options.time_column not in table.types:
        raise _unknown(table, options.time_column, "time_column")


def _unknown(table: Table, name: str, role: str) -> DataError:
    near = nearest(name, table.names)
    hint = f"did you mean {near!r}?" if near else f"it has {_some(table.names)}"
    return DataError(f"no such column (named as {role})", path=table.path, column=name, remedy=hint)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown}, ... ({len(names)} columns)" if len(names) > 8 else shown


def column_kind(name: str, dtype: pa.DataType, values: pa.Array, options: TableOptions) -> Kind:
    """The kind as which to read a column, from the options or from its type and first values.

    Raises:
        DataError: the column cannot be read as that kind.
    """
    kind: Kind | None = natural_kind(dtype)
    if name in options.number:
        kind = "number"
    elif name in options.categorical or name in options.text:
        kind = "text" if name in options.text else "category"
    elif kind == "category" and not pa.types.is_dictionary(dtype):
        if looks_like_numbers(values):
            kind = "number"
        elif looks_like_text(values):
            kind = "text"
    if kind is None or not readable_as(dtype, kind):
        raise DataError(
            f"values of type {dtype} cannot be read" + (f" as {kind}" if kind else ""),
            column=name,
            remedy=f"--ignore {name}, or convert it",
        )
    return kind
