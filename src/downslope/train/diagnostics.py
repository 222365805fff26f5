"""Noise diagnostics during training, within a given share of its time."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from downslope.train.collect import collect
from downslope.train.loop import Loop
from downslope.train.setup import TrainSetup
from downslope.train.spending import MEASURING
from downslope.train.state import TrainState

if TYPE_CHECKING:
    from downslope.noise.survey.record import Section

MAX_ROWS = 256  # sample size: diagnostics during training must be quick
UNKNOWN_SECONDS = 2.0  # cost of a subject before its first measurement; assumed
LEFT_OUT = ("order",)  # the order of the rows does not change during training


class Diagnostics:
    """Noise diagnostics, one subject at a time, as often as their share of the time allows.

    A subject that fails is recorded with the reason, and training continues.
    """

    def __init__(self, setup: TrainSetup):
        from downslope.noise.survey.anatomy import SECTIONS  # imports the instruments

        self._setup = setup
        self._names = itertools.cycle(name for name in SECTIONS if name not in LEFT_OUT)
        self._next = next(self._names)
        self._costs: dict[str, float] = {}
        self._spent = 0.0

    def is_due(self, seconds: float) -> bool:
        """True if the next subject fits into its share of this many seconds of training."""
        share = self._setup.training.anatomy_share
        cost = self._costs.get(self._next, UNKNOWN_SECONDS)
        return share is not None and self._spent + cost <= share * seconds

    def measure(self, state: TrainState, steps_left: int | None) -> tuple[str, Section | str]:
        """Measure the next subject: its name, and its section or the reason for leaving it out."""
        begin, name = time.perf_counter(), self._next
        try:
            found = self._measure(name, state, steps_left)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        self._costs[name] = time.perf_counter() - begin
        self._spent += self._costs[name]
        self._next = next(self._names)
        return name, found

    def _measure(self, name: str, state: TrainState, steps_left: int | None) -> Section | str:
        from downslope.noise.survey.point import Extras
        from downslope.train.measure import measure_point, rate_at, with_state

        device = state.device
        found = measure_point(
            self._setup,
            device.params,  # gradients are taken here even if an average is kept
            with_state(Extras(), self._setup, device, state.monitor, steps_left),
            learning_rate=rate_at(self._setup, device, state.device_knobs()),
            num_examples=MAX_ROWS,
            sections=[name],
        )
        return found.sections.get(name) or found.skipped[name]


def diagnose_if_due(loop: Loop) -> None:
    """Measure one subject of the noise in depth, if its share of the time allows."""
    if loop.diagnostics is None or loop.trials is not None:
        return
    if not loop.diagnostics.is_due(loop.seconds - loop.seconds_before):
        return
    collect(loop)
    if loop.trouble is not None:
        return
    progress, left = loop.state.progress, loop.steps_left
    with loop.spending.on(MEASURING):
        name, found = loop.diagnostics.measure(loop.state, left)
    values = {"reason": found} if isinstance(found, str) else short_record(found)
    loop.run.journal.write(
        "anatomy", step=progress.num_steps, seconds=loop.seconds, subject=name, **values
    )


def short_record(section: Section) -> dict[str, object]:
    """Section for the journal: values, intervals, reasons and sentences."""
    names = ("value", "lo", "hi", "unit", "reason")
    records = {
        subject: {name: v for name in names if (v := getattr(found, name)) is not None}
        for subject, found in section.records.items()
    }
    return {"sentences": list(section.sentences), "records": records}
