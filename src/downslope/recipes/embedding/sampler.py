"""Logical batches of P classes with K rows each, as a source that `downslope.fit` can read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from downslope import DataError, UsageError
from downslope.arguments import whole
from downslope.recipes.labels import coded

FEWEST_UNITS = 256  # in an epoch: as many updates, at least, between two evaluations; assumed


def members_of(
    labels: Any, what: str = "labels", *, num_rows: int | None = None
) -> tuple[list[np.ndarray], np.ndarray, list[Any]]:
    """Rows of each class with two or more, those classes, and the classes with only one row.

    Args:
        labels: of the rows [n]; strings or whole numbers.
        what: name of the argument, for messages.
        num_rows: how many there must be, where that is known.

    Raises:
        DataError: fewer than two classes have two rows, or a label is missing.
        UsageError: not one label a row, or labels of several kinds.

    Example:
        >>> members, classes, alone = members_of(["a", "b", "a", "c", "b"])
        >>> [m.tolist() for m in members], classes.tolist(), alone
        ([[0, 2], [1, 4]], ['a', 'b'], ['c'])
    """
    levels, codes = coded(labels, what, num_rows=num_rows)
    counts, classes = np.bincount(codes), np.array(levels)
    enough = counts >= 2
    if enough.sum() < 2:
        raise DataError(
            f"{what} must have at least 2 classes with 2 rows or more; "
            f"{enough.sum()} of {len(classes)} classes has"
        )
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(counts)[:-1])
    kept = [rows for rows, many in zip(members, enough, strict=True) if many]
    return kept, classes[enough], classes[~enough].tolist()


def draw_units(
    members: Sequence[np.ndarray],
    *,
    num_classes: int,
    rows_per_class: int,
    num_units: int,
    seed: int,
) -> np.ndarray:
    """Row numbers [num_units, P K] of logical batches: K rows of each of P classes.

    Classes take turns, and so do the rows of a class; no row stands twice in a unit but where its
    class has fewer than K. A class of many rows is drawn as often as one of few.

    Args:
        members: rows of each class.
        num_classes: P, at most the number of classes.
        rows_per_class: K.

    Raises:
        UsageError: P or K out of range.

    Example:
        >>> rows = [np.arange(5), np.arange(5, 9), np.arange(9, 11)]
        >>> draw_units(rows, num_classes=2, rows_per_class=3, num_units=4, seed=0).shape
        (4, 6)
    """
    whole("num_classes", num_classes, least=2)
    if num_classes > len(members):
        raise UsageError(
            f"num_classes must be at most {len(members)}, the classes that have 2 rows; "
            f"got {num_classes}"
        )
    whole("rows_per_class", rows_per_class)
    rng = np.random.Generator(np.random.Philox(seed))
    turns = [_turns(rows, rows_per_class, rng) for rows in members]
    classes = _turns(np.arange(len(members)), num_classes, rng)
    found = np.empty((num_units, num_classes * rows_per_class), np.int64)
    for number in range(num_units):
        found[number] = np.concatenate([next(turns[c]) for c in next(classes)])
    return found


def _turns(items: np.ndarray, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """So many different items at a time, until they begin anew in another order."""
    while True:
        order = rng.permutation(items)
        if len(items) < count:
            yield np.resize(order, count)
        for start in range(0, len(items) - count + 1, count):
            yield order[start : start + count]


class Units:
    """A `downslope.Source` whose rows are logical batches, gathered as they are read.

    Args:
        rows: all rows [n, d], float32.
        places: numbers of the rows of each unit [num_units, m], as of `draw_units`.

    Example:
        >>> units = Units(np.arange(6, dtype="float32")[:, None], np.array([[0, 3], [5, 2]]))
        >>> units.num_rows, units.examples_per_row, units.read(1, 2).ravel().tolist()
        (2, 2, [5.0, 2.0])
    """

    shuffled = True  # drawn in random order

    def __init__(self, rows: np.ndarray, places: np.ndarray):
        self._rows, self._places = rows, places
        self.num_rows, self.examples_per_row = places.shape
        self.row_bytes = self.examples_per_row * rows[:1].nbytes

    @property
    def fingerprint(self) -> str:
        """Hash of what the units hold: which rows, and up to 1,024 of these."""
        digest = hashlib.sha256(self._places.tobytes())
        some = np.unique(np.linspace(0, len(self._rows) - 1, 1024).astype(np.int64))
        digest.update(np.ascontiguousarray(self._rows[some]).tobytes())
        return digest.hexdigest()

    def read(self, start: int, stop: int, out: Any = None) -> Any:
        """Units [stop - start, m, d]."""
        return np.take(self._rows, self._places[start:stop], axis=0, out=out, mode="clip")

    def expect(self, start: int, stop: int) -> None:
        """Nothing to do: the rows are in memory."""

    @staticmethod  # a bound method would keep these rows alive as long as the compiled programs
    def unpack(rows: Any) -> Any:
        """The units as they are."""
        return rows

    def close(self) -> None:
        """Nothing to release: the rows are the caller's."""


def units_in_epoch(num_rows: int, unit_rows: int) -> int:
    """Units in which each row stands about once, at least 256."""
    return max(FEWEST_UNITS, math.ceil(num_rows / unit_rows))
