"""Learning of the target and of row weights while a table is read.

The raw target is a float64 in two float32 slots: a number as it is, or the id of a class in order
of first occurrence. Whether integers are classes is known only at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from downslope.config import Task
from downslope.data.ingest.arrow import compute as pc
from downslope.data.ingest.columns import encoded_strings, in_use, is_number, is_string
from downslope.data.ingest.learn import Placement, Vocabulary, describe
from downslope.data.ingest.moments import Moments
from downslope.data.ingest.records import Target
from downslope.errors import DataError

MAX_CLASSES = 1000
MAX_INFERRED_CLASSES = 20  # integers with at most this many distinct values are classes
RAW_SLOTS = 2  # float32 slots of the raw float64
_EXACT = 1 << 53


class TargetTransform(NamedTuple):
    """The stored target from the raw one, by a look-up or standardised."""

    values: np.ndarray | None  # sorted class values as float64, where raw is the value itself
    ranks: np.ndarray | None  # class index by id, where raw is an id
    mean: float
    scale: float

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """The stored target, [n], of raw float64 [n]."""
        if self.ranks is not None:
            return self.ranks[raw.astype(np.intp)]
        if self.values is not None:
            return np.searchsorted(self.values, raw)
        return (raw - self.mean) / self.scale


class TargetLearner:
    """Learn the classes, or mean and scale, of the target; read before all other columns."""

    def __init__(self, name: str, dtype: pa.DataType, task: Task | None):
        self.name, self.dtype, self.task = name, dtype, task
        value = dtype.value_type if pt.is_dictionary(dtype) else dtype
        if not (is_string(value) or is_number(value) or pt.is_null(value)):
            raise _unusable(name, f"a target cannot be {dtype}", "convert it to numbers or strings")
        if is_string(value) and task == "regress":
            remedy = "convert it or --task classify"
            raise _unusable(name, "strings cannot be regressed on", remedy)
        self._ids = task == "classify" or (task is None and not _numeric(dtype))
        self._strings = is_string(value)
        self._may_be_classes = task is None and (self._ids or pt.is_integer(value))
        self._vocabulary: Vocabulary | None = None
        self._moments = Moments()
        self._train_counts = np.zeros(MAX_CLASSES, np.int64)
        self.num_missing = 0

    def values(self, array: pa.Array, first_row: int) -> np.ndarray:
        """Raw float64 [n] in the order of the table; NaN where the target is missing."""
        if pt.is_null(array.type):
            raw = np.full(len(array), np.nan)
        elif self._ids:
            raw = self._class_ids(array)
        else:
            raw = self._numbers(array, first_row)
        self.num_missing += int(np.isnan(raw).sum())
        return raw

    def _numbers(self, array: pa.Array, first_row: int) -> np.ndarray:
        if not is_number(array.type):
            rule = f"numbers so far, from here on {array.type}"
            raise _unusable(self.name, rule, "give all files the same types", first_row)
        if self._may_be_classes and pt.is_integer(array.type):
            self._note_integers(array)
        else:
            self._may_be_classes = False
        raw = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        infinite = np.isinf(raw)
        if infinite.any():
            rule, row = "infinite value in the target", first_row + int(np.argmax(infinite))
            raise _unusable(self.name, rule, "replace it or leave it empty", row)
        return raw

    def _note_integers(self, array: pa.Array) -> None:
        """Keep the distinct values while they are few."""
        distinct = pc.unique(array).drop_null().cast(pa.int64(), safe=False)
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(pa.int64(), MAX_INFERRED_CLASSES)
        self._vocabulary.ids(distinct)
        self._may_be_classes = not self._vocabulary.full

    def _class_ids(self, array: pa.Array) -> np.ndarray:
        if self._strings:
            distinct, indices = encoded_strings(array)
        else:
            array = array.dictionary_decode() if pt.is_dictionary(array.type) else array
            if pt.is_floating(array.type) or pt.is_decimal(array.type):
                array = array.cast(pa.float64())
                array = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)
                array = pc.add(array, 0.0)  # turns -0.0 into 0.0
            encoded = array.dictionary_encode()
            distinct = encoded.dictionary
            indices = np.asarray(pc.fill_null(encoded.indices, -1)).astype(np.int64)
        used = in_use(distinct, indices)
        ids = np.full(len(distinct) + 1, np.nan)
        chosen = self._harmonised(distinct.filter(pa.array(used)))
        assert self._vocabulary is not None
        ids[:-1][used] = self._vocabulary.ids(chosen)
        if self._vocabulary.full:
            remedy = "--task regress, or choose another target"
            raise _unusable(self.name, f"more than {MAX_CLASSES:,} classes", remedy)
        return ids[indices]

    def _harmonised(self, distinct: pa.Array) -> pa.Array:
        """The values in the vocabulary's type, widening both if a later batch differs."""
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(distinct.type, MAX_CLASSES)
        known = self._vocabulary.values
        if known.type == distinct.type:
            return distinct
        if not (is_number(known.type) and is_number(distinct.type)):
            return distinct.cast(known.type)
        floats = pt.is_floating(known.type) or pt.is_floating(distinct.type)
        wide = pa.float64() if floats else pa.int64()
        self._vocabulary.values = known.cast(wide)
        return distinct.cast(wide)

    def learn(self, raw: np.ndarray, place: Placement) -> None:
        """Learn from the rows for training."""
        seen = raw[place.order[: place.num_train]]
        if self._ids:
            self._train_counts += np.bincount(seen.astype(np.intp), minlength=MAX_CLASSES)
        else:
            self._moments.add(seen)

    def result(self, notes: list[str]) -> tuple[Task, Target, TargetTransform]:
        """The task, the target's encoding and the transform of raw values."""
        if self._ids or self._may_be_classes:
            return self._classes(notes)
        if self._moments.count < 2:
            raise _unusable(self.name, "fewer than two training rows", "give more rows")
        if self._moments.constant:
            rule = "the target is constant in training"
            raise _unusable(self.name, rule, "choose another target")
        mean, scale = self._moments.mean, self._moments.scale
        target = Target(name=self.name, type=str(self.dtype), mean=mean, scale=scale)
        return "regress", target, TargetTransform(None, None, mean, scale)

    def _classes(self, notes: list[str]) -> tuple[Task, Target, TargetTransform]:
        values = self._vocabulary.values if self._vocabulary else pa.nulls(0)
        order = pc.array_sort_indices(values).to_numpy()
        classes = values.take(pa.array(order)).to_pylist()
        if len(classes) < 2:
            only = describe(classes[0]) if classes else "none"
            remedy = "choose another target or add rows of another class"
            raise _unusable(self.name, f"the target has one class only ({only})", remedy)
        target = Target(name=self.name, type=str(self.dtype), classes=tuple(classes))
        if not self._ids:
            if max(abs(classes[0]), abs(classes[-1])) > _EXACT:
                remedy = "say --task classify or --task regress"
                raise _unusable(self.name, "integers beyond 2**53 in the target", remedy)
            return "classify", target, TargetTransform(np.array(classes, np.float64), None, 0, 1)
        absent = [c for c, i in zip(classes, order, strict=True) if not self._train_counts[i]]
        if absent:
            shown = ", ".join(describe(c) for c in absent[:5])
            notes.append(f"no training row has the target class {shown}; it cannot be learned")
        ranks = np.empty(len(order))
        ranks[order] = np.arange(len(order))
        return "classify", target, TargetTransform(None, ranks, 0, 1)


def _numeric(dtype: pa.DataType) -> bool:
    return is_number(dtype) and not pt.is_boolean(dtype)


def _unusable(column: str, rule: str, remedy: str, row: int | None = None) -> DataError:
    return DataError(rule, column=column, row=row, remedy=remedy)


class WeightLearner:
    """Check row weights and learn their mean over the rows for training."""

    def __init__(self, name: str, dtype: pa.DataType):
        if not is_number(dtype):
            raise _unusable(name, f"a weight cannot be {dtype}", "convert it to numbers")
        self.name = name
        self._sum, self._count = 0.0, 0

    def values(self, array: pa.Array, first_row: int) -> np.ndarray:
        """Weights as float64 [n].

        Raises:
            DataError: a weight that is missing, negative or infinite.
        """
        raw = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        bad = ~((raw >= 0) & (raw < np.inf))  # NaN fails both
        if bad.any():
            at = int(np.argmax(bad))
            what = "missing" if np.isnan(raw[at]) else f"{raw[at]:g}"
            rule = f"a weight must be zero or more and finite; here it is {what}"
            raise _unusable(self.name, rule, "mend it or drop the row", first_row + at)
        return raw

    def learn(self, raw: np.ndarray, place: Placement) -> None:
        """Learn from the rows for training."""
        seen = raw[place.order[: place.num_train]]
        self._sum += float(seen.sum())
        self._count += len(seen)

    def scale(self) -> float:
        """The factor that gives the weights for training a mean of 1."""
        if not self._sum > 0:
            rule = "all weights are zero in the training rows"
            raise _unusable(self.name, rule, "choose another column of weights")
        return self._count / self._sum
