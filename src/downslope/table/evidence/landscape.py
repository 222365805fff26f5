"""The loss around the end point, the way to it, and the training rows that make it noisy."""

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
from downslope.table.evidence.line_scan import (
    compile_quickly,
    cut,
    hessian_program,
    random_direction,
    sharpest_direction,
)
from downslope.table.evidence.scene import LeftOut, Scene
from downslope.table.evidence.spread import mean_of
from downslope.table.measure import find_rows
from downslope.train.trajectory import path_of

PRODUCTS, FEWEST_PRODUCTS = 16, 4
PRODUCT_ROWS = 1024  # behind the sharp direction; its curvature is taken on all rows
SHARE = 0.35  # of the time that is left, for products: later ones cost more; assumed
POINTS, FEWEST_POINTS_OF_CUT = 21, 11
NOISY_ROWS, FEWEST_ROWS = 512, 100  # below, one per cent of them is less than a row
CHUNK_NUMBERS = 4_000_000  # of gradients held at once, 16 MB
ALL_NUMBERS = 100_000_000  # of gradients in all: 0.3 s (measured)
SHOWN_ROWS = 20
NAMED_ROWS = 100_000  # of a table that is searched for the rows shown: 0.2 s (measured)
PATH_POINTS = 200
FEWEST_POINTS = 3


def around(scene: Scene) -> Record:
    """The loss of training rows, without penalties, along a sharp and a random direction."""
    sample = scene.train
    leaves, structure = jax.tree.flatten(jax.device_get(scene.params))
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves]).astype(np.float64)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def losses(place: np.ndarray) -> np.ndarray:
        parts = np.split(place.astype(np.float32), ends)
        parts = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        params = jax.tree.unflatten(structure, parts)
        return scene.losses(sample, params=params) * sample.weight

    found = _sharpest(scene, flat)
    sharp, bend = (None, None) if isinstance(found, str) else found
    directions = {"sharpest": sharp, "random": random_direction(flat.size, seed=0)}
    in_time = 2 * (POINTS + 3) * _seconds_of(lambda: losses(flat)) < scene.budget.left
    cuts = [
        {"name": name}
        | cut(
            losses, flat, direction, curvature=bend,
            estimate=lambda values: mean_of(values, None),
            num_points=POINTS if in_time else FEWEST_POINTS_OF_CUT,
        ).to_json()
        for name, direction in directions.items()
        if direction is not None
    ]  # fmt: skip
    for each in cuts:  # no loss lies below 0, nor does its interval
        each["lo"] = [None if lo is None else max(0.0, lo) for lo in each["lo"]]
    return {
        "directions": cuts, "unit": "loss", "num_rows": sample.count, "rows": "training rows",
        "position_unit": "of the parameters' norm" if flat.any() else "parameter",
        "left_out": f"the sharpest direction: {found}" if isinstance(found, str) else None,
    }  # fmt: skip


def _sharpest(scene: Scene, flat: np.ndarray) -> tuple[np.ndarray, float] | str:
    """The sharpest direction for some of the rows, by as many products as there is time for."""
    unravel = ravel_pytree(scene.params)[1]
    rows = jax.device_put(scene.train.rows[: min(scene.train.count, PRODUCT_ROWS)])

    def mean_loss(flat: Any, rows: Any) -> Any:
        batch = scene.train.unpack(rows)
        return scene.model.loss_fn(unravel(flat), batch, jax.random.key(0)).mean()

    with scene.budget.free():
        product = hessian_program(mean_loss, flat.astype(np.float32), rows)
    look = functools.partial(sharpest_direction, product, flat.size, seed=0)
    took = _seconds_of(lambda: look(num_products=2)) / 2
    num = int(min(PRODUCTS, SHARE * scene.budget.left / took))
    if num < min(FEWEST_PRODUCTS, flat.size):
        return "there was no time left to look for it"
    return look(num_products=num)


def _seconds_of(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return max(time.perf_counter() - begin, 1e-6)


def path(scene: Scene) -> Record:
    """Where the parameters went, on the two directions in which they moved most."""
    if scene.was_solved:
        raise LeftOut("the run was solved without a step")
    try:
        found = path_of(scene.run)
    except DataError as error:
        raise LeftOut(str(error)) from error
    if found is None:
        raise LeftOut("the run kept no path: its steps were not measured")
    steps, points = found
    if len(steps) < FEWEST_POINTS:
        raise LeftOut(f"the run was too short: {len(steps)} points of its path were kept")
    principal = principal_path(points, steps, 2)
    if len(principal.shares) < 2:
        raise LeftOut("the parameters did not move")
    shown = np.unique(np.linspace(0, len(steps) - 1, PATH_POINTS).astype(int))
    return {
        "steps": steps[shown].tolist(),
        "points": principal.coordinates[shown].tolist(),
        "shares": principal.shares.tolist(),
    }


def noisy_rows(scene: Scene) -> Record:
    """Which of some training rows carry the gradient's noise: |g_i - mean|^2 over their sum."""
    dim = sum(leaf.size for leaf in jax.tree.leaves(scene.params))
    most = min(NOISY_ROWS, scene.train.count, ALL_NUMBERS // dim)
    chunk = max(1, min(most, CHUNK_NUMBERS // dim))
    count = most // chunk * chunk
    if count < FEWEST_ROWS:
        few = f"needs {FEWEST_ROWS} training rows; there are {scene.train.count}"
        large = f"the gradient of a row has {dim:,} numbers: it would take too long"
        raise LeftOut(few if scene.train.count < FEWEST_ROWS else large)
    rows = scene.train.rows[:count]
    distances = np.asarray(_distances(scene, rows, chunk), np.float64)  # host sync
    if not np.isfinite(distances).all():
        raise LeftOut("the gradient of a row is not finite")
    if not distances.sum() > 0:
        raise LeftOut("the gradients of all rows are the same")
    held = concentration(np.sqrt(distances))
    order = np.argsort(-distances)[:SHOWN_ROWS]
    percent = held.top_percent_share
    share = {"value": percent.value, "lo": percent.lo, "hi": percent.hi}
    names, of = _numbers(scene, rows[order])
    shown = [
        {"row": int(name), "share": float(distances[place] / distances.sum())}
        for name, place in zip(order if names is None else names, order, strict=True)
    ]
    top = {"one_percent": percent.value}
    return {"rows": shown, "rows_of": of, "top_share": top, "one_percent": share, "num_rows": count}


def _distances(scene: Scene, rows: np.ndarray, chunk: int) -> Any:
    """Squared distance of each row's gradient from their mean, [n]."""
    unpack, model = scene.train.unpack, scene.model

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

    with scene.budget.free():
        program = compile_quickly(distances, scene.params, rows)
    return program(scene.params, rows)


def _numbers(scene: Scene, rows: np.ndarray) -> tuple[np.ndarray | None, str]:
    """The rows' numbers in the table, where that is quick to find; and what they count."""
    table = scene.stored
    if table.num_train + table.num_held_out <= NAMED_ROWS and scene.path is not None:
        found = find_rows(scene.path, scene.model.encoding, rows)
        if (found >= 0).all():
            return found + 1, "the table, counted from 1"  # as where a row is refused
    return None, "the shuffled training rows, counted from 0"
