"""What normalising does to these rows that one would not wish, as numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from scipy import stats

from downslope.arguments import one_of, whole
from downslope.check.findings import Finding, by_severity
from downslope.errors import UsageError
from downslope.recipes.batch_norm.composition import composition_findings
from downslope.recipes.batch_norm.labs import FEWEST
from downslope.recipes.batch_norm.layer import EPSILON
from downslope.recipes.batch_norm.moments import Moments
from downslope.recipes.batch_norm.passes import BLOCK_ROWS, Net, Rows, rows_of
from downslope.recipes.batch_norm.population import sweep
from downslope.recipes.labels import coded

By = Literal["batch", "lab", "one_lab"]
LARGE_GAP = 0.2  # of the spread inside a laboratory, from which a gap is a warning; assumed
ROUGH = 0.25  # error of a mini-batch's spread, from which it is a warning: 8 normal rows; assumed
LEFT_OUT = 0.01  # of the rows, from which it is a warning; assumed
ROUNDING = 1e-6  # of a mean: what is left of a constant's spread in float32


def findings(
    net: Net,
    model: Any,
    data: Any,
    *,
    batch_size: int,
    by: By = "batch",
    lab: Any = None,
    types: Any = None,
    fewest: int = FEWEST,
    inputs: Callable[[Any], Any] | None = None,
    epsilon: float = EPSILON,
) -> tuple[Finding, ...]:
    """What goes wrong when these rows are normalised so, the worst first.

    - `mixed`: the gap between laboratories is as large after normalising by mixed mini-batches as
      before, in units of the spread inside a laboratory.
    - `composition`: normalising each laboratory by itself moves rows of one type apart, by
      sum over types of (p_B - p_A) m, p being shares of the types and m their means.
    - `few rows`: how rough the statistics of a mini-batch are, or how many rows are left out.
    - `constant`: features whose spread is rounding.

    Args:
        net, model, data, inputs, epsilon: as for `population_statistics`.
        batch_size: rows whose statistics are taken together: of a mini-batch or a ghost batch.
        by: "batch", mini-batches of any rows; "lab", each laboratory inside a mini-batch by its
            own rows; "one_lab", mini-batches of one laboratory each.
        lab: labels [rows], or a function that finds them in a batch.
        types: labels [rows] of what the rows are, such as cell types.
        fewest: rows of a laboratory below which `by_lab` leaves them out.

    Raises:
        UsageError: `by` of another name, or laboratories missing where it needs them.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lab = np.repeat(["Bern", "Oslo"], 500)
        >>> x = np.float32(rng.normal(size=(1000, 1)) + 1.78 * (lab == "Oslo")[:, None])
        >>> net = lambda model, x, norm: norm("x", x)
        >>> print(findings(net, {}, x, lab=lab, batch_size=64)[0].sentence)
        layer 'x': 'Bern' and 'Oslo' are 1.78 (1.66 to 1.9) sd apart before normalising and
        1.78 after at feature 1, the clearest; 1.78 in the median feature
    """
    one_of("by", by, get_args(By))
    if by != "batch" and lab is None:
        raise UsageError(f"lab must be given where by is {by!r}")
    whole("batch_size", batch_size)
    whole("fewest", fewest, least=2)
    rows = rows_of(data, lab=lab, weight=None, inputs=inputs, block_rows=BLOCK_ROWS)
    labs = rows.labs or (None,)
    levels, kinds = (("",), np.zeros(rows.num_rows, np.int32))
    if types is not None:
        levels, kinds = coded(types, "types", num_rows=rows.num_rows)
    found = sweep(
        net, model, rows, rows.codes * len(levels) + kinds, len(labs) * len(levels),
        by_lab=by != "batch", epsilon=epsilon,
    )  # fmt: skip
    told = [_few_rows(rows, batch_size, by, fewest)]
    for name, cells in found.items():
        by_lab = _collapsed(cells, len(labs))
        told.append(_constant(name, by_lab, rows, by))
        if rows.labs is not None and len(labs) > 1:
            told.append(_gap(name, by_lab, rows, by))
            if by != "batch" and types is not None:
                told.append(composition_findings(name, cells, rows.labs, levels))
    if by != "batch" and types is None and len(labs) > 1:
        told.append(_unknown_composition())
    return by_severity(told)


def _collapsed(cells: Moments, num_labs: int) -> Moments:
    """Moments of each laboratory from those of its types."""
    parts = [np.split(values, num_labs) for values in cells]
    whole = [
        Moments(*part).pooled() if part[0].sum() else Moments(*(p[:1] for p in part))
        for part in zip(*parts, strict=True)
    ]
    return Moments(*(np.concatenate(each) for each in zip(*whole, strict=True)))


def _gap(name: str, labs: Moments, rows: Rows, by: By) -> Finding:
    """The widest gap between two laboratories, and what normalising makes of it."""
    assert rows.labs is not None
    weight = labs.weight[:, None]
    within = np.sqrt(labs.squares.sum(axis=0) / weight.sum())
    alive = within > ROUNDING * np.abs(labs.mean).max(axis=0)
    if not alive.any():
        return Finding(
            name="mixed", severity="note",
            sentence=f"layer {name!r}: no feature varies inside the laboratories",
        )  # fmt: skip
    first, second = np.triu_indices(len(rows.labs), 1)
    gap = np.abs(labs.mean[second] - labs.mean[first]) / np.where(alive, within, np.inf)
    error = np.sqrt(1 / weight[first] + 1 / weight[second])
    pair, feature = np.unravel_index((gap / error).argmax(), gap.shape)
    value, reach = gap[pair, feature], stats.norm.isf(0.025 / gap.size) * error[pair, 0]
    lo, hi = max(value - reach, 0.0), value + reach
    # one mean and one spread for all rows: the gap and what it is measured in shrink alike
    after = gap[pair, feature] if by == "batch" else 0.0
    a, b = rows.labs[first[pair]], rows.labs[second[pair]]
    severity = "fine"
    if by == "batch" and lo > 0:
        severity = "warning" if value > LARGE_GAP else "note"
    remedy = None
    if severity != "fine":
        remedy = "normalise each laboratory by its own rows: by_lab, or mini-batches of one"
    return Finding(
        name="mixed",
        severity=severity,
        sentence=(
            f"layer {name!r}: {a!r} and {b!r} are {value:.3g} ({lo:.3g} to {hi:.3g}) sd apart "
            f"before normalising and {after:.3g} after at feature {feature + 1}, the clearest; "
            f"{np.median(gap[pair, alive]):.3g} in the median feature"
        ),
        remedy=remedy,
        rows=f"all {rows.num_rows:,} rows",
        values={"layer": name, "before": value, "lo": lo, "hi": hi, "after": after,
                "labs": (a, b), "feature": int(feature), "within": within[feature]},
    )  # fmt: skip


def _few_rows(rows: Rows, batch_size: int, by: By, fewest: int) -> Finding:
    """How many rows statistics rest on."""
    if by == "lab":
        assert rows.labs is not None
        share = np.bincount(rows.codes) / rows.num_rows
        # a row is in the mini-batch; the others are drawn
        each = stats.binom.cdf(fewest - 2, batch_size - 1, share)
        left, worst = float(share @ each), int(each.argmax())
        severity = "fine" if left < LEFT_OUT else "warning" if left < 0.5 else "error"
        need = int(np.ceil(2 * fewest / share.min()))
        return Finding(
            name="few rows",
            severity=severity,
            sentence=(
                f"{_percent(left)} of the rows are left out, their laboratory having fewer than "
                f"{fewest} rows in a mini-batch of {batch_size}: of {rows.labs[worst]!r}, with "
                f"{_percent(share[worst])} of all rows, {_percent(each[worst])}"
            ),
            remedy=None if severity == "fine" else
            f"take mini-batches of {need:,}, or of one laboratory each",
            values={"left_out": left, "by_lab": each.tolist()},
        )  # fmt: skip
    rough = float(np.sqrt(0.5 / max(batch_size - 1, 0.5)))
    severity = "fine" if rough < ROUGH + 0.02 else "warning" if batch_size > 1 else "error"
    return Finding(
        name="few rows",
        severity=severity,
        sentence=(
            f"a mini-batch of {batch_size} knows a mean to {batch_size**-0.5:.2g} sd and a spread "
            f"to {_percent(rough)} (normal features); its variance is "
            f"{_percent(1 / batch_size)} smaller on average than that of all rows"
        ),
        remedy=None if severity == "fine" else "take more rows, or frozen statistics",
        values={"mean_error": batch_size**-0.5, "spread_error": rough},
    )


def _percent(share: float) -> str:
    """Two digits, but neither 1e+02 nor 8.2e-10."""
    if 0 < share < 1e-4:
        return "under 0.01 %"
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _constant(name: str, labs: Moments, rows: Rows, by: By) -> Finding:
    """Features that do not change, in all rows or in one laboratory."""
    used = labs if by != "batch" else labs.pooled()
    dead = np.sqrt(used.variance) <= ROUNDING * np.abs(used.mean)
    dead = dead[used.weight > 0]
    count, size = int(dead.any(axis=0).sum()), dead.shape[1]
    where = "" if by == "batch" else " in at least one laboratory"
    severity = "fine" if count == 0 else "note" if 2 * count < size else "warning"
    return Finding(
        name="constant",
        severity=severity,
        sentence=f"layer {name!r}: {count} of {size} features never change{where}",
        remedy=None if severity == "fine" else "they become 0 and carry nothing: leave them out",
        rows=f"all {rows.num_rows:,} rows",
        values={"layer": name, "features": np.flatnonzero(dead.any(axis=0)).tolist()},
    )


def _unknown_composition() -> Finding:
    return Finding(
        name="composition",
        severity="note",
        sentence="whether the laboratories have the same composition is not known",
        remedy="give types: where compositions differ, normalising by laboratory takes them off",
    )
