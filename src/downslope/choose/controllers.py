"""All controllers of a run, in the order in which they are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from downslope.choose.branched import BranchedBatchSize
from downslope.choose.clipping import Clipping
from downslope.choose.controller import Context, Controller, Observation, Order, survivors
from downslope.choose.decay import WeightDecay
from downslope.choose.learning_rate import LearningRateSearch
from downslope.choose.patience import Patience
from downslope.choose.recovery import Recovery
from downslope.choose.target import Target
from downslope.choose.temperature import Temperature

CONTROLLERS: dict[str, Controller[Any]] = {
    "learning_rate_search": LearningRateSearch(),
    "target": Target(),
    "patience": Patience(),
    "clipping": Clipping(),
    "temperature": Temperature(),
    "batch_size": BranchedBatchSize(),
    "recovery": Recovery(),
    "weight_decay": WeightDecay(),
}

States = Mapping[str, Any]  # by controller


def init(context: Context) -> States:
    """State of every controller before the first update."""
    return {name: controller.init(context) for name, controller in CONTROLLERS.items()}


def update(states: States, observation: Observation) -> tuple[States, tuple[Order, ...]]:
    """Next states and all orders; each controller sees the orders of those before it."""
    after, orders = {}, ()
    for name, controller in CONTROLLERS.items():
        after[name], given = controller.update(states[name], observation, orders)
        orders += given
    return after, orders


def returned(now: States, before: States) -> States:
    """States after a return to an earlier one, with the fields of `now` that survive it."""
    return {name: None if now[name] is None else survivors(now[name], before[name]) for name in now}


def to_json(states: States) -> dict[str, Any]:
    """States as plain values, for a checkpoint."""
    return {name: state and dataclasses.asdict(state) for name, state in states.items()}


def from_json(values: Mapping[str, Any], context: Context) -> States:
    """Inverse of `to_json`; a controller that is missing starts from its initial state."""
    states = dict(init(context))
    for name, state in states.items():
        if state is not None and values.get(name):
            states[name] = _restored(state, values[name])
    return states


def _restored(state: Any, values: Mapping[str, Any]) -> Any:
    """State, or a record inside of one, with these values."""
    found = {}
    for key, value in values.items():
        is_record = dataclasses.is_dataclass(getattr(state, key))
        found[key] = _restored(getattr(state, key), value) if is_record else _tuples(value)
    return dataclasses.replace(state, **found)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
