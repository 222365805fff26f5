"""State of a run: what a checkpoint holds and a rollback restores."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.choose import controllers
from downslope.choose.controller import Context
from downslope.config import KnobSettings
from downslope.errors import MismatchError
from downslope.noise.online.monitor import NoiseMonitor
from downslope.step.state import Knobs, State, to_device
from downslope.train.checkpoint import Checkpoint, host_tensors, restore_leaves
from downslope.train.held_out import HeldOut
from downslope.train.horizon import NO_HORIZON, Horizon
from downslope.train.progress import TrainingProgress
from downslope.train.setup import TrainSetup, device_knobs
from downslope.tree import aligned_copy

FORMAT = "downslope checkpoint 6"
STATE, LOWEST, MONITOR, REFERENCE = "state", "lowest", "monitor", "reference_losses"


@dataclass(kw_only=True)
class TrainState:
    """Everything that a run carries from one call to the next."""

    device: State  # parameters, optimizer, average and random key
    progress: TrainingProgress  # position, counts and training losses
    held_out: HeldOut  # the lowest held-out loss with its parameters, and the reference of gains
    knobs: KnobSettings
    controllers: controllers.States
    monitor: NoiseMonitor | None  # the measured updates; None if none is measured
    horizon: Horizon = NO_HORIZON  # what schedules are functions of
    arm_from: int | None = None  # first update of an arm with an average of its own; see `Trials`

    def device_knobs(self) -> Knobs:
        """Knobs as arguments of a compiled step."""
        average_from = self.average_from if self.arm_from is None else self.arm_from
        return device_knobs(self.knobs, average_from, self.horizon)

    @property
    def average_from(self) -> int:
        """Update that the average of the run's parameters begins with."""
        return self.controllers["temperature"].average_from

    def copy_to_host(self) -> TrainState:
        """Copy in host memory, for a trial to return to."""
        return dataclasses.replace(
            self,
            device=jax.tree.map(aligned_copy, jax.device_get(self.device)),
            progress=TrainingProgress.from_json(self.progress.to_json()),
            monitor=copy.deepcopy(self.monitor),
        )

    def return_to(self, earlier: TrainState) -> None:
        """Return to a copy; knobs and controllers stay as they are."""
        fresh = earlier.copy_to_host()
        self.device = to_device(fresh.device)
        self.progress, self.held_out = fresh.progress, fresh.held_out
        self.monitor = fresh.monitor

    def undo(self, checkpoint: Checkpoint, setup: TrainSetup, context: Context) -> None:
        """Return to a checkpoint, except for knobs and for fields of controllers that survive."""
        before = from_checkpoint(checkpoint, setup, context, "checkpoint")
        self.device, self.progress, self.held_out = before.device, before.progress, before.held_out
        self.monitor = before.monitor
        self.controllers = controllers.returned(self.controllers, before.controllers)

    def to_checkpoint(self, fingerprint: str) -> Checkpoint:
        """Copy of everything that a resumed run needs, on the host."""
        trees: dict[str, Any] = {STATE: self.device._asdict()}
        if self.held_out.params is not None:
            trees[LOWEST] = self.held_out.params
        if self.monitor is not None:
            trees[MONITOR] = self.monitor.arrays()
        if self.held_out.reference_losses is not None:
            trees[REFERENCE] = self.held_out.reference_losses
        document = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "progress": self.progress.to_json(),
            "held_out": self.held_out.to_json(),
            "knobs": dataclasses.asdict(self.knobs),
            "controllers": controllers.to_json(self.controllers),
            "horizon": dataclasses.asdict(self.horizon),
        }
        return Checkpoint(tensors=host_tensors(trees), document=document)


def begin_state(setup: TrainSetup, context: Context) -> TrainState:
    """State before the first update."""
    return TrainState(
        device=setup.start(),
        progress=TrainingProgress(),
        held_out=HeldOut(),
        knobs=setup.first_settings(),
        controllers=controllers.init(context),
        monitor=None if setup.setting is None else NoiseMonitor(setup.setting),
    )


def from_checkpoint(
    checkpoint: Checkpoint, setup: TrainSetup, context: Context, where: str
) -> TrainState:
    """Inverse of `TrainState.to_checkpoint`.

    Raises:
        MismatchError: the checkpoint belongs to another model or optimizer, or was written by
            another version of this package.
    """
    tensors, document = checkpoint.tensors, checkpoint.document
    check_format(document, where)
    device, lowest = restore_device(checkpoint, setup, where)
    values = document["held_out"]
    held_out = HeldOut(**values, params=lowest, reference_losses=tensors.get(REFERENCE))
    return TrainState(
        device=device,
        progress=TrainingProgress.from_json(document["progress"]),
        held_out=held_out,
        knobs=KnobSettings(**document["knobs"]),
        controllers=controllers.from_json(document["controllers"], context),
        monitor=restore_monitor(checkpoint, setup),
        horizon=Horizon(**document["horizon"]),
    )


def restore_device(checkpoint: Checkpoint, setup: TrainSetup, where: str) -> tuple[State, Any]:
    """Device state, and the parameters of the lowest held-out loss or None.

    Raises:
        MismatchError: the checkpoint belongs to another model or optimizer.
    """
    template = setup.state_shapes
    parts: dict[str, Any] = {STATE: template._asdict()}
    if under(LOWEST, checkpoint.tensors):
        parts[LOWEST] = template.params
    prefixes = (f"{MONITOR}/", REFERENCE)
    tensors = {k: v for k, v in checkpoint.tensors.items() if not k.startswith(prefixes)}
    found = restore_leaves(parts, tensors, where)
    return to_device(State(**found[STATE])), found.get(LOWEST)


def restore_monitor(checkpoint: Checkpoint, setup: TrainSetup) -> NoiseMonitor | None:
    """Measured updates of a checkpoint; None if none is measured."""
    if setup.setting is None:
        return None
    monitor = NoiseMonitor(setup.setting)
    arrays = under(MONITOR, checkpoint.tensors)
    if arrays:
        monitor.restore(arrays)
    return monitor


def check_format(document: dict[str, Any], where: str) -> None:
    """Raise MismatchError for a checkpoint of another version."""
    if document.get("format") != FORMAT:
        raise MismatchError(
            f"{where}: its checkpoint was written by another version of downslope; resume with "
            "that version, or start a new run"
        )


def under(folder: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors of one part of a checkpoint, without its name."""
    prefix = f"{folder}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
