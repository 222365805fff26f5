"""The rows behind the noise: which of them carry it, and the order in which they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from downslope.noise.order import is_ordered
from downslope.noise.order.batches import MIN_BATCHES
from downslope.noise.survey.point import Extras, Point
from downslope.noise.survey.record import NotMeasured, Section, in_percent
from downslope.noise.tails import clipping_bias, deviation_norms, tail_report

SHOWN_ROWS = 10  # of the noisiest


def tails(point: Point, extras: Extras) -> Section:
    """Rows that carry the noise, and how heavy its tails are."""
    g = point.gradients
    report = tail_report(deviation_norms(g))
    held = report.concentration
    what = "batches" if point.settings.interacts else "rows"
    top = _named(np.asarray(held.rows[:SHOWN_ROWS], int), point, extras)
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(g, axis=1)
    records = {
        "top_share": held.top_share,
        "top_percent_share": held.top_percent_share,
        "tail_index": report.alpha,
        "vuong": report.vuong,
    }
    threshold = float(np.percentile(norms, 90))
    if threshold > 0:
        bias = clipping_bias(g, threshold)
        records["cosine_if_the_longest_tenth_were_clipped"] = bias.cosine
        records["norm_ratio_if_the_longest_tenth_were_clipped"] = bias.norm_ratio
    tables: dict[str, Any] = {f"top_{what}": top, "verdict": str(report.verdict)}
    if report.curve is not None:
        tables["hill_curve"] = vars(report.curve)
    sentences = [report.sentence]
    if top:
        sentences.append(
            f"the noisiest 1 % of {what} carry {in_percent(held.top_percent_share)} of the noise; "
            f"the noisiest {what}, counted from 0: {', '.join(map(str, top))}"
        )
    return Section(title="Tails", sentences=tuple(sentences), records=records, tables=tables)


def _named(places: np.ndarray, point: Point, extras: Extras) -> list[int]:
    """Numbers of the units at these places of the sample."""
    numbers = extras.row_numbers
    if numbers is None or point.settings.interacts or not len(places):
        return places.tolist()
    return np.asarray(numbers(places) if callable(numbers) else numbers[places]).tolist()


def order(point: Point, extras: Extras) -> Section:
    """Order of the stored rows, and of the rows as training visits them."""
    if not extras.columns and extras.labels is None:
        raise NotMeasured("the order of the stored rows was not given")
    sentences, records, tables = [], {}, {}
    for when, columns, labels in (
        ("as stored", extras.columns, extras.labels),
        ("as training visits it", extras.visited, None),
    ):
        if not columns and labels is None:
            continue
        size = _batch_size(point.settings.batch_size, columns, labels)
        found = is_ordered(columns, size, labels=labels)
        sentences.append(f"{when}, in batches of {size:,}: {found.sentence}")
        ratios = found.variance_ratios
        shown = {name for name in (found.worst, "labels") if name in ratios}
        records |= {f"{when}: {name}": ratios[name] for name in sorted(shown)}
        tables[when] = {name: ratio.value for name, ratio in ratios.items()}
    return Section(title="Order", sentences=tuple(sentences), records=records, tables=tables)


def _batch_size(batch_size: int, columns: Mapping[str, Any], labels: Any) -> int:
    """The batch of training, or a smaller one where there are not 20 of it."""
    num_rows = min(len(c) for c in [*columns.values(), *([] if labels is None else [labels])])
    return max(2, min(batch_size, num_rows // MIN_BATCHES))
