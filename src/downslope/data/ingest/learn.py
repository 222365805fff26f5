"""Learning of columns: one pass that learns each encoding while it writes raw values.

There is a learner per column. `read` gets each batch once, with the order in which to write its
rows: the rows for training first, held-out rows after them. It writes raw vectors and learns from
the rows for training alone. `result` is the learned encoding.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from downslope.data.ingest.arrow import compute as pc
from downslope.data.ingest.columns import (
    PARTS,
    Center,
    Kind,
    canonical_time,
    center_of,
    encoded_strings,
    in_use,
    is_string,
    raw_vectors,
    readable_as,
    strings,
    ticks,
)
from downslope.data.ingest.moments import Moments
from downslope.data.ingest.numbers import described, parse_numbers
from downslope.data.ingest.records import (
    FIRST_VALUE,
    HASH_BUCKETS,
    MISSING,
    UNKNOWN,
    CategoryColumn,
    Column,
    NumberColumn,
    TextColumn,
    TimeColumn,
)
from downslope.data.ingest.transform import CodeSlots
from downslope.data.ingest.words import hash_strings, hashed_words
from downslope.errors import DataError

MAX_VALUES = 1 << 16  # categories with codes of their own; further ones share hash buckets
MAX_WORDS = 64  # words of a text that are kept


class Placement(NamedTuple):
    """The places of a batch's rows: `order` lists them, the first `num_train` for training."""

    order: np.ndarray
    num_train: int
    first_row: int


class LearnedColumn(NamedTuple):
    """The encoding of a column, and which of its raw vectors are kept."""

    column: Column
    kept: list[int]
    codes: CodeSlots | None = None


class Learner(Protocol):
    """The state of one column while the table is read."""

    name: str
    num_raw: int
    coded: bool

    def read(self, array: pa.Array, place: Placement, out: np.ndarray) -> None:
        """Write the raw vectors, float32 [num_raw, len(order)], and learn."""
        ...

    def result(self, first_raw: int, notes: list[str]) -> LearnedColumn | None:
        """The column, with raw vectors from `first_raw` on; None if it is left out."""
        ...


def learner_for(name: str, kind: Kind, dtype: pa.DataType) -> Learner:
    """The learner of a column to be read as `kind`."""
    if kind == "category":
        return CategoryLearner(name, dtype)
    if kind == "text":
        return TextLearner(name, dtype)
    return NumericLearner(name, dtype, kind)


def put(values: np.ndarray, place: Placement, out: np.ndarray) -> None:
    """Write the values in their new order."""
    np.take(values, place.order, out=out, mode="clip")  # clip: without it NumPy buffers `out`


def _check_type(name: str, array: pa.Array, kind: Kind, place: Placement) -> None:
    if not readable_as(array.type, kind):
        raise DataError(
            f"a {kind} so far, from here on {array.type}",
            column=name,
            row=place.first_row,
            remedy="give all files the same types",
        )


def _left_out(name: str, why: str, notes: list[str]) -> None:  # for callers that return None
    notes.append(f"column {name!r} {why} and was left out")


@dataclass
class NumericLearner:
    """Numbers, booleans and decimals; dates and times as elapsed time and phases."""

    name: str
    dtype: pa.DataType
    kind: Kind
    coded: bool = False
    center: Center | None = None
    odd: Counter[str] = field(default_factory=Counter)  # cells of strings that are no numbers
    num_rows: int = 0
    missing_train: int = 0
    missing_held_out: int = 0

    def __post_init__(self) -> None:
        is_number = self.kind == "number"
        self.unit, self.zone = ("", None) if is_number else canonical_time(self.dtype)
        self.num_raw = len(PARTS[self.kind])
        self.moments = [Moments() for _ in PARTS[self.kind]]

    def read(self, array: pa.Array, place: Placement, out: np.ndarray) -> None:
        _check_type(self.name, array, self.kind, place)
        self.num_rows += len(array)
        if is_string(array.type):
            array, odd = parse_numbers(array)
            self.odd.update(odd)
        # The center comes from the first batch that has values. A share p of the rows lies near
        # it, so rounding costs at most 2**-24 / sqrt(p) standard deviations.
        if self.center is None:
            is_number = self.kind == "number"
            self.center = center_of(array if is_number else ticks(array, self.kind, self.unit))
        vectors = raw_vectors(self, array, self.center or Center(), place.first_row)
        for i, (values, ordered, moments) in enumerate(
            zip(vectors, out, self.moments, strict=True)
        ):
            put(values, place, ordered)
            missing = moments.add(ordered[: place.num_train])
            if i == 0:
                self.missing_train += missing
                self.missing_held_out += int(np.isnan(ordered[place.num_train :]).sum())

    def result(self, first_raw: int, notes: list[str]) -> LearnedColumn | None:
        moments = self.moments[0]
        if self.odd:
            notes.append(described(self.odd, self.num_rows, self.name))
        if self.center is None or not moments.count:
            return _left_out(self.name, "has no value in the training rows", notes)
        if moments.constant:
            return _left_out(self.name, "is constant", notes)
        if self.missing_held_out and not self.missing_train:
            notes.append(
                f"column {self.name!r} has missing values in {self.missing_held_out:,} held-out "
                "rows only; its mean is used there"
            )
        record: dict[str, Any] = {
            "name": self.name,
            "type": str(self.dtype),
            "center": self.center.value,
            "exponent": self.center.exponent,
            "mean": moments.mean,
            "scale": moments.scale,
            "indicator": self.missing_train > 0,
        }
        if self.kind == "number":
            return LearnedColumn(NumberColumn(**record), [first_raw])
        kept = [i for i, each in enumerate(self.moments) if not each.constant]
        parts = tuple(PARTS[self.kind][i] for i in kept)
        column = TimeColumn(kind=self.kind, unit=self.unit, zone=self.zone, parts=parts, **record)
        return LearnedColumn(column, [first_raw + i for i in kept])


class Vocabulary:
    """Distinct values in order of first occurrence, up to a limit."""

    def __init__(self, dtype: pa.DataType, limit: int):
        self.values = pa.nulls(0, dtype)
        self.limit = limit
        self.full = False  # whether a value was refused

    def ids(self, values: pa.Array) -> np.ndarray:
        """The id of each of these non-null values, adding new ones; -1 past the limit."""
        found = pc.index_in(values, value_set=self.values)
        if found.null_count:
            new = pc.unique(values.filter(found.is_null()))
            room = self.limit - len(self.values)
            self.full |= len(new) > room
            self.values = pa.concat_arrays([self.values, new.slice(0, room)])
            found = pc.index_in(values, value_set=self.values)
        return np.asarray(pc.fill_null(found, -1)).astype(np.int64)


@dataclass
class CategoryLearner:
    """Strings, dictionaries and columns named as categorical.

    Raw codes: MISSING; FIRST_VALUE + id, in order of first occurrence (in held-out rows too, since
    the value may still come in training); then the hash buckets.
    """

    name: str
    dtype: pa.DataType
    num_raw: int = 1
    coded: bool = True

    def __post_init__(self) -> None:
        self.vocabulary = Vocabulary(pa.large_string(), MAX_VALUES)
        self.counts = np.zeros(FIRST_VALUE, np.int64)  # training rows by raw code; grows

    def read(self, array: pa.Array, place: Placement, out: np.ndarray) -> None:
        _check_type(self.name, array, "category", place)
        if pa.types.is_null(array.type):
            codes = np.full(len(array), MISSING, np.int64)
        else:
            codes = self._codes(*encoded_strings(array))
        put(codes.astype(np.float32), place, out[0])
        seen = codes[place.order[: place.num_train]]
        counts = np.bincount(seen, minlength=len(self.counts))
        counts[: len(self.counts)] += self.counts
        self.counts = counts

    def _codes(self, words: pa.Array, indices: np.ndarray) -> np.ndarray:
        used = in_use(words, indices)
        codes = np.full(len(words) + 1, MISSING, np.int64)
        chosen = words.filter(pa.array(used))
        ids = self.vocabulary.ids(chosen)
        found = ids + FIRST_VALUE
        if self.vocabulary.full and (ids < 0).any():
            base = FIRST_VALUE + MAX_VALUES
            found = np.where(ids < 0, base + hash_strings(chosen, HASH_BUCKETS), found)
        codes[:-1][used] = found
        return codes[indices]

    def result(self, first_raw: int, notes: list[str]) -> LearnedColumn | None:
        size = len(self.vocabulary.values)
        self.counts = np.append(self.counts, np.zeros(FIRST_VALUE + size, np.int64))
        counts = self.counts[FIRST_VALUE : FIRST_VALUE + size]
        hashed = bool(self.counts[FIRST_VALUE + MAX_VALUES :].any())
        if not counts.any():
            return _left_out(self.name, "has no value in the training rows", notes)
        if np.count_nonzero(counts) == 1 and not self.counts[MISSING] and not hashed:
            return _left_out(self.name, "is constant", notes)
        order = pc.sort_indices(
            pa.table({"count": counts, "value": self.vocabulary.values}),
            [("count", "descending"), ("value", "ascending")],
        ).to_numpy()[: np.count_nonzero(counts)]
        if hashed:
            notes.append(
                f"column {self.name!r} has more than {MAX_VALUES:,} categories; later ones share "
                f"{HASH_BUCKETS:,} hashed codes"
            )
        column = CategoryColumn(
            name=self.name,
            type=str(self.dtype),
            hashed=hashed,
            values=tuple(self.vocabulary.values.take(pa.array(order)).to_pylist()),
        )
        renumber = self._renumber(order, hashed)
        return LearnedColumn(column, [], CodeSlots(start=first_raw, count=1, renumber=renumber))

    def _renumber(self, order: np.ndarray, hashed: bool) -> np.ndarray:
        """The final code of each raw code; values with ids `order` come first."""
        values = self.vocabulary.values
        size = FIRST_VALUE + (MAX_VALUES + HASH_BUCKETS if self.vocabulary.full else len(values))
        renumber = np.full(size, UNKNOWN, np.float32)
        if hashed:
            # Values of held-out rows alone are hashed too, as in predicting.
            base = FIRST_VALUE + len(order)
            renumber[FIRST_VALUE : FIRST_VALUE + len(values)] = base + hash_strings(
                values, HASH_BUCKETS
            )
            renumber[FIRST_VALUE + MAX_VALUES :] = base + np.arange(HASH_BUCKETS)
        renumber[MISSING] = MISSING
        renumber[FIRST_VALUE + order] = FIRST_VALUE + np.arange(len(order))
        return renumber


@dataclass
class TextLearner:
    """Text as hashed words."""

    name: str
    dtype: pa.DataType
    num_raw: int = MAX_WORDS
    coded: bool = True
    longest: int = 0
    truncated: int = 0

    def read(self, array: pa.Array, place: Placement, out: np.ndarray) -> None:
        _check_type(self.name, array, "text", place)
        codes, counts = hashed_words(strings(array), MAX_WORDS)
        out[:] = codes[place.order].T
        seen = counts[place.order[: place.num_train]]
        self.longest = max(self.longest, int(seen.max(initial=0)))
        self.truncated += int((seen > MAX_WORDS).sum())

    def result(self, first_raw: int, notes: list[str]) -> LearnedColumn | None:
        if not self.longest:
            return _left_out(self.name, "has no words in the training rows", notes)
        slots = min(self.longest, MAX_WORDS)
        if self.truncated:
            notes.append(
                f"column {self.name!r}: {self.truncated:,} texts are longer than {MAX_WORDS} "
                "words and were cut"
            )
        column = TextColumn(name=self.name, type=str(self.dtype), slots=slots)
        return LearnedColumn(column, [], CodeSlots(start=first_raw, count=slots))


def looks_like_text(array: pa.Array) -> bool:
    """True if strings are sentences: three words on average, and mostly distinct."""
    array = strings(array).drop_null()
    if not len(array):
        return False
    words = hashed_words(array, 1)[1]
    return bool(words.mean() >= 3 and pc.count_distinct(array).as_py() > len(array) / 2)


def describe(value: Any) -> str:
    """A value as shown in a message."""
    return repr(value) if isinstance(value, str) else str(value)
