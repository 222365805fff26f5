"""The context of all evidence: the trained model, samples of rows, time left, one program."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from downslope.data.stored import RowFile, StoredTable, TableBatch
from downslope.table.model import TableModel
from downslope.table.run import TrainedModel

MAX_ROWS = 4096  # held-out rows used
MIN_TRAIN_ROWS = 1024  # else as many training rows as held-out ones, for one program
MIN_ROWS = 2  # for an interval
MAX_CELLS = 8_000_000  # numbers of a sample, 32 MB, where the table is wide
NO_HELD_OUT = "no rows were held out"


class Skipped(Exception):
    """The reason why a subject was skipped."""


class Budget:
    """The time left; time spent inside `free` does not count."""

    def __init__(self, seconds: float):
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds, below 0 once they are spent."""
        return self._end - time.perf_counter()

    @contextlib.contextmanager
    def free(self) -> Iterator[None]:
        """Do not count the time inside: compiling."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._end += time.perf_counter() - begin


@dataclass(frozen=True, kw_only=True)
class RowSample:
    """Random rows of one part of the table."""

    rows: np.ndarray  # [size, width], the size of the common program; repeated beyond `count`
    count: int
    weight: np.ndarray  # [count], mean 1 over the training rows
    unpack: Callable[[Any], TableBatch]

    @property
    def batch(self) -> TableBatch:
        """The rows that count."""
        return self.unpack(self.rows[: self.count])


@dataclass(frozen=True, kw_only=True)
class Context:
    """A trained model and rows to examine."""

    run: Path
    path: str | None  # of the table; None for a data frame
    model: TableModel
    params: Any
    calibration: Any
    stored: StoredTable
    held_out: RowSample | None
    train: RowSample
    budget: Budget
    program: Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]]  # outputs and losses
    was_solved: bool  # without a step
    run_seconds: float  # that the training took

    def held_out_sample(self) -> RowSample:
        """The held-out rows.

        Raises:
            Skipped: there are none, or too few.
        """
        if self.held_out is None:
            raise Skipped(NO_HELD_OUT)
        count = np.count_nonzero(self.held_out.weight)
        if count < MIN_ROWS:
            raise Skipped(f"needs {MIN_ROWS} held-out rows of a weight above 0; there are {count}")
        return self.held_out

    def outputs(self, sample: RowSample) -> np.ndarray:
        """Outputs of the trained model [count, ...], float64."""
        found = self.program(self.params, sample.rows)[0]
        return _finite(found[: sample.count].astype(np.float64), "the model's outputs")

    def losses(self, sample: RowSample, rows: np.ndarray | None = None, params: Any = None) -> Any:
        """Loss of each row [count], float64, without its weight; of other rows or parameters."""
        rows = sample.rows if rows is None else rows
        found = self.program(self.params if params is None else params, rows)[1]
        return found[: sample.count].astype(np.float64)


def make_context(
    run: Path,
    path: str | None,
    trained: TrainedModel,
    stored: StoredTable,
    budget: Budget,
    *,
    was_solved: bool,
    run_seconds: float,
) -> Context:
    """The context of a run: reads the rows and compiles the program.

    Raises:
        Skipped: the parameters are not finite.
    """
    model, params, calibration = trained.model, trained.params, trained.calibration
    for leaf in jax.tree.leaves(params):
        _finite(leaf, "the parameters")
    most = max(MIN_ROWS, min(MAX_ROWS, MAX_CELLS // model.encoding.width))
    held = None if stored.held_out is None else _sample(stored.held_out, most)
    num_held = 0 if held is None else held.count
    train = _sample(stored.train, min(most, max(MIN_TRAIN_ROWS, num_held)))
    size = max(train.count, num_held)
    train, held = _filled(train, size), held and _filled(held, size)
    return Context(
        run=run, path=path, model=model, params=jax.device_put(params), calibration=calibration,
        stored=stored, held_out=held, train=train, budget=budget,
        program=_program(model, params, train, budget), was_solved=was_solved,
        run_seconds=run_seconds,
    )  # fmt: skip


def _sample(part: RowFile, most: int) -> RowSample:
    count = min(most, part.num_rows)
    if part.shuffled or count == part.num_rows:
        rows = part.read(0, count)
    else:
        places = np.sort(np.random.default_rng(0).choice(part.num_rows, count, replace=False))
        rows = np.concatenate([part.read(place, place + 1) for place in places.tolist()])
    weight = np.asarray(part.unpack(rows).weight, np.float64)
    return RowSample(rows=rows, count=count, weight=weight, unpack=part.unpack)


def _filled(sample: RowSample, size: int) -> RowSample:
    rows = np.resize(sample.rows, (size, sample.rows.shape[1]))  # repeats them
    return dataclasses.replace(sample, rows=rows)


def _program(model: TableModel, params: Any, sample: RowSample, budget: Budget) -> Any:
    def outputs_and_losses(params: Any, rows: Any) -> Any:
        batch = sample.unpack(rows)
        return model.outputs(params, batch), model.losses(params, batch)

    shape = jax.ShapeDtypeStruct(sample.rows.shape, np.float32)
    with budget.free():
        compiled = jax.jit(outputs_and_losses).lower(params, shape).compile()

    def run(params: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # a host sync, before which the rows must not change: they may be read where they lie
        outputs, losses = compiled(params, rows)
        return np.asarray(outputs), np.asarray(losses)

    return run


def _finite(values: Any, what: str) -> Any:
    if not np.isfinite(values).all():
        raise Skipped(f"{what} are not finite")
    return values
