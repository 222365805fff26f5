"""The methods that take part, each at published settings.

All run through `downslope.fit`, every choice of its own turned off or given, so that they share
its compiled step. Their batch size is 32 unless their publication has another. `downslope` is
`fit` with nothing said but the time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from benchmarks.selftuning import finders
from benchmarks.selftuning.clock import Clock
from benchmarks.selftuning.workloads.workload import Loss, Workload

VERSION = 1  # of the settings below; other numbers are other runs
BATCH = 32
GIVEN: dict[str, Any] = {
    "schedule": "constant", "warmup_steps": 0, "clip_norm": None, "average": None,
    "patience": None, "measure_every": None, "checkpoint_seconds": 3600.0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Hints:
    """Facts that are known before the clock starts, as AlgoPerf gives a number of steps.

    Attributes:
        seconds: `seconds(batch_size)` of an update.
        num_steps: `num_steps(batch_size)`, updates that fit in the horizon.
    """

    seconds: Callable[[int], float]
    num_steps: Callable[[int], int]


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A method.

    Attributes:
        name: as on the command line.
        options: `options(workload, hints, clock)` gives arguments of `fit`; runs on the clock.
        prepare: `prepare(workload, hints)` before the clock starts, for what is not counted.
        needs_loss: the optimizer takes the loss of the batch as `value`.
        validates: gets the validation rows.
        source: where the settings come from.
    """

    name: str
    options: Callable[[Workload, Hints, Clock], dict[str, Any]]
    prepare: Callable[[Workload, Hints], Any] = lambda *_: None
    needs_loss: bool = False
    validates: bool = False
    source: str = field(default="", compare=False)


def _itself(workload: Workload, hints: Hints, clock: Clock) -> dict[str, Any]:
    return {}


def _optax(make: Callable[[], Any]) -> Callable[..., dict[str, Any]]:
    """Options of a finished transformation."""
    return lambda *_: GIVEN | {"optimizer": make(), "batch_size": BATCH}


# AlgoPerf's settings are one point of a search over its workloads; its label smoothing and
# dropout are left out, since they belong to the workload here.
ALGOPERF_B2, ALGOPERF_DECAY, ALGOPERF_WARMUP = 0.9955159689799007, 0.08121616522670176, 0.02


def _schedule_free(workload: Workload, hints: Hints, clock: Clock) -> dict[str, Any]:
    # the submission warms up over 2 % of three quarters of the steps
    warmup = max(1, round(ALGOPERF_WARMUP * 0.75 * hints.num_steps(BATCH)))
    rule = optax.contrib.schedule_free_adamw(
        0.0025, warmup_steps=warmup, b1=0.9, b2=ALGOPERF_B2, weight_decay=ALGOPERF_DECAY
    )
    return GIVEN | {"optimizer": rule, "batch_size": BATCH}


def _nadamw(workload: Workload, hints: Hints, clock: Clock) -> dict[str, Any]:
    rule = functools.partial(
        optax.nadamw, b1=1 - 0.06733926164, b2=ALGOPERF_B2, weight_decay=ALGOPERF_DECAY
    )
    return GIVEN | {
        "optimizer": rule,
        "learning_rate": 0.0017486387539278373,
        "batch_size": BATCH,
        "schedule": "cosine",
        "warmup_steps": max(1, round(ALGOPERF_WARMUP * hints.num_steps(BATCH))),
    }


def _adam(batch_size: int, learning_rate: float = 1e-3) -> dict[str, Any]:
    return GIVEN | {
        "optimizer": optax.adam, "learning_rate": learning_rate, "batch_size": batch_size
    }  # fmt: skip


def _cosine(*_: Any) -> dict[str, Any]:
    return GIVEN | {
        "optimizer": optax.adamw, "learning_rate": 1e-3, "batch_size": 128, "schedule": "cosine"
    }  # fmt: skip


def _lightning(workload: Workload, hints: Hints, clock: Clock) -> dict[str, Any]:
    size = finders.find_batch_size(workload, clock)
    return _adam(size, finders.find_rate(workload, size, clock))


class LargestBatch:
    """Adam at the largest batch that fits, found before the clock starts."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}

    def prepare(self, workload: Workload, hints: Hints) -> None:
        """Find the size, once a workload."""
        if workload.name not in self._found:
            self._found[workload.name] = finders.largest_batch(workload, hints.seconds)

    def options(self, workload: Workload, hints: Hints, clock: Clock) -> dict[str, Any]:
        """Options with that size."""
        return _adam(self._found[workload.name])


def taking_loss(rule: optax.GradientTransformationExtraArgs) -> optax.GradientTransformation:
    """The rule on `{"model": ..., "value": scalar}`, whose gradient in the scalar is the loss.

    `fit` gives a rule gradients only; with `with_loss` they hold the loss of the batch.
    """

    def init(params: Any) -> Any:
        return rule.init(params["model"])

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        assert params is not None
        changes, state = rule.update(
            updates["model"], state, params["model"], value=updates["value"]
        )
        return {"model": changes, "value": jnp.zeros_like(updates["value"])}, state

    return optax.GradientTransformation(init, update)


def with_loss(loss: Loss) -> Loss:
    """The loss on `{"model": ..., "value": scalar}`, with itself as gradient in the scalar."""

    def wrapped(model: Any, batch: Any, key: Any) -> Any:
        losses = loss(model["model"], batch, key)
        value = model["value"]
        return losses + (value - jax.lax.stop_gradient(value)) * jax.lax.stop_gradient(losses)

    return wrapped


def with_value(model: Any) -> dict[str, Any]:
    """Model for `with_loss`."""
    return {"model": model, "value": np.zeros((), np.float32)}


_LARGEST = LargestBatch()
DOWNSLOPE, SCHEDULE_FREE, NADAMW = "downslope", "schedule-free AdamW", "NadamW"
ADAM, COSINE = "Adam 1e-3", "AdamW cosine"
_ALL = (
    Rival(name=DOWNSLOPE, options=_itself, validates=True),
    Rival(
        name=SCHEDULE_FREE,
        options=_schedule_free,
        source="AlgoPerf v0.5, winner of the self-tuning track",
    ),
    Rival(name=NADAMW, options=_nadamw, source="AlgoPerf v0.5, baseline of that track"),
    Rival(name="Prodigy", options=_optax(optax.contrib.prodigy), source="arXiv 2306.06101"),
    Rival(name="DoG", options=_optax(optax.contrib.dog), source="arXiv 2302.12022"),
    Rival(name="DoWG", options=_optax(optax.contrib.dowg), source="arXiv 2305.16284"),
    Rival(
        name="D-Adaptation", options=_optax(optax.contrib.dadapt_adamw), source="arXiv 2301.07733"
    ),
    Rival(
        name="MoMo",
        options=_optax(lambda: taking_loss(optax.contrib.momo_adam())),
        needs_loss=True,
        source="arXiv 2305.07583, MoMo-Adam at 1e-2",
    ),
    Rival(name="COCOB", options=_optax(optax.contrib.cocob), source="arXiv 1705.07795"),
    Rival(
        name="Mechanic",
        options=_optax(lambda: optax.contrib.mechanize(optax.adamw(1.0))),
        source="arXiv 2306.00144, around AdamW at 1",
    ),
    Rival(name=ADAM, options=lambda *_: _adam(BATCH), source="a common default"),
    Rival(name=COSINE, options=_cosine, source="a common default, batch 128"),
    Rival(name="Lightning", options=_lightning, source="Lightning's two finders, then Adam"),
    Rival(
        name="largest batch", options=_LARGEST.options, prepare=_LARGEST.prepare,
        source="Adam 1e-3",
    ),
)  # fmt: skip
RIVALS: dict[str, Rival] = {rival.name: rival for rival in _ALL}
