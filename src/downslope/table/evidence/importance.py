"""Which columns the model needs: how much the held-out loss rises when one is permuted."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from downslope.data.ingest.encoding import Encoding
from downslope.report.journal import Record
from downslope.table.evidence.scene import LeftOut, Sample, Scene
from downslope.table.evidence.spread import mean_of_pairs
from downslope.table.fit import TableModel

REPEATS, FEWEST_REPEATS = 4, 2
SHARE = 0.6  # of the time that is left when it begins: others come after it; assumed
NATS = ("logistic", "softmax")


def importance(scene: Scene) -> Record:
    """Rise of the held-out loss as a column's values are handed to other rows, by column.

    All numbers and codes that a column became are handed on together. A column whose content
    others hold too may seem useless by itself.

    Source: Breiman 2001, section 10; Fisher, Rudin and Dominici 2019.
    """
    sample = scene.held()
    if sample.count < 3:
        raise LeftOut("fewer than 3 held-out rows")
    before = scene.losses(sample)
    if not np.isfinite(before[sample.weight > 0]).all():
        raise LeftOut("the loss of a held-out row is not finite")
    places = column_places(scene.model.encoding)
    order = sorted(places, key=_weights(scene.model, scene.params, sample, places), reverse=True)
    end = time.perf_counter() + SHARE * scene.budget.left
    repeats = _repeats(scene, sample, len(order), end)
    partners = _partners(sample.count, repeats)
    columns, rows = [], sample.rows.copy()
    for name in order:
        if time.perf_counter() > end and columns:
            break
        rises = _rises(scene, sample, rows, before, places[name], partners)
        columns.append({"name": name, **mean_of_pairs(rises, partners, sample.weight)})
    columns.sort(key=lambda column: -column["value"])
    return {
        "metric": "loss", "unit": "nats" if scene.model.loss in NATS else "loss",
        "num_rows": int(np.count_nonzero(sample.weight)), "repeats": repeats,
        "columns": columns, "left_out": len(order) - len(columns),
    }  # fmt: skip


def column_places(encoding: Encoding) -> dict[str, list[int]]:
    """Where in a row each column of the table stands: its numbers, its mark of absence, its codes.

    Example:
        >>> column_places(Encoding.from_json({"task": "regress", "ignored": [],
        ...     "target": {"name": "y", "type": "double", "classes": []}, "columns": [
        ...     {"kind": "number", "name": "a", "type": "double", "center": 0, "exponent": 0,
        ...      "mean": 0.0, "scale": 1.0, "indicator": False},
        ...     {"kind": "text", "name": "b", "type": "string", "slots": 2}]}))
        {'a': [0], 'b': [1, 2]}
    """
    dense = [c for c in encoding.columns if c.kind not in ("category", "text")]
    found: dict[str, list[int]] = {}
    at = 0
    for column in dense:
        width = len(getattr(column, "parts", ("",)))
        found[column.name] = list(range(at, at + width))
        at += width
    for column in dense:
        if column.indicator:  # type: ignore[union-attr]
            found[column.name].append(at)
            at += 1
    for table in encoding.tables:
        first = encoding.num_numeric + table.first_slot
        found[table.name] = list(range(first, first + table.num_slots))
    return found


def _repeats(scene: Scene, sample: Sample, num_columns: int, end: float) -> int:
    begin = time.perf_counter()
    scene.losses(sample)
    once = time.perf_counter() - begin
    fits = num_columns * REPEATS * once <= end - time.perf_counter()
    return REPEATS if fits else FEWEST_REPEATS


def _partners(count: int, repeats: int) -> np.ndarray:
    """[repeats, count]: whose values each row is given; never its own."""
    rng = np.random.default_rng(0)
    partners = np.empty((repeats, count), np.int64)
    for row in partners:
        circle = rng.permutation(count)
        row[circle] = np.roll(circle, 1)
    return partners


def _rises(
    scene: Scene,
    sample: Sample,
    rows: np.ndarray,
    before: np.ndarray,
    places: list[int],
    partners: Any,
) -> np.ndarray:
    """[repeats, count]: the loss of each row with its partner's values, less its own.

    `rows` is a copy of the sample's, and is that again afterwards.
    """
    found = np.empty(partners.shape)
    for number, partner in enumerate(partners):
        rows[: sample.count, places] = sample.rows[np.ix_(partner, places)]
        found[number] = scene.losses(sample, rows) - before
    rows[:, places] = sample.rows[:, places]
    return found


def _weights(model: TableModel, params: Any, sample: Sample, places: dict[str, list[int]]) -> Any:
    """How much of the first layer a column moves: only the order in which columns are tried."""
    params = jax.device_get(params)
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
