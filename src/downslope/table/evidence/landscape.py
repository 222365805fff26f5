"""The loss around the end point, the trajectory to it, and the rows that carry its noise."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from downslope import DataError
from downslope.noise.tails import concentration
from downslope.noise.trajectory import principal_path
from downslope.report.journal import Record
from downslope.table.evidence.context import Context, Skipped
from downslope.table.evidence.intervals import ends, mean_of
from downslope.table.evidence.line_scan import (
    compile_quickly,
    hessian_program,
    random_direction,
    scan_line,
    sharpest_direction,
)
from downslope.table.evidence.predictions import probabilities_of
from downslope.table.rows import find_rows
from downslope.train.trajectory import path_of

MAX_PRODUCTS, MIN_PRODUCTS = 16, 4
PRODUCT_ROWS = 1024  # behind the sharp direction; its curvature is taken on all rows
PRODUCTS_TIME_SHARE = 0.35  # of the time left, for products: later ones cost more; assumed
MAX_SCAN_POINTS, MIN_SCAN_POINTS = 21, 11
MAX_NOISY_ROWS, MIN_NOISY_ROWS = 512, 100  # below, one per cent of them is less than a row
CHUNK_NUMBERS = 4_000_000  # of gradients held at once, 16 MB
ALL_NUMBERS = 100_000_000  # of gradients in all: 0.3 s (measured)
SHOWN_ROWS = 20
SURPRISING = 1e-3  # probability of a row's class
NAMED_ROWS = 100_000  # of a table that is searched for the rows shown: 0.2 s (measured)
MAX_PATH_POINTS, MIN_PATH_POINTS = 200, 3


def line_scans(context: Context) -> Record:
    """Loss of training rows, without penalties, along a sharp and a random direction."""
    sample = context.train
    leaves, structure = jax.tree.flatten(jax.device_get(context.params))
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves]).astype(np.float64)
    splits = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def losses(place: np.ndarray) -> np.ndarray:
        parts = np.split(place.astype(np.float32), splits)
        parts = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        params = jax.tree.unflatten(structure, parts)
        return context.losses(sample, params=params) * sample.weight

    found = _sharpest(context, flat)
    sharp, bend = (None, None) if isinstance(found, str) else found
    directions = {"sharpest": sharp, "random": random_direction(flat.size)}
    in_time = 2 * (MAX_SCAN_POINTS + 3) * _seconds_of(lambda: losses(flat)) < context.budget.left
    scans = [
        {"name": name}
        | scan_line(
            losses, flat, direction, curvature=bend,
            estimate=lambda values: mean_of(values, None),
            num_points=MAX_SCAN_POINTS if in_time else MIN_SCAN_POINTS,
        )
        for name, direction in directions.items()
        if direction is not None
    ]  # fmt: skip
    for each in scans:  # no loss lies below 0, nor does its interval
        each["lo"] = [None if lo is None else max(0.0, lo) for lo in each["lo"]]
    return {
        "directions": scans, "unit": "loss", "num_rows": sample.count, "rows": "training rows",
        "position_unit": "of the parameters' norm" if flat.any() else "parameter",
        "left_out": f"the sharpest direction: {found}" if isinstance(found, str) else None,
    }  # fmt: skip


def _sharpest(context: Context, flat: np.ndarray) -> tuple[np.ndarray, float] | str:
    """The sharpest direction for some of the rows, by the products that there is time for."""
    unravel = ravel_pytree(context.params)[1]
    rows = jax.device_put(context.train.rows[: min(context.train.count, PRODUCT_ROWS)])

    def mean_loss(flat: Any, rows: Any) -> Any:
        batch = context.train.unpack(rows)
        return context.model.loss_fn(unravel(flat), batch, jax.random.key(0)).mean()

    with context.budget.free():
        product = hessian_program(mean_loss, flat.astype(np.float32), rows)
    sharpest = functools.partial(sharpest_direction, product, flat.size)
    took = _seconds_of(lambda: sharpest(num_products=2)) / 2
    num = int(min(MAX_PRODUCTS, PRODUCTS_TIME_SHARE * context.budget.left / took))
    if num < min(MIN_PRODUCTS, flat.size):
        return "there was no time left to look for it"
    return sharpest(num_products=num)


def _seconds_of(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return max(time.perf_counter() - begin, 1e-6)


def trajectory(context: Context) -> Record:
    """The parameters' trajectory in the two directions in which they moved most."""
    if context.was_solved:
        raise Skipped("the run was solved without a step")
    try:
        found = path_of(context.run)
    except DataError as error:
        raise Skipped(str(error)) from error
    if found is None:
        raise Skipped("the run kept no path: its steps were not measured")
    steps, points = found
    if len(steps) < MIN_PATH_POINTS:
        raise Skipped(f"the run was too short: {len(steps)} points of its path were kept")
    principal = principal_path(points, steps, 2)
    if len(principal.shares) < 2:
        raise Skipped("the parameters did not move")
    shown = np.unique(np.linspace(0, len(steps) - 1, MAX_PATH_POINTS).astype(int))
    return {
        "steps": steps[shown].tolist(),
        "points": principal.coordinates[shown].tolist(),
        "shares": principal.shares.tolist(),
    }


def noisy_rows(context: Context) -> Record:
    """Share of each training row in the gradient's noise: |g_i - mean|^2 over their sum."""
    dim = sum(leaf.size for leaf in jax.tree.leaves(context.params))
    most = min(MAX_NOISY_ROWS, context.train.count, ALL_NUMBERS // dim)
    chunk = max(1, min(most, CHUNK_NUMBERS // dim))
    count = most // chunk * chunk
    if count < MIN_NOISY_ROWS:
        few = f"needs {MIN_NOISY_ROWS} training rows; there are {context.train.count}"
        large = f"the gradient of a row has {dim:,} numbers: it would take too long"
        raise Skipped(few if context.train.count < MIN_NOISY_ROWS else large)
    rows = context.train.rows[:count]
    distances = np.asarray(_distances(context, rows, chunk), np.float64)  # host sync
    if not np.isfinite(distances).all():
        raise Skipped("the gradient of a row is not finite")
    if not distances.sum() > 0:
        raise Skipped("the gradients of all rows are the same")
    held = concentration(np.sqrt(distances))
    order = np.argsort(-distances)[:SHOWN_ROWS]
    share = held.top_percent_share
    names, of = _numbers(context, rows[order])
    shown = [
        {"row": int(name), "share": float(distances[place] / distances.sum())}
        for name, place in zip(order if names is None else names, order, strict=True)
    ]
    return {
        "rows": shown, "rows_of": of, "top_share": {"one_percent": share.value},
        "one_percent": ends(share), "num_rows": count, "surprise": _surprise(context),
    }  # fmt: skip


def _surprise(context: Context) -> Record | None:
    """Rows whose class the model holds for all but impossible, and how many it expects itself.

    Rows of a rare class carry much of the noise too, and nothing is wrong with them.
    """
    if context.model.encoding.task == "regress" or context.model.has_margins:
        return None
    p = probabilities_of(context, context.outputs(context.train))
    y = np.asarray(context.train.batch.y).astype(int)
    return {
        "below": SURPRISING,
        "observed": int((p[np.arange(len(y)), y] < SURPRISING).sum()),
        "expected": float(np.where(p < SURPRISING, p, 0.0).sum()),
    }


def _distances(context: Context, rows: np.ndarray, chunk: int) -> Any:
    """Squared distance of each row's gradient from their mean, [n]."""
    unpack, model = context.train.unpack, context.model

    def mean_loss(params: Any, rows: Any) -> Any:
        return model.loss_fn(params, unpack(rows), jax.random.key(0)).mean()

    def distances(params: Any, rows: Any) -> Any:
        middle = jax.grad(mean_loss)(params, rows)

        def one(row: Any) -> Any:
            gaps = jax.tree.map(
                lambda g, m: ((g - m) ** 2).sum(), jax.grad(mean_loss)(params, row[None]), middle
            )
            return sum(jax.tree.leaves(gaps))

        parts = rows.reshape(-1, chunk, rows.shape[1])
        return jax.lax.map(jax.vmap(one), parts).reshape(-1)

    with context.budget.free():
        program = compile_quickly(distances, context.params, rows)
    return program(context.params, rows)


def _numbers(context: Context, rows: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Numbers of the rows in the table, where that is quick to find; and what they count."""
    table = context.stored
    if table.num_train + table.num_held_out <= NAMED_ROWS and context.path is not None:
        found = find_rows(context.path, context.model.encoding, rows)
        if (found >= 0).all():
            return found + 1, "the table, counted from 1"  # as where a row is refused
    return None, "the shuffled training rows, counted from 0"
