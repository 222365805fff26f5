"""Direct solution of an exact convex quadratic, instead of training."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax

from downslope.check.problem import Problem, wide
from downslope.check.quadratics import examine
from downslope.check.row_sums import SAMPLE_ROWS, OutOfTimeError, RowSums
from downslope.check.solver import DENSE_DIM, Solution, solve
from downslope.check.structure import may_be_quadratic
from downslope.choose.decision import Decision
from downslope.choose.solving import asks_for_search, solve_or_search
from downslope.config import Training
from downslope.data.generator import Generator
from downslope.errors import StopReason
from downslope.train.result import Result
from downslope.train.run_folder import RunFolder
from downslope.train.setup import TrainSetup
from downslope.train.sources import sample

SOLVING_SHARE = 0.5  # share of the time budget; the rest is left for training


class Solvable(NamedTuple):
    """Decision to solve, and what is compiled for it."""

    decision: Decision
    sums: RowSums


def can_solve(setup: TrainSetup, asked: Training) -> Solvable | None:
    """Decide whether to solve directly; None to train."""
    if asks_for_search(asked) or isinstance(setup.source, Generator):
        return None
    if setup.interacts or not setup.objective.separable:
        return None
    problem = Problem(
        objective=setup.objective,
        params=setup.params,
        source=setup.source,
        regularizer=setup.regularizer,
    )
    rows, _ = sample(setup.source, SAMPLE_ROWS, asked.seed)
    try:
        if not may_be_quadratic(setup.objective, setup.params, rows):
            return None
        with wide():
            sums = RowSums(problem)
            found = examine(sums, rows)
    except Exception:  # a loss may have a gradient but no second derivative
        return None
    assert setup.num_rows is not None
    decision = solve_or_search(
        num_rows=setup.num_rows,
        dim=sums.start.size,
        most_dim=DENSE_DIM,
        is_convex=found.is_solvable,
    )
    return decision and Solvable(decision, sums)


def solved(setup: TrainSetup, solvable: Solvable, run: RunFolder) -> Result | None:
    """Result of a run that was solved, or None if the solution has no proof: then it is trained.

    The journal gets the decision, the certificate and the held-out metrics.
    """
    run.journal.write("started", step=0, shuffling="the rows are read in stored order")
    run.journal.write("decided", step=0, seconds=0.0, **solvable.decision.to_json())
    limit = setup.training.seconds
    seconds = math.inf if limit is None else SOLVING_SHARE * limit
    try:
        with wide():
            found = solve(solvable.sums, seconds=seconds)
    except OutOfTimeError:
        because = f"it was not solved within {seconds:.3g} s, half of the time given"
        run.journal.write("not solved", step=0, because=because)
        return None
    except (NotImplementedError, TypeError):  # no second derivative
        return None
    run.journal.write("solved", step=0, seconds=found.seconds, **_plain(found))
    if not found.is_solved:
        return None
    params = jax.device_put(found.params)
    validation = None if setup.evaluate is None else setup.evaluate(params)
    if validation is not None:
        run.journal.write(
            "evaluated",
            step=0,
            epoch=found.num_passes,
            seconds=found.seconds,
            metrics={name: estimate.to_json() for name, estimate in validation.items()},
            missing=validation.reasons,
        )
    assert setup.num_rows is not None
    return Result(
        params=setup.model(jax.device_get(params)),
        stop_reason=StopReason.SOLVED,
        history=[r for r in run.journal.records if r["event"] != "started"],
        validation=validation,
        train_loss=found.loss,
        num_steps=0,
        num_examples=found.num_passes * setup.num_rows,
        num_epochs=float(found.num_passes),
        batch_size=setup.num_rows,
        optimizer="solve",
        seconds=found.seconds,
        shuffling="the rows are read in stored order",
        run=run.folder,
    )


def _plain(found: Solution) -> dict[str, Any]:
    left_out = ("params", "seconds")
    names = [f.name for f in dataclasses.fields(found) if f.name not in left_out]
    return {name: getattr(found, name) for name in names}
