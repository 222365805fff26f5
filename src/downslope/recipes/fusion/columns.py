"""From a table's columns to the arrays of the two branches, learned from training rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from downslope.errors import DataError, UsageError
from downslope.recipes.fusion.text import Words
from downslope.recipes.fusion.values import (
    MOST,
    Columns,
    as_labels,
    as_numbers,
    holds_numbers,
    positions,
    refuse_above,
)

Kind = Literal["vocabulary", "hashed", "embedding"]


class Reading:
    """How columns become arrays.

    Args:
        text: names of the text columns, read as one text; or the one of the embedding.
        words: how text is read.
        numbers: names of the columns of numbers, or None for all that hold some.
        categories: the same for categories.

    Attributes:
        numbers: the columns of numbers.
        categories: the columns of categories.
        gaps: columns of numbers that miss values in training rows; each adds a column of 0 or 1.
        num_numbers: width of the numbers' array.
        width: of the embedding; 0 without one.
        words: the words; None without.
    """

    def __init__(
        self,
        *,
        text: tuple[str, ...],
        words: Kind,
        numbers: Sequence[str] | None,
        categories: Sequence[str] | None,
        num_words: int,
        max_terms: int,
    ) -> None:
        self.text, self.kind = text, words
        self.asked = (numbers, categories)
        self.limits = (num_words, max_terms)
        self.words: Words | None = None
        self.width = 0

    def learn(self, columns: Columns) -> Reading:
        """This reading, with scales, categories and words of these rows."""
        self._sort_columns(columns)
        self.means, self.scales, self.gaps = {}, {}, []
        for name in self.numbers:
            values = as_numbers(name, columns[name])
            held = values[~np.isnan(values)]
            if not len(held):
                raise DataError("no training row has a value", column=name)
            self.means[name] = float(held.mean())
            # where all are the same, rounding may leave a spread
            self.scales[name] = float(held.std()) if held.min() < held.max() else 1.0
            if len(held) < len(values):
                self.gaps.append(name)
        self.num_numbers = len(self.numbers) + len(self.gaps)
        self.levels: dict[str, list[str]] = {}
        for name in self.categories:
            levels, counts = np.unique(as_labels(name, columns[name]), return_counts=True)
            # a level of one row would be learned by heart
            self.levels[name] = [
                level for level, n in zip(levels, counts, strict=True) if level and n > 1
            ]
            if not self.levels[name]:
                raise DataError(
                    "no category occurs in two training rows",
                    column=name,
                    remedy="leave it out, or name it in numbers where it holds some",
                )
        if self.text and self.kind == "embedding":
            self.width = self._vectors(columns).shape[1]
        elif self.text:
            self.words = Words(
                "hashed" if self.kind == "hashed" else "vocabulary", *self.limits
            ).learn(self.texts(columns))
        return self

    @property
    def is_boundeds(self) -> bool:
        """Whether there is a branch for numbers and categories."""
        return bool(self.numbers or self.categories)

    @property
    def has_text(self) -> bool:
        """Whether there is a branch for text."""
        return bool(self.text)

    def arrays(self, columns: Columns) -> dict[str, np.ndarray]:
        """The arrays of a batch, and in `present` [n, 2] which branch has anything to read.

        A branch is absent where all its columns are missing from the table, or hold nothing in
        that row: no number and no category; no text, or none with a word that is known.
        """
        num = len(next(iter(columns.values())))
        found: dict[str, np.ndarray] = {"present": np.zeros((num, 2), np.float32)}
        if self.is_boundeds:
            self._add_numbers(columns, found)
        if self.has_text:
            self._add_text(columns, found)
        return found

    def _add_numbers(self, columns: Columns, found: dict[str, np.ndarray]) -> None:
        given = [name in columns for name in (*self.numbers, *self.categories)]
        num = len(found["present"])
        x, codes = np.zeros((num, self.num_numbers), np.float32), []
        if any(given):
            self._need(columns, (*self.numbers, *self.categories))
            known = np.zeros(num, bool)
            for i, name in enumerate(self.numbers):
                values = as_numbers(name, columns[name])
                held = ~np.isnan(values)
                scaled = (values - self.means[name]) / self.scales[name]
                refuse_above(MOST, name, scaled, " standard deviations")
                x[:, i] = np.where(held, scaled, 0.0)
                known |= held
                if name in self.gaps:
                    x[:, len(self.numbers) + self.gaps.index(name)] = ~held
            for name in self.categories:
                labels = as_labels(name, columns[name])
                codes.append(positions(labels, self.levels[name]))
                known |= labels != ""
            found["present"][:, 0] = known
        if self.numbers:
            found["x"] = x
        if self.categories:
            empty = np.zeros((num, len(self.categories)), np.int32)
            found["codes"] = np.stack(codes, axis=1) if codes else empty

    def _add_text(self, columns: Columns, found: dict[str, np.ndarray]) -> None:
        num, given = len(found["present"]), [name in columns for name in self.text]
        if any(given):
            self._need(columns, self.text)
        if self.kind == "embedding":
            vectors = self._vectors(columns) if any(given) else np.zeros((num, self.width))
            held = np.asarray(np.isfinite(vectors).all(1) & any(given))
            if any(given) and vectors.shape[1] != self.width:
                raise UsageError(
                    f"the embedding must be {self.width} wide, as it was for fit; "
                    f"got {vectors.shape[1]}"
                )
            vectors = np.where(held[:, None], vectors, 0.0)
            refuse_above(MOST, self.text[0], vectors, "")
            found["vector"] = vectors.astype(np.float32)
            found["present"][:, 1] = held
            return
        assert self.words is not None
        texts = self.texts(columns) if any(given) else [""] * num
        found["terms"], found["weights"] = self.words.codes(texts)
        found["present"][:, 1] = (found["terms"] > 0).any(1)

    def _need(self, columns: Columns, names: Sequence[str]) -> None:
        absent = [name for name in names if name not in columns]
        if absent:
            raise UsageError(
                f"X must have the columns that were given to fit, or none of a branch; "
                f"missing: {absent}"
            )

    def texts(self, columns: Columns) -> list[str]:
        """The rows' texts, joined where there are several columns; "" where missing."""
        parts = [as_labels(name, columns[name]).tolist() for name in self.text]
        return [" ".join(filter(None, row)) for row in zip(*parts, strict=True)]

    def _vectors(self, columns: Columns) -> np.ndarray:
        (name,) = self.text
        column = columns[name]
        try:
            vectors = np.asarray(
                np.stack(list(column)) if column.dtype == object else column, float
            )
        except (TypeError, ValueError) as error:
            raise DataError("an embedding must be numbers of one width", column=name) from error
        if vectors.ndim != 2:
            raise DataError(f"an embedding must be [n, d]; got {vectors.shape}", column=name)
        return vectors

    def _sort_columns(self, columns: Columns) -> None:
        """Which columns are numbers and which categories, where that was left open."""
        numbers, categories = self.asked
        asked = [*self.text, *(numbers or ()), *(categories or ())]
        absent = [name for name in asked if name not in columns]
        if absent:
            raise UsageError(f"X has no column {absent[0]!r}; it has {sorted(columns)}")
        twice = {name for name in asked if asked.count(name) > 1}
        if twice:
            raise UsageError(f"a column has one use; {sorted(twice)[0]!r} was given two")
        others = [name for name in columns if name not in asked]
        is_number = {name: holds_numbers(columns[name]) for name in others}
        self.numbers = [n for n in others if is_number[n]] if numbers is None else list(numbers)
        rest = [n for n in others if not is_number[n] and n not in self.numbers]
        for name in rest if categories is None else ():
            if columns[name].dtype.kind in "cmM" or columns[name].ndim > 1:
                raise DataError(
                    "is neither a number, a category nor text",
                    column=name,
                    remedy="drop it, or give times to fit as times",
                )
        self.categories = rest if categories is None else list(categories)
        if not (self.text or self.numbers or self.categories):
            raise UsageError("X has no column to predict from")
