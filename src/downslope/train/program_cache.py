"""Cache of compiled programs, so that the next run of the same kind does not compile again.

JAX keeps what it compiled for a function as long as the function lives, and every run creates its
functions anew. If everything that a program depends on compares by value, the functions of the
first run are kept and reused by later ones.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax

from downslope.config import Training
from downslope.objective import Objective

KEPT = 64  # kinds of runs; a program takes a few megabytes for each shape of its rows

# Settings that a program is compiled for. Rates, limits and seeds are arguments to it.
OF_A_PROGRAM = (
    "optimizer", "momentum", "schedule", "warmup_steps", "decay_steps", "weight_decay",
    "l1", "l2", "average", "ema_decay", "measure_every",
)  # fmt: skip

Kept = TypeVar("Kept")
_kept: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.Lock()  # fits may run in several threads


def kept(key: Hashable | None, make: Callable[[], Kept]) -> Kept:
    """Result of `make()`, cached by key; not cached if the key is None."""
    if key is None:
        return make()
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    made = make()
    with _lock:
        _kept[key] = made
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return made


def as_they_are(rows: Any) -> Any:
    """Rows of arrays, which need no unpacking; a function of no source, so all runs share it."""
    return rows


def kind_of(objective: Objective, training: Training, mask: Any) -> Any:
    """Key of everything that a run's programs depend on but shapes; None if there is none.

    Only the package's own losses that are frozen dataclasses have one: their fields determine
    what they compute. A user's function or class may read anything, and caching it would keep
    the user's arrays alive.

    Example:
        >>> import jax.numpy as jnp
        >>> from downslope.objective import build
        >>> @dataclasses.dataclass(frozen=True)
        ... class Distance:
        ...     power: int
        ...     def __call__(self, model, batch, key):
        ...         return jnp.abs(batch - model) ** self.power
        >>> x = jnp.zeros(3)
        >>> def kind(loss):
        ...     return kind_of(build(loss, x[0], x, jnp.asarray)[0], Training(), None)
        >>> kind(Distance(2)) == kind(Distance(2)), kind(Distance(2)) == kind(Distance(3))
        (True, False)
        >>> kind(lambda model, batch, key: batch - model) is None
        True
    """
    loss = objective.loss
    ours = type(loss).__module__.startswith("downslope.") and dataclasses.is_dataclass(loss)
    named = isinstance(training.optimizer, str)
    bound = hasattr(objective.unpack, "__self__")  # a method would keep its source alive
    if not ours or bound or not named or objective.penalty is not None:
        return None
    if jax.tree.leaves(objective.fixed):
        return None
    return (
        type(loss),
        loss,
        objective.unpack,
        objective.separable,
        objective.interacts,
        jax.tree.structure(objective.fixed),
        tuple(getattr(training, name) for name in OF_A_PROGRAM),
        tuple(jax.tree.leaves(mask)),
        jax.config.read("jax_enable_x64"),
    )
