"""What all subjects look at: the model, samples of rows, the time that is left, one program."""

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
from downslope.table.fit import TableModel

ROWS = 4096  # held-out rows looked at, at most
TRAIN_ROWS = 1024  # training rows, at least: as many as held-out ones, for one program
LEAST_ROWS = 2  # for an interval
CELLS = 8_000_000  # numbers of a sample, 32 MB, where the table is wide
NO_HELD_OUT = "no rows were held out"


class LeftOut(Exception):
    """Why a subject was left out."""


class Budget:
    """The time that is left; what is spent `free` does not count.

    Example:
        >>> budget = Budget(60.0)
        >>> with budget.free():
        ...     time.sleep(0.05)
        >>> budget.left > 59.99
        True
    """

    def __init__(self, seconds: float):
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds, below 0 once they are spent."""
        return self._end - time.perf_counter()

    @contextlib.contextmanager
    def free(self) -> Iterator[None]:
        """The time inside does not count: compiling."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._end += time.perf_counter() - begin


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Random rows of one part of the table.

    Attributes:
        rows: [size, width], the size of the common program; repeated beyond `count`.
        count: rows that count.
        weight: [count], as they are; mean 1 over the training rows.
        unpack: what makes a batch of rows.
    """

    rows: np.ndarray
    count: int
    weight: np.ndarray
    unpack: Callable[[Any], TableBatch]

    @property
    def batch(self) -> TableBatch:
        """The rows that count."""
        return self.unpack(self.rows[: self.count])


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A trained model and rows to look at.

    Attributes:
        run: its folder.
        path: the table's file or folder, None where it has none.
        model, params: what was trained.
        calibration: from margins to probabilities, or None.
        stored: the table.
        held_out: rows that training did not see, or None.
        train: rows that it did see.
        budget: the time that is left.
        outputs_and_losses: of `size` rows, at parameters; a program compiled once.
        was_solved: the run made no steps.
    """

    run: Path
    path: Any
    model: TableModel
    params: Any
    calibration: Any
    stored: StoredTable
    held_out: Sample | None
    train: Sample
    budget: Budget
    outputs_and_losses: Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]]
    was_solved: bool

    def held(self) -> Sample:
        """The held-out rows.

        Raises:
            LeftOut: there are none, or too few.
        """
        if self.held_out is None:
            raise LeftOut(NO_HELD_OUT)
        count = np.count_nonzero(self.held_out.weight)
        if count < LEAST_ROWS:
            raise LeftOut(
                f"needs {LEAST_ROWS} held-out rows of a weight above 0; there are {count}"
            )
        return self.held_out

    def outputs(self, sample: Sample) -> np.ndarray:
        """Outputs of the trained model [count, ...], float64."""
        found = self.outputs_and_losses(self.params, sample.rows)[0]
        return _finite(found[: sample.count].astype(np.float64), "the model's outputs")

    def losses(self, sample: Sample, rows: np.ndarray | None = None, params: Any = None) -> Any:
        """Loss of each row [count], float64, without its weight; of other rows or parameters."""
        rows = sample.rows if rows is None else rows
        found = self.outputs_and_losses(self.params if params is None else params, rows)[1]
        return found[: sample.count].astype(np.float64)


def make_scene(
    run: Path,
    path: Any,
    model: TableModel,
    params: Any,
    stored: StoredTable,
    calibration: Any,
    budget: Budget,
    *,
    was_solved: bool,
) -> Scene:
    """The scene of a run: rows are read, the program is compiled.

    Raises:
        LeftOut: the parameters are not finite.
    """
    for leaf in jax.tree.leaves(params):
        _finite(leaf, "the parameters")
    encoding, seed = model.encoding, 0
    most = max(LEAST_ROWS, min(ROWS, CELLS // encoding.width))
    held = None if stored.held_out is None else _sample(stored.held_out, most, seed)
    most = min(most, max(TRAIN_ROWS, 0 if held is None else held.count))
    train = _sample(stored.train, most, seed)
    size = max(train.count, 0 if held is None else held.count)
    train, held = _filled(train, size), held and _filled(held, size)
    return Scene(
        run=run, path=path, model=model, params=jax.device_put(params), calibration=calibration,
        stored=stored, held_out=held, train=train, budget=budget,
        outputs_and_losses=_program(model, params, train, budget), was_solved=was_solved,
    )  # fmt: skip


def _sample(part: RowFile, most: int, seed: int) -> Sample:
    count = min(most, part.num_rows)
    if part.shuffled or count == part.num_rows:
        rows = part.read(0, count)
    else:
        places = np.sort(np.random.default_rng(seed).choice(part.num_rows, count, replace=False))
        rows = np.concatenate([part.read(place, place + 1) for place in places.tolist()])
    weight = np.asarray(part.unpack(rows).weight, np.float64)
    return Sample(rows=rows, count=count, weight=weight, unpack=part.unpack)


def _filled(sample: Sample, size: int) -> Sample:
    rows = np.resize(sample.rows, (size, sample.rows.shape[1]))  # repeats them
    return dataclasses.replace(sample, rows=rows)


def _program(model: TableModel, params: Any, sample: Sample, budget: Budget) -> Any:
    def outputs_and_losses(params: Any, rows: Any) -> Any:
        batch = sample.unpack(rows)
        return model.outputs(params, batch), model.losses(params, batch)

    shape = jax.ShapeDtypeStruct(sample.rows.shape, np.float32)
    with budget.free():
        compiled = jax.jit(outputs_and_losses).lower(params, shape).compile()

    def look(params: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # a host sync, before which the rows must not change: they may be read where they lie
        outputs, losses = compiled(params, rows)
        return np.asarray(outputs), np.asarray(losses)

    return look


def _finite(values: Any, what: str) -> Any:
    if not np.isfinite(values).all():
        raise LeftOut(f"{what} are not finite")
    return values
