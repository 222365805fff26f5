"""The encoding of columns as numbers, as a readable record that is stored as JSON.

A row is [numbers | codes]. Numbers are standardised values, then a 0/1 indicator for
each column that had missing values in training. Codes are indices into tables (of
embeddings or weights): 0 is "not seen in training", 1 is "missing", values follow from 2 in
decreasing order of frequency; for text, 0 is "no word" and 1 + bucket is a word.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from downslope.config import Task
from downslope.data.ingest.arrow import compute as pc
from downslope.data.ingest.columns import (
    PARTS,
    Center,
    encoded_strings,
    is_string,
    raw_vectors,
    readable_as,
    strings,
)
from downslope.data.ingest.numbers import parse_numbers
from downslope.data.ingest.records import (
    FIRST_VALUE,
    HASH_BUCKETS,
    MISSING,
    UNKNOWN,
    CategoryColumn,
    CodeTable,
    Column,
    NumberColumn,
    Target,
    TextColumn,
    TimeColumn,
)
from downslope.data.ingest.transform import CodeSlots, RowTransform
from downslope.data.ingest.words import WORD_BUCKETS, hash_strings, hashed_words
from downslope.errors import DataError, MismatchError


class Unseen(NamedTuple):
    """Counts of rows, by column, with values that training did not have."""

    categories: Counter[str]
    missing: Counter[str]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The encoding of a table's columns as rows of float32, learned from its training rows.

    Attributes:
        columns: the columns in use, numbers first, then those with codes.
        target: the column to predict.
        task: "classify" or "regress".
        ignored: columns that are left out, on request or because they tell nothing.
    """

    columns: tuple[Column, ...]
    target: Target
    task: Task
    ignored: tuple[str, ...] = ()

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns in use."""
        return tuple(column.name for column in self.columns)

    @functools.cached_property
    def feature_names(self) -> tuple[str, ...]:
        """A name for each of the `num_numeric` numbers of a row."""
        values = [f"{c.name} {p}" if p else c.name for c in self.dense for p in c.parts]
        return (*values, *(f"{c.name} is missing" for c in self.dense if c.indicator))

    @property
    def dense(self) -> tuple[NumberColumn | TimeColumn, ...]:
        """The columns of numbers, dates and times."""
        return tuple(c for c in self.columns if isinstance(c, (NumberColumn, TimeColumn)))

    @property
    def _coded(self) -> tuple[CategoryColumn | TextColumn, ...]:
        return tuple(c for c in self.columns if isinstance(c, (CategoryColumn, TextColumn)))

    @property
    def num_numeric(self) -> int:
        """Numbers in a row."""
        return len(self.feature_names)

    @functools.cached_property
    def tables(self) -> tuple[CodeTable, ...]:
        """One table per column of categories or text, with its slots among the codes."""
        found, at = [], 0
        for column in self._coded:
            text = isinstance(column, TextColumn)
            slots = column.slots if text else 1
            codes = 1 + WORD_BUCKETS if text else column.num_codes
            found.append(CodeTable(column.name, codes, at, slots))
            at += slots
        return tuple(found)

    @property
    def num_codes_columns(self) -> int:
        """Codes in a row."""
        return sum(table.num_slots for table in self.tables)

    @property
    def num_features(self) -> int:
        """Numbers and codes in a row."""
        return self.num_numeric + self.num_codes_columns

    @property
    def width(self) -> int:
        """Floats in a stored row: numbers, codes, target, weight."""
        return self.num_features + 2

    @property
    def classes(self) -> tuple[Any, ...]:
        """The classes in the order of their index; empty for numbers."""
        return self.target.classes

    @property
    def string_columns(self) -> tuple[str, ...]:
        """Columns to read as strings from a file without types (CSV)."""
        return tuple(c.name for c in self._coded)

    def check_columns(self, table: Any) -> None:
        """Check that a table has the columns of training.

        Args:
            table: anything with `types`, Arrow types by column.

        Raises:
            MismatchError: columns are missing, or of a type that cannot be read as in training.
        """
        path = getattr(table, "path", "the table")
        lacking = [name for name in self.names if name not in table.types]
        if lacking:
            raise MismatchError(
                f"{path}: the model needs {_listed(lacking)}, which the table does not have; "
                "give a table with the columns of training"
            )
        wrong = [c for c in self.columns if not readable_as(table.types[c.name], c.kind)]
        if wrong:
            each = [f"{c.name!r} is {table.types[c.name]}, was {c.type}" for c in wrong[:5]]
            raise MismatchError(
                f"{path}: columns of another type than in training: {', '.join(each)}; "
                "convert them first"
            )

    def encode(self, batch: pa.RecordBatch, first_row: int = 1) -> tuple[np.ndarray, Unseen]:
        """Rows as in training, without target and weight, in the order of the batch.

        Args:
            batch: holds at least the columns in `names`, n rows.
            first_row: the number of its first row in the table, for messages.

        Returns:
            rows, float32 [n, num_features], and the counts of what training did not have.

        Raises:
            DataError: an infinite value; the message names the column and the row.
        """
        n, unseen = batch.num_rows, Unseen(Counter(), Counter())
        numbers, codes = [], []
        for column in self.columns:
            array = batch.column(column.name)
            if isinstance(column, (NumberColumn, TimeColumn)):
                array = _as_numbers(array, column.name) if is_string(array.type) else array
                center = Center(column.center, column.exponent)
                vectors = raw_vectors(column, array, center, first_row)
                parts = zip(PARTS[column.kind], vectors, strict=True)
                numbers += [values for part, values in parts if part in column.parts]
                if not column.indicator:
                    unseen.missing[column.name] += int(np.isnan(numbers[-1]).sum())
            elif isinstance(column, CategoryColumn):
                codes.append(self._lookups[column.name](array))
                unseen.categories[column.name] += int((codes[-1] == UNKNOWN).sum())
            else:
                codes += list(hashed_words(strings(array), column.slots)[0].T)
        raw = np.empty((n, len(numbers) + len(codes)), np.float32)
        for j, values in enumerate((*numbers, *codes)):
            raw[:, j] = values
        rows = np.empty((n, self.num_features), np.float32)
        self._transform(raw, rows)
        return rows, Unseen(+unseen.categories, +unseen.missing)

    @functools.cached_property
    def _lookups(self) -> dict[str, Lookup]:
        return {c.name: Lookup(c) for c in self.columns if isinstance(c, CategoryColumn)}

    @functools.cached_property
    def _transform(self) -> RowTransform:
        numeric = sum(len(c.parts) for c in self.dense)
        codes = CodeSlots(start=numeric, count=self.num_codes_columns)
        return row_transform(self.dense, np.arange(numeric), (codes,))

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values, from which `from_json` makes an equal encoding."""
        columns = [{"kind": c.kind, **dataclasses.asdict(c)} for c in self.columns]
        return {
            "task": self.task,
            "target": dataclasses.asdict(self.target),
            "columns": columns,
            "ignored": list(self.ignored),
        }

    @staticmethod
    def from_json(record: dict[str, Any]) -> Encoding:
        """The encoding that `to_json` wrote.

        Raises:
            DataError: not a record that `to_json` wrote.
        """
        try:
            target = dict(record["target"])
            target["classes"] = tuple(target["classes"])
            return Encoding(
                columns=tuple(_column_from_json(c) for c in record["columns"]),
                target=Target(**target),
                task=record["task"],
                ignored=tuple(record["ignored"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a valid encoding ({error!r})") from error


def _as_numbers(array: pa.Array, column: str) -> pa.Array:
    parsed = parse_numbers(array)
    if parsed.num_unmarked > parsed.num_numbers:
        raise DataError(
            f"cells such as {next(iter(parsed.odd))[:20]!r} where training had numbers",
            column=column,
            remedy="mend them, or leave them empty",
        )
    return parsed.values


def _column_from_json(record: dict[str, Any]) -> Column:
    makers: dict[str, Any] = dict.fromkeys(PARTS, TimeColumn)
    makers |= {"number": NumberColumn, "category": CategoryColumn, "text": TextColumn}
    maker = makers[record["kind"]]
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
    }
    if maker is not TimeColumn:  # the kind of the others is that of their class
        del values["kind"]
    return maker(**values)


def _listed(names: list[str], limit: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"column{'s' if len(names) > 1 else ''} {shown}{more}"


def row_transform(
    columns: tuple[NumberColumn | TimeColumn, ...],
    numeric: np.ndarray,
    codes: tuple[CodeSlots, ...],
) -> RowTransform:
    """The second stage for these columns, whose parts are at the raw indices `numeric`."""
    offset, scale, first = [], [], []
    for column in columns:
        first.append(len(offset))
        for part in column.parts:
            standardised = part in ("", "elapsed")
            offset.append(column.mean if standardised else 0.0)
            scale.append(column.scale if standardised else 1.0)
    marked = [at for at, column in zip(first, columns, strict=True) if column.indicator]
    return RowTransform(
        numeric=np.asarray(numeric, np.intp),
        offset=np.array(offset, np.float32),
        inverse_scale=(1 / np.array(scale, np.float64)).astype(np.float32),
        indicators=np.asarray(numeric, np.intp)[marked],
        codes=codes,
    )


class Lookup:
    """The code of each value of a column of categories with a fixed vocabulary."""

    def __init__(self, column: CategoryColumn):
        self._values = pa.array(column.values, pa.large_string())
        self._hashed = column.hashed

    def __call__(self, array: pa.Array) -> np.ndarray:
        """Codes as float32 [n]."""
        if pa.types.is_null(array.type):
            return np.full(len(array), MISSING, np.float32)
        words, indices = encoded_strings(array)
        found = pc.index_in(words, value_set=self._values)
        codes = np.asarray(pc.fill_null(found, -FIRST_VALUE)).astype(np.int64) + FIRST_VALUE
        if self._hashed:
            rare = codes == UNKNOWN
            base = FIRST_VALUE + len(self._values)
            codes[rare] = base + hash_strings(words, HASH_BUCKETS)[rare]
        return np.append(codes, MISSING)[indices].astype(np.float32)
