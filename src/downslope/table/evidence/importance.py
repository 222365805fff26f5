"""Permutation importance: the rise of the held-out loss when a column is permuted."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from typing import Any

import jax
import numpy as np

from downslope.data.ingest.encoding import Encoding
from downslope.estimate import Estimate
from downslope.report.journal import Record
from downslope.table.evidence.context import Context, RowSample, Skipped
from downslope.table.evidence.intervals import ends, mean_of_pairs

MAX_REPEATS, MIN_REPEATS = 4, 2
# Categories by which rows may be told apart, and so learned one by one: those of the most values.
MANY_CODES, MAX_MANY = 50, 3  # assumed
TIME_SHARE = 0.6  # of the time left when it begins: others come after it; assumed
NATS = ("logistic", "softmax")


def importance(context: Context) -> Record:
    """Rise of the held-out loss when a column's values go to other rows, by column.

    All numbers and codes of a column move together. A column whose content other columns hold
    too may seem useless by itself: those without effect are permuted all at once as well. Of
    categories of many values, `train` is the rise on training rows: far larger, it shows rows that
    were learned one by one.

    Source: Breiman 2001, section 10; Fisher, Rudin and Dominici 2019.
    """
    sample = context.held_out_sample()
    if sample.count < 3:
        raise Skipped("fewer than 3 held-out rows")
    before = context.losses(sample)
    if not np.isfinite(before[sample.weight > 0]).all():
        raise Skipped("the loss of a held-out row is not finite")
    places = column_places(context.model.encoding)
    order = sorted(places, key=_weights(context, sample, places), reverse=True)
    end = time.perf_counter() + TIME_SHARE * context.budget.left
    repeats = _repeats(context, sample, len(order), end)
    partners = _partners(sample.count, repeats)
    columns, rows = [], sample.rows.copy()
    for name in order:
        if time.perf_counter() > end and columns:
            break
        rises = _rises(context, sample, rows, before, places[name], partners)
        columns.append({"name": name, **ends(mean_of_pairs(rises, partners, sample.weight))})
    many = _many_coded(context)
    for column in columns:
        if column["name"] in many and time.perf_counter() < end:
            with contextlib.suppress(Skipped):  # a training row's loss is not finite
                found = _rise(context, context.train, places[column["name"]], repeats)
                column["train"] = ends(found)
    columns.sort(key=lambda column: -column["value"])
    idle = [column["name"] for column in columns if column["lo"] is not None and column["lo"] <= 0]
    together = None
    if len(idle) > 1:
        all_places = sorted(place for name in idle for place in places[name])
        rises = _rises(context, sample, rows, before, all_places, partners)
        together = ends(mean_of_pairs(rises, partners, sample.weight))
    return {
        "metric": "loss", "unit": "nats" if context.model.loss in NATS else "loss",
        "num_rows": int(np.count_nonzero(sample.weight)), "repeats": repeats,
        "columns": columns, "left_out": len(order) - len(columns), "idle_together": together,
    }  # fmt: skip


def _many_coded(context: Context) -> list[str]:
    """Names of the categories of the most values, if those are many."""
    tables = [t for t in context.model.lookups if t.num_slots == 1 and t.num_codes > MANY_CODES]
    return [t.name for t in sorted(tables, key=lambda t: -t.num_codes)[:MAX_MANY]]


def _rise(context: Context, sample: RowSample, places: list[int], repeats: int) -> Estimate:
    """Mean rise of the loss of a sample's rows when the values of these places are permuted."""
    partners, before = _partners(sample.count, repeats), context.losses(sample)
    rises = _rises(context, sample, sample.rows.copy(), before, places, partners)
    return mean_of_pairs(rises, partners, sample.weight)


def column_places(encoding: Encoding) -> dict[str, list[int]]:
    """Places of each column in a row: its numbers, its mark of absence, its codes."""
    owners = [column.name for column in encoding.dense for _ in column.parts]
    owners += [column.name for column in encoding.dense if column.indicator]
    owners += [table.name for table in encoding.tables for _ in range(table.num_slots)]
    found: dict[str, list[int]] = {}
    for place, name in enumerate(owners):
        found.setdefault(name, []).append(place)
    return found


def _repeats(context: Context, sample: RowSample, num_columns: int, end: float) -> int:
    begin = time.perf_counter()
    context.losses(sample)
    once = time.perf_counter() - begin
    fits = num_columns * MAX_REPEATS * once <= end - time.perf_counter()
    return MAX_REPEATS if fits else MIN_REPEATS


def _partners(count: int, repeats: int) -> np.ndarray:
    """Rows whose values each row is given, [repeats, count]; never its own."""
    rng = np.random.default_rng(0)
    partners = np.empty((repeats, count), np.int64)
    for row in partners:
        circle = rng.permutation(count)
        row[circle] = np.roll(circle, 1)
    return partners


def _rises(
    context: Context,
    sample: RowSample,
    rows: np.ndarray,
    before: np.ndarray,
    places: list[int],
    partners: Any,
) -> np.ndarray:
    """Loss of each row with its partner's values minus its own loss, [repeats, count].

    `rows` is a copy of the sample's, and is that again afterwards.
    """
    found = np.empty(partners.shape)
    for number, partner in enumerate(partners):
        rows[: sample.count, places] = sample.rows[np.ix_(partner, places)]
        found[number] = context.losses(sample, rows) - before
    rows[:, places] = sample.rows[:, places]
    return found


def _weights(context: Context, sample: RowSample, places: dict[str, list[int]]) -> Any:
    """Size of a column's part in the first layer, which orders the columns to try."""
    model, params = context.model, jax.device_get(context.params)
    params = params["linear"] if len(model.parts) > 1 else params
    if model.parts == ("net",):
        return _first_layer(context, params, places)
    tables = params.get("tables", params.get("embeddings"))
    first = params["weights"] if "weights" in params else params["layers"][0]["weights"]
    numbers, batch = model.encoding.num_numeric, sample.batch
    norms = np.linalg.norm(first[:numbers], axis=1) * np.std(batch.x, axis=0)
    sizes, at = {}, numbers
    for table in model.lookups:
        slots = batch.codes[:, table.first_slot : table.first_slot + table.num_slots]
        entries = tables[table.name][np.clip(slots[:512], 0, table.num_codes - 1)].sum(axis=1)
        if "embeddings" in params:
            entries = entries @ first[at : at + entries.shape[1]]
            at += tables[table.name].shape[1]
        sizes[table.name] = float(np.linalg.norm(np.std(entries, axis=0)))
    return lambda name: (
        sizes.get(name, 0.0)
        or float(np.linalg.norm(norms[[p for p in places[name] if p < numbers]]))
    )


def _first_layer(context: Context, params: Any, places: dict[str, list[int]]) -> Any:
    """Size of the weights of a net's inputs that come from a column."""
    inputs = context.model.net.inputs_of
    sizes = np.square(params["scale"][..., None] * params["layers"][0]["weights"]).sum((0, 2))
    numbers = context.model.encoding.num_numeric
    owners = {place: name for name, held in places.items() for place in held if place < numbers}
    found: defaultdict[str, float] = defaultdict(float)
    for size, owner in zip(sizes, inputs, strict=True):
        found[owner if isinstance(owner, str) else owners[owner]] += float(size)
    return found.__getitem__
