"""A workload, and the division of its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import downslope

Rows = Any  # an array, or a tuple of arrays with the same number of rows
Loss = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A loss, a model and rows, in three parts.

    Attributes:
        name: as on the command line.
        kind: kind of model: "attention", "convolutions", "dense", "linear", "embedding",
            "recurrent" or "equation".
        loss: `loss(model, batch, key) -> [B]`, as for `downslope.fit`.
        model: `model(seed)` gives the initial model.
        train: rows to train on, or a `downslope.Generator` of them.
        validation: held-out rows that a method may use in any way.
        test: held-out rows that no method sees; the target is a loss on these.
        horizon_seconds: time of a run, from the call that begins it: compiling, tuning and all.
        test_loss: loss of test rows where it is not the one to train with, as with augmentation.
    """

    name: str
    kind: str
    loss: Loss
    model: Callable[[int], Any]
    train: Rows | downslope.Generator
    validation: Rows
    test: Rows
    horizon_seconds: float
    test_loss: Loss | None = None

    @property
    def num_rows(self) -> int | None:
        """Number of training rows; None for a generator."""
        return None if isinstance(self.train, downslope.Generator) else num_rows(self.train)

    def num_params(self) -> int:
        """Number of trained parameters."""
        import jax

        return sum(np.size(leaf) for leaf in jax.tree.leaves(self.model(0)))


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Rows in three parts."""

    train: Rows
    validation: Rows
    test: Rows


def num_rows(rows: Rows) -> int:
    """Number of rows of an array or of a tuple of arrays."""
    return len(rows[0] if isinstance(rows, tuple) else rows)


def take(rows: Rows, places: Any) -> Rows:
    """Rows at these places."""
    return tuple(a[places] for a in rows) if isinstance(rows, tuple) else rows[places]


def random_places(count: int, validation: float, test: float) -> tuple[np.ndarray, ...]:
    """Places of the training, validation and test rows, drawn once.

    Args:
        validation, test: shares of the rows.
    """
    order = np.random.default_rng(0).permutation(count)
    tests = round(test * count)
    others = tests + round(validation * count)
    return order[others:], order[tests:others], order[:tests]


def random_parts(rows: Rows, validation: float, test: float) -> Parts:
    """Rows in three parts, drawn once."""
    places = random_places(num_rows(rows), validation, test)
    train, held_out, tests = (take(rows, p) for p in places)
    return Parts(train=train, validation=held_out, test=tests)
