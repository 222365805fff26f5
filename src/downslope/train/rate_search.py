"""The first learning rate: short trials from one start, of which the best is gone on with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from downslope.choose.decision import Decision
from downslope.choose.learning_rate import first_rate, next_trial, settle_rate
from downslope.data.stream import Replay
from downslope.noise.curvature import extreme_eigenvalues, hessian_product
from downslope.step.state import Knobs
from downslope.train.flight import Flight, Held
from downslope.train.measure import sample
from downslope.train.setup import Engine

REPLAYED_BYTES = 32 << 20  # of rows, at most, kept for the next trial
BUDGET_SHARE = 0.25  # of the time budget, after which no further trial begins
CURVATURE_ROWS = 1024  # of a sample, for lambda_max
PRODUCTS = 12  # enough for a factor, which is all that the start of a search needs
OF_THE_LOSS = ("sgd", "momentum", "nesterov")  # rules whose rates have the loss's scale


def race(
    flight: Flight, knobs: Knobs, first: float, steps: int, interrupted: Callable[[], bool]
) -> Decision | None:
    """Tries rates by `steps` updates each over the same rows, and goes on from the best one's end.

    A trial costs its updates once: the winner's are kept. Where a quarter of the time budget is
    used up, the trials made until then decide. Returns None where every rate diverged, or when
    interrupted; the run then stands where it began.
    """
    budget = flight.training.seconds

    def stops() -> bool:
        if interrupted() or budget is None:
            return interrupted()
        compiling = flight.compile_seconds or 0.0  # it has to be paid once, whatever is tried
        return flight.seconds - compiling > BUDGET_SHARE * max(0.0, budget - compiling)

    start = flight.hold()
    with _rows(flight, steps) as rows:
        losses, best = _trials(flight, knobs, first, steps, rows, start, stops)
    if not losses or interrupted():
        flight.return_to(start)
        return None
    decision = settle_rate(
        first=first, rates=tuple(losses), losses=tuple(losses.values()), steps=steps
    )
    flight.return_to(start if decision is None else best)
    flight.run.last = flight.mark()
    return decision


def _trials(
    flight: Flight,
    knobs: Knobs,
    first: float,
    steps: int,
    rows: Replay | None,
    start: Held,
    stops: Callable[[], bool],
) -> tuple[dict[float, float], Held]:
    """Losses by rate, of whole trials only but for the first, and where the best of them ended."""
    losses: dict[float, float] = {}
    best = start
    while (rate := next_trial(first, losses)) is not None and not (losses and stops()):
        if losses:
            flight.return_to(start)
        flight.fly(knobs._replace(learning_rate=np.float32(rate)), steps, stops, rows)
        if stops() and losses:
            break  # cut short: nothing to compare
        losses[rate] = _end_loss(flight)
        if losses[rate] <= min(losses.values()) and math.isfinite(losses[rate]):
            best = flight.hold()
    return losses, best


def _rows(flight: Flight, steps: int) -> contextlib.AbstractContextManager[Replay | None]:
    """The rows of a trial, kept for those after it where they are few, else None."""
    source, rows = flight.engine.source, steps * flight.gear.batch_rows
    if flight.engine.num_rows is None or rows * source.row_bytes > REPLAYED_BYTES:
        return contextlib.nullcontext()
    return Replay(flight.open())


def _end_loss(flight: Flight) -> float:
    """Mean training loss of a trial's last updates, infinite where it went wrong."""
    losses = list(flight.tally.last_losses)
    mean = float(np.mean(losses)) if flight.healthy and losses else math.inf
    return mean if math.isfinite(mean) else math.inf


def search_begins_at(engine: Engine) -> float | None:
    """The rate to try first; None where the optimizer holds its own or does not ask for one.

    For plain and momentum descent it comes from the curvature at the start, where that can be
    measured: their rates have the loss's scale. A loss without curvature at its start, such as
    the hinge, leaves the rate that the configuration names.
    """
    rule = engine.optimizer
    if rule.learning_rate is None or rule.name == "prodigy":
        return None
    if rule.name not in OF_THE_LOSS:
        return rule.learning_rate
    eigenvalue = _largest_eigenvalue(engine)
    if eigenvalue is None:
        return rule.learning_rate
    return first_rate(
        largest_eigenvalue=eigenvalue,
        momentum=engine.training.momentum if rule.name != "sgd" else 0.0,
        noise_scale=0.0,  # at the start it is small, and no guide to what comes
        batch_size=engine.gear.batch_rows,
    )


def _largest_eigenvalue(engine: Engine) -> float | None:
    """lambda_max of the loss at the start on a sample of rows, or None where it has none."""
    rows, _ = sample(engine.source, CURVATURE_ROWS, engine.training.seed)

    def mean_loss(params: Any, rows: Any) -> Any:
        return engine.row_losses(params, rows).mean()

    product = hessian_product(mean_loss, engine.params, rows)
    dim = sum(leaf.size for leaf in jax.tree.leaves(engine.params))
    try:
        spectrum = extreme_eigenvalues(
            product, dim, num_products=min(dim, PRODUCTS), key=engine.training.seed
        )
    except Exception:  # a loss may have a gradient and no second derivative: that is no fault
        return None
    value = spectrum.lambda_max.value
    return value if value is not None and math.isfinite(value) and value > 0 else None
