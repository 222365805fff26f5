"""Calls of an observer: a function that gets the parameters while a run trains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp

from downslope.objective import Model
from downslope.report.journal import Journal
from downslope.train.collect import collect
from downslope.train.loop import Loop
from downslope.train.spending import MEASURING

# Later calls of the compiled step reuse the memory of the parameters that they are given.
COPY = jax.jit(lambda params: jax.tree.map(jnp.copy, params))


class ObserverCalls:
    """Calls of an observer when they are due; one that raises an `Exception` is dropped.

    Args:
        observer: `observer(step, seconds, params)`, which returns the seconds until its next call,
            or None.
        journal: where a failure is recorded.
    """

    def __init__(self, observer: Callable[[int, float, Model], float | None], journal: Journal):
        self._observer, self._journal = observer, journal
        self._due_seconds = 0.0  # time of the run
        self._failed = False

    def call_if_due(self, loop: Loop) -> None:
        """Call it with a copy of the parameters, if it is due and no trial is under way."""
        if loop.trials is not None or not loop.seconds >= self._due_seconds:
            return
        collect(loop)
        if loop.trouble is not None:
            return
        setup, step = loop.setup, loop.state.progress.num_steps
        with loop.spending.on(MEASURING):
            params = setup.model(COPY(setup.kept_params(loop.state.device)))
            wait = self.call(step, loop.seconds, params)
        self._due_seconds = math.inf if wait is None else loop.seconds + wait

    def call(self, step: int, seconds: float, params: Model) -> float | None:
        """Seconds until the next call, or None; a failure is a warning."""
        if self._failed:
            return None
        try:
            wait = self._observer(step, seconds, params)
            return None if wait is None else float(wait)
        except Exception as error:
            self._failed = True
            what = f"the observer failed and was dropped: {type(error).__name__}: {error}"
            self._journal.write("observer lost", step=step, because=what)
            warnings.warn(what, RuntimeWarning, stacklevel=2)
            return None
