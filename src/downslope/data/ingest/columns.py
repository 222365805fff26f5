"""One Arrow column as float32 vectors, computed alike when learning and when predicting.

This is the first of two stages. A number x becomes v = (x - center) / 2**exponent, with a
center near the column's values that is subtracted before rounding to float32: a time stamp in
nanoseconds or a large identifier keeps its low digits. A missing value becomes NaN. The
second stage (`transform.py`) scales v and replaces NaN.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from downslope.data.ingest.arrow import compute as pc
from downslope.errors import DataError

Kind = Literal["number", "timestamp", "time", "duration", "category", "text"]

_SAMPLE = 1 << 12  # values that a center is taken from
_EXACT = 1 << 53  # integers up to here are exact in float64
_PLAIN_SCALES = (1e-12, 1e12)  # spreads that float32 holds without a power of two taken out
_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_YEAR_DAYS = 365.2425  # mean Gregorian year: the phase is right to two days, in any century

PARTS = {
    "number": ("",),
    "timestamp": ("elapsed", "year sin", "year cos", "week sin", "week cos", "day sin", "day cos"),
    "time": ("elapsed", "day sin", "day cos"),
    "duration": ("elapsed",),
}


class Center(NamedTuple):
    """The place and scale of a column's values: v = (x - value) / 2**exponent."""

    value: int | float = 0
    exponent: int = 0


def is_string(kind: pa.DataType) -> bool:
    """True if values are strings, in any of Arrow's layouts."""
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def is_number(kind: pa.DataType) -> bool:
    """True if values are numbers or booleans."""
    return pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_boolean(kind)


def natural_kind(kind: pa.DataType) -> Kind | None:
    """The kind as which a column of this Arrow type is read by default; None if there is none."""
    if is_number(kind) or pt.is_null(kind):
        return "number"
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return "timestamp"
    if pt.is_time(kind):
        return "time"
    if pt.is_duration(kind):
        return "duration"
    if is_string(kind) or (pt.is_dictionary(kind) and _has_text_form(kind.value_type)):
        return "category"
    return None


def readable_as(kind: pa.DataType, wanted: Kind) -> bool:
    """True if a column of this Arrow type can be read as the wanted kind."""
    if pt.is_null(kind):
        return True
    if wanted == "category":
        return _has_text_form(kind.value_type if pt.is_dictionary(kind) else kind)
    if wanted == "number" and is_string(kind):
        return True
    if wanted == "text":
        return is_string(kind.value_type if pt.is_dictionary(kind) else kind)
    return natural_kind(kind) == wanted


def _has_text_form(kind: pa.DataType) -> bool:
    return is_string(kind) or is_number(kind) or pt.is_temporal(kind)


def _plain(array: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    """Values as a NumPy array of numbers, arbitrary at nulls, and a mask of the nulls."""
    kind = array.type
    if pt.is_null(kind):
        return np.zeros(len(array)), np.ones(len(array), bool)
    if pt.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif pt.is_decimal(kind):
        array = array.cast(pa.float64())
    missing = np.asarray(array.is_null()) if array.null_count else None
    # The buffer itself: what is at nulls is overwritten by NaN later.
    width = array.type.bit_width // 8
    dtype = np.dtype(array.type.to_pandas_dtype())
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), dtype), missing
    return np.frombuffer(data, dtype, len(array), array.offset * width), missing


def center_of(array: pa.Array) -> Center | None:
    """A center and a power of two that suit the values; None if no value is finite."""
    x, missing = _plain(array)
    x = x if missing is None else x[~missing]
    if x.dtype.kind == "f":
        x = x[np.isfinite(x)]
    x = x[:_SAMPLE]
    if not len(x):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is handled just below
        low, high = x.min().item(), x.max().item()
        if x.dtype.kind in "iu":
            # An integer near the mean, exact even where float64 is not.
            value = low + int(_differences(x, low).mean())
            spread = float(_differences(x, value).std())
        else:
            value = float(np.float32(np.mean(x, dtype=np.float64)))
            value = value if math.isfinite(value) else low / 2 + high / 2
            spread = float(np.std(x.astype(np.float64) / 2 - value / 2)) * 2
    spread = spread or abs(float(value))
    if math.isinf(spread):
        spread = max(abs(low), abs(high))
    plain = spread == 0 or _PLAIN_SCALES[0] < spread < _PLAIN_SCALES[1]
    return Center(value, 0 if plain else math.frexp(spread)[1])


def _differences(x: np.ndarray, value: int) -> np.ndarray:
    """x - value in float64, rounded once, for integers of any width and sign."""
    if x.dtype.itemsize < 8 or not len(x):
        return x.astype(np.float64) - value
    if max(abs(int(x.min())), abs(int(x.max())), abs(value)) <= _EXACT:
        return np.subtract(x, value, dtype=np.float64)
    # Halves of 32 bits: each difference is exact, and their sum rounds once.
    low_bits = x.dtype.type(0xFFFFFFFF)
    high = (x >> x.dtype.type(32)).astype(np.float64) - (value >> 32)
    return high * 2.0**32 + ((x & low_bits).astype(np.float64) - (value & 0xFFFFFFFF))


def centered(array: pa.Array, center: Center, column: str, first_row: int = 1) -> np.ndarray:
    """v = (x - center.value) / 2**center.exponent as float32 [n], NaN where missing.

    Raises:
        DataError: an infinite value, or one beyond float32's range after centring.
    """
    x, missing = _plain(array)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # checked below
        if x.dtype.kind in "iu":
            v = _integers_centered(x, center)
        elif x.dtype == np.float32 and not center.exponent and _is_float32(center.value):
            v = x - np.float32(center.value)
        else:
            v = _scaled(x.astype(np.float64) - float(center.value), center.exponent)
        if missing is not None:
            v[missing] = np.nan
        if not math.isfinite(np.dot(v, _ones(len(v)))):  # the quickest pass over all values
            _check_finite(v, x, missing, column, first_row)
    return v


@functools.lru_cache(2)
def _ones(count: int) -> np.ndarray:
    return np.ones(count, np.float32)


def _is_float32(value: float) -> bool:
    return float(np.float32(value)) == value


def _integers_centered(x: np.ndarray, center: Center) -> np.ndarray:
    whole = int(center.value)
    rest = float(center.value) - whole if isinstance(center.value, float) else 0.0
    return _scaled(_differences(x, whole) - rest, center.exponent)


def _scaled(x: np.ndarray, exponent: int) -> np.ndarray:
    return (np.ldexp(x, -exponent) if exponent else x).astype(np.float32)


def _check_finite(
    v: np.ndarray, x: np.ndarray, missing: np.ndarray | None, column: str, first_row: int
) -> None:
    bad = np.isinf(v)
    if missing is not None:
        bad &= ~missing
    if not bad.any():
        return
    at = int(np.argmax(bad))
    if np.isinf(x[at]):
        rule, remedy = "infinite value", "replace it or leave it empty"
    else:
        rule = f"the value {x[at].item():g} is too far from the others for 32-bit numbers"
        remedy = "replace it, leave it empty or take logarithms"
    raise DataError(
        rule, column=column, row=first_row + at, remedy=f"{remedy}, or --ignore the column"
    )


def canonical_time(kind: pa.DataType) -> tuple[str, str | None]:
    """The unit (s, ms, us, ns) and time zone of a temporal column."""
    if pt.is_date32(kind):
        return "s", None
    if pt.is_date64(kind):
        return "ms", None
    return kind.unit, getattr(kind, "tz", None)


def ticks(array: pa.Array, kind: Kind, unit: str) -> pa.Array:
    """Counts of `unit` since the epoch, midnight or zero, as int64 (time stamps in UTC)."""
    target: Any = None
    if pt.is_null(array.type):
        return pa.nulls(len(array), pa.int64())
    if kind == "timestamp":
        target = pa.timestamp(unit, getattr(array.type, "tz", None))
    elif kind == "duration":
        target = pa.duration(unit)
    elif kind == "time":
        target = pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if array.type != target:
        array = array.cast(target, safe=False)
    if pt.is_time32(array.type):
        array = array.cast(pa.int32())
    return array.cast(pa.int64())


def phases(array: pa.Array, kind: Kind, unit: str, zone: str | None) -> list[np.ndarray]:
    """Sines and cosines of the time of year, week and day, in the order of PARTS.

    Local time where the column has a zone: opening hours follow the clock on the wall.
    Each is float32 [n], NaN where missing.
    """
    if kind == "duration":
        return []
    if zone is not None and pt.is_timestamp(array.type):
        array = pc.local_timestamp(array.cast(pa.timestamp(array.type.unit, zone)))
    t, missing = _plain(ticks(array, kind, unit))
    day, part = np.divmod(t, 86_400 * _SECONDS[unit])
    clock = part / (86_400 * _SECONDS[unit])
    turns = [clock]
    if kind == "timestamp":
        since = day + clock
        # 1970-01-01 was a Thursday; weeks here begin on Monday.
        turns = [since / _YEAR_DAYS % 1, (since + 3) / 7 % 1, clock]
    found = []
    for turn in turns:
        angle = (turn * (2 * np.pi)).astype(np.float32)
        found += [np.sin(angle), np.cos(angle)]
    if missing is not None:
        for values in found:
            values[missing] = np.nan
    return found


def raw_vectors(column: Any, array: pa.Array, center: Center, first_row: int) -> list[np.ndarray]:
    """The vectors of all PARTS of a column with `name`, `kind`, `unit` and `zone`."""
    if column.kind == "number":
        return [centered(array, center, column.name, first_row)]
    elapsed = centered(ticks(array, column.kind, column.unit), center, column.name, first_row)
    return [elapsed, *phases(array, column.kind, column.unit, column.zone)]


def strings(array: pa.Array) -> pa.Array:
    """The values as large_string, without a dictionary; nulls and NaN become null."""
    array = array.dictionary_decode() if pt.is_dictionary(array.type) else array
    kind = array.type
    if pt.is_large_string(kind):
        return array
    if pt.is_floating(kind):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
    if pt.is_floating(kind) and kind.bit_width == 16:
        array = array.cast(pa.float32())
    return array.cast(pa.large_string())


def in_use(distinct: pa.Array, indices: np.ndarray) -> np.ndarray:
    """The distinct values that some index uses, as bool [len(distinct)]."""
    return np.bincount(indices[indices >= 0], minlength=len(distinct)) > 0


def encoded_strings(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Distinct strings and, for each row, the index of its string; -1 where missing.

    The strings are large_string without nulls, each used by some row unless the column was a
    dictionary already; indices are int64 [n].
    """
    if not pt.is_dictionary(array.type):
        array = strings(array).dictionary_encode()
    words = strings(array.dictionary)
    indices = np.asarray(pc.fill_null(array.indices.cast(pa.int64()), -1))
    if words.null_count:  # a dictionary may list null among its values
        known = np.asarray(words.is_valid())
        place = np.append(np.where(known, np.cumsum(known) - 1, -1), -1)
        words, indices = words.drop_null(), place[indices]
    return words, indices
