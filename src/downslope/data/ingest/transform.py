"""From raw vectors to the numbers a model is trained on: the second stage of the encoding.

Means, scales and vocabularies are known only after the last row, so rows are first written raw
(`columns.py`, codes in order of first occurrence) and transformed once the encoding is known.
Predicting applies the same arithmetic to the same float32 values, so that a row gives the same
bits on both paths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class CodeSlots:
    """`count` raw columns of codes from `start` on, and the final code of each raw one."""

    start: int
    count: int
    renumber: np.ndarray | None = None  # float32 [raw codes]; None keeps them


@dataclass(frozen=True, kw_only=True)
class RowTransform:
    """Standardised numbers, indicators of missing values, and codes, from rows of raw values.

    `numeric` lists the raw columns that are kept as numbers, `offset` and `inverse_scale`
    (float32, one each) standardise them, and `indicators` lists those whose missing values are
    indicated. A row then holds numbers, indicators, codes.
    """

    numeric: np.ndarray
    offset: np.ndarray
    inverse_scale: np.ndarray
    indicators: np.ndarray
    codes: tuple[CodeSlots, ...] = ()

    @property
    def width(self) -> int:
        """Floats in a row."""
        codes = sum(slots.count for slots in self.codes)
        return len(self.numeric) + len(self.indicators) + codes

    def __call__(self, raw: np.ndarray, out: np.ndarray) -> None:
        """Write the rows of `raw` (float32 [n, raw width]) to `out` [n, >= width]."""
        numbers, at = len(self.numeric), 0
        np.subtract(_columns(raw, self.numeric), self.offset, out=out[:, :numbers])
        out[:, :numbers] *= self.inverse_scale
        if not np.isfinite(np.add.reduce(out[:, :numbers], axis=None)):
            np.copyto(out[:, :numbers], 0, where=np.isnan(out[:, :numbers]))
        at = numbers + len(self.indicators)
        out[:, numbers:at] = np.isnan(_columns(raw, self.indicators))
        for slots in self.codes:
            found = raw[:, slots.start : slots.start + slots.count]
            if slots.renumber is not None:
                found = slots.renumber[found.astype(np.intp)]
            out[:, at : at + slots.count] = found
            at += slots.count


def _columns(raw: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Those columns of `raw`: a view where they are neighbours, else a copy."""
    if len(wanted) and wanted[-1] - wanted[0] + 1 == len(wanted):
        return raw[:, wanted[0] : wanted[-1] + 1]
    return raw[:, wanted]
