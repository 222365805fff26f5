"""Close looks at the noise while a run trains, within a stated share of its time."""

from __future__ import annotations

import itertools
import time

from downslope.config import Training
from downslope.estimate import Estimate
from downslope.noise.online.monitor import NoiseMonitor
from downslope.noise.survey.anatomy import SECTIONS
from downslope.noise.survey.extras import Extras
from downslope.noise.survey.record import Section
from downslope.step.state import State
from downslope.train.measure import look, of_state, rate_at
from downslope.train.setup import Engine

EXAMPLES = 256  # rows looked at; a look while training is meant to be quick
UNKNOWN_SECONDS = 2.0  # what a subject is taken to cost before it was looked at; assumed
LEFT_OUT = ("order",)  # the rows do not change their order while training


class Looks:
    """One subject after the other, as often as the share of the time allows.

    A look that fails is told in the journal, and training goes on.

    Args:
        engine, training: of the run.
    """

    def __init__(self, engine: Engine, training: Training):
        self._engine, self._training = engine, training
        self._names = itertools.cycle(name for name in SECTIONS if name not in LEFT_OUT)
        self._next = next(self._names)
        self._costs: dict[str, float] = {}
        self._spent = 0.0

    def is_due(self, seconds: float) -> bool:
        """Whether the next subject fits into the share of so many seconds of training."""
        share = self._training.anatomy_share
        cost = self._costs.get(self._next, UNKNOWN_SECONDS)
        return share is not None and self._spent + cost <= share * seconds

    def look(
        self, state: State, watch: NoiseMonitor | None, steps_left: int | None
    ) -> tuple[str, Section | str]:
        """Looks at the next subject: its name, and what was found or why it was left out."""
        begin, name = time.perf_counter(), self._next
        try:
            found = self._look(name, state, watch, steps_left)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        self._costs[name] = time.perf_counter() - begin
        self._spent += self._costs[name]
        self._next = next(self._names)
        return name, found

    def _look(
        self, name: str, state: State, watch: NoiseMonitor | None, steps_left: int | None
    ) -> Section | str:
        known = of_state(self._engine, self._training, state, Extras(), watch, steps_left)
        found = look(
            self._engine,
            self._training,
            state.params,  # where the gradients are taken, also where an average is kept
            known,
            learning_rate=rate_at(self._engine, self._training, state),
            num_examples=EXAMPLES,
            sections=[name],
        )
        return found.sections.get(name) or found.skipped[name]


def short_record(section: Section) -> dict[str, object]:
    """A section for the journal: values, intervals, reasons and sentences."""
    return {
        "sentences": list(section.sentences),
        "records": {name: _short(found) for name, found in section.records.items()},
    }


def _short(found: Estimate) -> dict[str, object]:
    values = found.to_json()
    names = ("value", "lo", "hi", "unit", "reason")
    return {name: values[name] for name in names if values[name] is not None}
