"""Prediction intervals of numbers, calibrated on held-out rows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from downslope import UsageError
from downslope.data.stored import StoredTable
from downslope.table.model import TableModel
from downslope.table.rows import padded_parts

Floats = NDArray[np.float64]
MOST_SCORES = 1000  # kept with a model, of more held-out rows evenly spaced ones


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Errors of held-out rows, from which intervals of new rows follow.

    An error counts in units of the row's own spread: the standard deviation of the members'
    predictions plus `floor`, in the target's unit. So an interval is wider where members disagree.

    Attributes:
        floor: added to the spread; the median one, or 1 where there is none.
        scores: absolute errors in units of the spread, sorted.
        num_rows: held-out rows.
    """

    floor: float
    scores: tuple[float, ...]
    num_rows: int

    def half_widths(self, spread: Floats, level: float) -> Floats:
        """Half of the width of each row's interval [n], in the target's unit.

        For rows like those held out an interval covers the true value with probability `level`, on
        average over rows; a little less, since those rows chose the parameters that were kept.

        Args:
            spread: of the members' predictions [n].
            level: between 0 and 1.

        Raises:
            UsageError: too few rows are held out for this level.

        Source: Papadopoulos et al. (2002); Lei et al. (2018), section 5.2.
        """
        rank = math.ceil((self.num_rows + 1) * level)
        if rank > self.num_rows:
            few = max(self.num_rows, math.floor(level / (1 - level)) - 1)
            needed = next(n for n in itertools.count(few) if math.ceil((n + 1) * level) <= n)
            raise UsageError(
                f"an interval of {level:.4g} needs {needed:,} held-out rows; there are "
                f"{self.num_rows:,}"
            )
        place = math.ceil(rank * len(self.scores) / self.num_rows) - 1
        return (self.floor + spread) * self.scores[place]

    @classmethod
    def of(cls, errors: Floats, spread: Floats) -> Intervals:
        """Intervals from the errors of held-out rows [n] and the spreads of their predictions [n].

        Example:
            >>> rng = np.random.default_rng(0)
            >>> found = Intervals.of(rng.normal(size=999), np.zeros(999))
            >>> found.half_widths(np.zeros(1), 0.95).round(1)
            array([1.9])
        """
        floor = float(np.median(spread)) or 1.0
        scores = np.sort(np.abs(errors) / (floor + spread))
        if len(scores) > MOST_SCORES:
            ranks = np.arange(1, MOST_SCORES + 1) * len(scores) / MOST_SCORES
            kept = scores[np.ceil(ranks).astype(int) - 1]
        else:
            kept = scores
        return cls(floor=floor, scores=tuple(kept.tolist()), num_rows=len(scores))


def calibrated(model: TableModel, params: Any, stored: StoredTable) -> Intervals | None:
    """Intervals of a model of numbers from its held-out rows; None without any.

    Rows of a weight above 0 count alike.
    """
    rows = stored.held_out
    if rows is None or model.encoding.task != "regress" or model.options.quantile:
        return None
    outputs = jax.jit(lambda part: model.outputs_and_spread(params, rows.unpack(part)))
    errors, spreads = [], []
    for part, count in padded_parts(rows):
        out, spread = (np.asarray(each, np.float64)[:count] for each in outputs(part))
        batch = rows.unpack(part[:count])
        predicted = model.in_target_unit(out)
        counts = batch.weight > 0
        errors.append((model.encoding.target.in_own_unit(batch.y) - predicted)[counts])
        spreads.append(model.spread_in_target_unit(predicted, spread)[counts])
    found = np.concatenate(errors)
    return Intervals.of(found, np.concatenate(spreads)) if len(found) else None
