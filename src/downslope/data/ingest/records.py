"""The encoding of each column and of the target, as plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from downslope.data.ingest.columns import PARTS, Kind

UNKNOWN, MISSING, FIRST_VALUE = 0, 1, 2
HASH_BUCKETS = 1 << 16


class CodeTable(NamedTuple):
    """A table of `num_codes` entries for the `num_slots` code columns from `first_slot` on."""

    name: str
    num_codes: int
    first_slot: int
    num_slots: int


@dataclass(frozen=True, kw_only=True)
class NumberColumn:
    """A number: ((x - center) / 2**exponent - mean) / scale, missing to 0.

    The plain mean is center + mean * 2**exponent; it is kept in two parts because a
    large center (a time stamp, an identifier) would swallow the digits of a small spread.
    """

    kind: ClassVar[Kind] = "number"
    unit: ClassVar[str] = ""
    zone: ClassVar[str | None] = None
    parts: ClassVar[tuple[str, ...]] = PARTS["number"]
    name: str
    type: str
    center: int | float
    exponent: int
    mean: float
    scale: float
    indicator: bool


@dataclass(frozen=True, kw_only=True)
class TimeColumn:
    """A date or time: elapsed `unit`s standardised like a number, and phases as sin and cos."""

    name: str
    type: str
    kind: Kind
    unit: str
    zone: str | None
    center: int | float
    exponent: int
    mean: float
    scale: float
    parts: tuple[str, ...]
    indicator: bool


@dataclass(frozen=True, kw_only=True)
class CategoryColumn:
    """A category: `values` by falling frequency; with `hashed`, rarer ones share buckets."""

    kind: ClassVar[Kind] = "category"
    name: str
    type: str
    values: tuple[str, ...]
    hashed: bool

    @property
    def num_codes(self) -> int:
        return FIRST_VALUE + len(self.values) + (HASH_BUCKETS if self.hashed else 0)


@dataclass(frozen=True, kw_only=True)
class TextColumn:
    """Text: the codes of its first `slots` words."""

    kind: ClassVar[Kind] = "text"
    name: str
    type: str
    slots: int


Column = NumberColumn | TimeColumn | CategoryColumn | TextColumn


@dataclass(frozen=True, kw_only=True)
class Target:
    """The column to predict: its classes in order, or the mean and scale that standardise it."""

    name: str
    type: str
    classes: tuple[Any, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    def in_own_unit(self, standardised: Any) -> Any:
        """Standardised values of a numeric target in its own unit, float64."""
        # a large mean would swallow the digits of a float32
        return self.mean + self.scale * np.asarray(standardised, np.float64)
