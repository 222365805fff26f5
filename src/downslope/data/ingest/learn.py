"""One pass over a column: what it holds is learned while its raw values are written.

A learner per column. `read` gets each batch once, with the order in which its rows are to be
written: the rows for training first, the rows held out after them. It writes raw vectors
and learns from the first part alone. `finished` says what the column became.
"""

from __future__ import annotations

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
    centered,
    encoded_strings,
    readable_as,
    ticks,
)
from downslope.data.ingest.encoding import strings_of, time_vectors
from downslope.data.ingest.finish import CodeSlots
from downslope.data.ingest.moments import Moments
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
from downslope.data.ingest.words import hash_strings, hashed_words
from downslope.errors import DataError

MAX_VALUES = 1 << 16  # categories told apart; values beyond share hash buckets
MAX_WORDS = 64  # words of a text that are kept


class Placement(NamedTuple):
    """Where the rows of a batch go: `order` lists them, the first `num_train` for training."""

    order: np.ndarray
    num_train: int
    first_row: int


class Finished(NamedTuple):
    """What a column became, and which of its raw vectors are kept."""

    column: Column
    kept: list[int]
    codes: CodeSlots | None = None


class Learner(Protocol):
    """A column while it is read."""

    name: str
    num_raw: int
    coded: bool

    def read(self, array: pa.Array, place: Placement, out: np.ndarray) -> None:
        """Writes the raw vectors, float32 [num_raw, len(order)], and learns."""
        ...

    def finished(self, first_raw: int, notes: list[str]) -> Finished | None:
        """The column, whose raw vectors begin at `first_raw`; None if it is left out."""
        ...


def learner_for(name: str, kind: Kind, dtype: pa.DataType) -> Learner:
    """The learner of a column that is to be read as `kind`."""
    if kind == "number":
        return NumberLearner(name, dtype)
    if kind == "category":
        return CategoryLearner(name, dtype)
    if kind == "text":
        return TextLearner(name, dtype)
    return TimeLearner(name, dtype, kind)


def put(values: np.ndarray, place: Placement, out: np.ndarray) -> None:
    """Writes the values in their new order."""
    np.take(values, place.order, out=out, mode="clip")  # clip: without it NumPy buffers `out`


def _check_type(name: str, array: pa.Array, kind: Kind, place: Placement) -> None:
    if not readable_as(array.type, kind):
        raise DataError(
            f"a {kind} so far, from here on {array.type}",
            column=name,
            row=place.first_row,
            remedy="give all files the same types",
        )


def _left_out(name: str, why: str, notes: list[str]) -> None:
    notes.append(f"column {name!r} {why} and was left out")


@dataclass
class NumberLearner:
    """Numbers, booleans and decimals."""

    name: str
    dtype: pa.DataType
    num_raw: int = 1
    coded: bool = False
    center: Center | None = None
    moments: Moments = field(default_factory=Moments)
    missing_train: int = 0
    missing_held_out: int = 0

    def read(self, array: pa.Array, place: Placement, out: np.ndarray) -> None:
        _check_type(self.name, array, "number", place)
        # The center comes from the first batch that has values. A share p of the rows lies near
        # it, so rounding costs at most 2**-24 / sqrt(p) standard deviations.
        self.center = self.center or center_of(array)
        if self.center is None:
            values = centered(pa.nulls(len(array)), Center(), self.name, place.first_row)
        else:
            values = centered(array, self.center, self.name, place.first_row)
        put(values, place, out[0])
        self.missing_train += self.moments.add(out[0, : place.num_train])
        self.missing_held_out += int(np.isnan(out[0, place.num_train :]).sum())

    def finished(self, first_raw: int, notes: list[str]) -> Finished | None:
        if not _informative(self, notes):
            return None
        assert self.center is not None
        column = NumberColumn(
            name=self.name,
            type=str(self.dtype),
            center=self.center.value,
            exponent=self.center.exponent,
            mean=self.moments.mean,
            scale=self.moments.scale,
            indicator=self.missing_train > 0,
        )
        return Finished(column, [first_raw])


@dataclass
class TimeLearner:
    """Dates, time stamps, times of day and durations."""

    name: str
    dtype: pa.DataType
    kind: Kind
    coded: bool = False
    center: Center | None = None
    missing_train: int = 0
    missing_held_out: int = 0

    def __post_init__(self) -> None:
        self.unit, self.zone = canonical_time(self.dtype)
        self.num_raw = len(PARTS[self.kind])
        self.all_moments = [Moments() for _ in PARTS[self.kind]]
        self.moments = self.all_moments[0]

    def read(self, array: pa.Array, place: Placement, out: np.ndarray) -> None:
        _check_type(self.name, array, self.kind, place)
        self.center = self.center or center_of(ticks(array, self.kind, self.unit))
        vectors = time_vectors(self, array, self.center or Center())
        for values, target, moments in zip(vectors, out, self.all_moments, strict=True):
            put(values, place, target)
            missing = moments.add(target[: place.num_train])
            if moments is self.moments:
                self.missing_train += missing
                self.missing_held_out += int(np.isnan(target[place.num_train :]).sum())

    def finished(self, first_raw: int, notes: list[str]) -> Finished | None:
        if not _informative(self, notes):
            return None
        assert self.center is not None
        kept = [i for i, m in enumerate(self.all_moments) if not m.constant]
        column = TimeColumn(
            name=self.name,
            type=str(self.dtype),
            kind=self.kind,
            unit=self.unit,
            zone=self.zone,
            center=self.center.value,
            exponent=self.center.exponent,
            mean=self.moments.mean,
            scale=self.moments.scale,
            parts=tuple(PARTS[self.kind][i] for i in kept),
            indicator=self.missing_train > 0,
        )
        return Finished(column, [first_raw + i for i in kept])


def _informative(learner: NumberLearner | TimeLearner, notes: list[str]) -> bool:
    if not learner.moments.count:
        _left_out(learner.name, "has no value in the training rows", notes)
    elif learner.moments.constant:
        _left_out(learner.name, "is constant", notes)
    elif learner.missing_held_out and not learner.missing_train:
        notes.append(
            f"column {learner.name!r} is missing only in {learner.missing_held_out:,} held-out "
            "rows; they get its mean"
        )
    return bool(learner.moments.count) and not learner.moments.constant


class Vocabulary:
    """Distinct values in order of first sight, up to a limit."""

    def __init__(self, dtype: pa.DataType, limit: int):
        self.values = pa.nulls(0, dtype)
        self.limit = limit
        self.full = False  # a value had to be turned away

    def ids(self, distinct: pa.Array) -> np.ndarray:
        """The id of each of these distinct, non-null values, adding new ones; -1 beyond."""
        found = pc.index_in(distinct, value_set=self.values)
        new = distinct.filter(found.is_null())
        room = self.limit - len(self.values)
        if len(new):
            self.full |= len(new) > room
            self.values = pa.concat_arrays([self.values, new.slice(0, room)])
            found = pc.index_in(distinct, value_set=self.values)
        return np.asarray(pc.fill_null(found, -1)).astype(np.int64)


@dataclass
class CategoryLearner:
    """Strings, dictionaries and whatever is named as categorical.

    Raw codes: MISSING; FIRST_VALUE + id, in order of first sight (held-out rows too, since
    a value first seen there may still come in training); then the hash buckets.
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
        used = np.bincount(indices[indices >= 0], minlength=len(words)) > 0
        codes = np.full(len(words) + 1, MISSING, np.int64)
        chosen = words.filter(pa.array(used))
        ids = self.vocabulary.ids(pc.unique(chosen) if len(chosen) else chosen)
        ids = np.asarray(pc.fill_null(pc.index_in(chosen, value_set=self.vocabulary.values), -1))
        found = ids.astype(np.int64) + FIRST_VALUE
        if self.vocabulary.full and (ids < 0).any():
            base = FIRST_VALUE + MAX_VALUES
            found = np.where(ids < 0, base + hash_strings(chosen, HASH_BUCKETS), found)
        codes[:-1][used] = found
        return codes[indices]

    def finished(self, first_raw: int, notes: list[str]) -> Finished | None:
        size = len(self.vocabulary.values)
        self.counts = np.append(self.counts, np.zeros(FIRST_VALUE + size, np.int64))
        counts = self.counts[FIRST_VALUE : FIRST_VALUE + size]
        hashed = bool(self.counts[FIRST_VALUE + MAX_VALUES :].any())
        if not counts.any():
            _left_out(self.name, "has no value in the training rows", notes)
            return None
        if np.count_nonzero(counts) == 1 and not self.counts[MISSING] and not hashed:
            _left_out(self.name, "is constant", notes)
            return None
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
        return Finished(column, [], CodeSlots(start=first_raw, count=1, renumber=renumber))

    def _renumber(self, order: np.ndarray, hashed: bool) -> np.ndarray:
        """The final code of each raw code; the values with ids `order` come first."""
        values = self.vocabulary.values
        size = FIRST_VALUE + (MAX_VALUES + HASH_BUCKETS if self.vocabulary.full else len(values))
        renumber = np.full(size, UNKNOWN, np.float32)
        if hashed:
            # Values of held-out rows alone are hashed too, as predicting will do.
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
        codes, counts = hashed_words(strings_of(array), MAX_WORDS)
        out[:] = codes[place.order].T
        seen = counts[place.order[: place.num_train]]
        self.longest = max(self.longest, int(seen.max(initial=0)))
        self.truncated += int((seen > MAX_WORDS).sum())

    def finished(self, first_raw: int, notes: list[str]) -> Finished | None:
        if not self.longest:
            _left_out(self.name, "has no words in the training rows", notes)
            return None
        slots = min(self.longest, MAX_WORDS)
        if self.truncated:
            notes.append(
                f"column {self.name!r}: {self.truncated:,} texts are longer than {MAX_WORDS} "
                "words and were cut"
            )
        column = TextColumn(name=self.name, type=str(self.dtype), slots=slots)
        return Finished(column, [], CodeSlots(start=first_raw, count=slots))


def looks_like_text(array: pa.Array) -> bool:
    """Whether strings are sentences: three words on average, and mostly distinct."""
    array = strings_of(array).drop_null()
    if not len(array):
        return False
    words = hashed_words(array, 1)[1]
    return bool(words.mean() >= 3 and pc.count_distinct(array).as_py() > len(array) / 2)


def describe(value: Any) -> str:
    """A value as it stands in a message."""
    return repr(value) if isinstance(value, str) else str(value)
