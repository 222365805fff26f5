"""Numbers as people write them in tables: currency, percent, thousands, marks for missing ones.

A column of strings is one of numbers when nearly all of its cells are numbers and some are not
plain ones: then one odd cell has made strings of it. Codes such as "007" are no numbers, and a
column of plain numbers that its owner stored as strings stays as it is.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from downslope.data.ingest.columns import encoded_strings

MAX_ODD = 0.05  # of the cells that are not marked as missing
MIN_NUMBERS = 0.5  # of the cells that are not empty
MISSING_MARKS = frozenset(
    ("?", "-", "--", "---", ".", "..", "*", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none",
     "nil", "unknown", "missing", "not available", "undefined")
)  # fmt: skip
_CURRENCY = "$€£¥"
_THOUSANDS = re.compile(r"\d{1,3}([,'\u2019\u00a0\u202f ]\d{3})+(\.\d*)?")
_CODE = re.compile(r"0\d")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")


class ParsedNumbers(NamedTuple):
    """Cells read as numbers.

    Attributes:
        values: float64, null where a cell holds no number.
        odd: cells that hold none, marks for missing ones too, with their counts.
    """

    values: pa.Array
    odd: Counter[str]

    @property
    def num_numbers(self) -> int:
        """Cells that hold a number."""
        return len(self.values) - self.values.null_count

    @property
    def num_unmarked(self) -> int:
        """Cells that hold something else, and no mark for a missing number."""
        return sum(n for word, n in self.odd.items() if word.strip().lower() not in MISSING_MARKS)


def parse_numbers(array: pa.Array) -> ParsedNumbers:
    """Strings as numbers; "7 %" is 0.07, "$1,234.50" is 1234.5.

    Example:
        >>> parse_numbers(pa.array(["$1,234.5", "7 %", "?", None])).values.to_pylist()
        [1234.5, 0.07, None, None]
    """
    words, indices = encoded_strings(array)
    found = np.array([*map(_number, words.to_pylist()), math.nan])
    counts = np.bincount(indices[indices >= 0], minlength=len(words))
    odd = Counter({
        word: int(count)
        for word, count, value in zip(words.to_pylist(), counts, found, strict=False)
        if count and math.isnan(value) and word.strip()
    })  # fmt: skip
    values = found[indices]
    return ParsedNumbers(pa.array(values, mask=np.isnan(values)), odd)


def may_be_numbers(parsed: ParsedNumbers) -> bool:
    """True if odd cells are few enough to count as missing."""
    numbers, odd = parsed.num_numbers, parsed.num_unmarked
    filled = numbers + parsed.odd.total()
    return odd <= MAX_ODD * (numbers + odd) and numbers >= MIN_NUMBERS * filled > 0


def looks_like_numbers(array: pa.Array) -> bool:
    """True for a column of strings that would be numbers but for how some cells are written."""
    words = [word.strip().lower() for word in encoded_strings(array)[0].to_pylist()]
    plain = sum(_PLAIN.fullmatch(word) is not None for word in words)
    if plain == sum(map(bool, words)) or any(map(_CODE.match, words)):
        return False
    return may_be_numbers(parse_numbers(array))


def described(odd: Counter[str], num_rows: int, column: str) -> str:
    """A note on cells that were read as missing."""
    most = odd.most_common(3)
    shown = ", ".join(f"{word[:20]!r}" for word, _ in most) + ", ..." * (len(odd) > len(most))
    are = "1 cell is no number" if odd.total() == 1 else f"{odd.total():,} cells are no numbers"
    return (
        f"column {column!r}: {are} ({shown}) of {num_rows:,} and count as missing; "
        f"--categorical {column} reads all as categories"
    )


def _number(word: str) -> float:
    text = word.strip().lower()
    sign = "-" if text.startswith("-") else ""
    text = text[1:] if text.startswith(("+", "-")) else text
    text = text.strip(_CURRENCY + " ")
    percent = text.endswith("%")
    text = text.rstrip("% ")
    if _THOUSANDS.fullmatch(text):
        text = re.sub(r"[^\d.]", "", text)
    if text.startswith(("+", "-")) or not _PLAIN.fullmatch(text):
        return math.nan
    return float(sign + text) / (100 if percent else 1)
