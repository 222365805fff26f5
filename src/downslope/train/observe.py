"""Observations: the numbers that controllers decide on."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from downslope.choose.clipping import CLIPPED_FROM, MIN_NORMS
from downslope.choose.controller import (
    CompiledSizes,
    Moment,
    NoiseReading,
    NormReading,
    Observation,
)
from downslope.estimate import Estimate
from downslope.metrics import Results
from downslope.train.calls import Call
from downslope.train.collect import write_trial
from downslope.train.evaluations import arm_losses, compare, evaluate, is_due, last_losses
from downslope.train.loop import Loop, is_trial_over
from downslope.train.spending import MEASURING
from downslope.train.state import restore_device
from downslope.train.targets import held_out_metrics, training_metrics
from downslope.train.trials import start_rate, trial_loss

Metrics = Mapping[str, Estimate]


def observe(loop: Loop, call: Call) -> Observation:
    """Observation after a dispatched call; evaluates held-out rows if that is due."""
    if loop.trials is not None:
        return _observation(loop, "in_trial")
    metrics = None if loop.trouble is not None else training_metrics(loop, call)
    if loop.trouble is None and is_due(loop, call):
        results = evaluate(loop)
        if loop.trouble is None:
            return _evaluated(loop, results, ends_epoch=call.ends_epoch, metrics=metrics)
    return _observation(
        loop, "collected" if loop.trouble is None else "in_trouble", metrics=metrics
    )


def observe_end(loop: Loop) -> Observation | None:
    """Observation after blocks are closed: a trial that ended, a diverged step, or None."""
    if loop.trials is not None:
        if loop.reopens:
            return None  # blocks were closed for it to begin
        loss = trial_loss(loop.state, diverged=loop.trouble is not None)
        is_cut_short, arm = is_trial_over(loop), None
        if loop.trials.trial.batch_size is None:
            loop.trials.ended(loss, loop.state, is_cut_short=is_cut_short)
        else:
            losses = last = None
            if not is_cut_short and math.isfinite(loss):
                losses = last = arm_losses(loop)
                if loop.state.arm_from is not None:
                    last = last_losses(loop)
            arm = loop.trials.arm_ended(losses, last, loop.state)
        write_trial(loop, loss, arm)
        return _observation(
            loop, "trial_ended", trial_loss=loss, arm=arm, is_cut_short=is_cut_short
        )
    if loop.trouble is not None:
        what, step = loop.trouble
        return _observation(loop, "diverged", trouble=what, trouble_step=step)
    return None


def observe_begin(loop: Loop) -> Observation:
    """Observation before the first call of a session."""
    return _observation(loop, "begun")


def _evaluated(
    loop: Loop, results: Results | None, *, ends_epoch: bool, metrics: Metrics | None
) -> Observation:
    """Observation of an evaluation, with its loss compared to the reference."""
    state, progress = loop.state, loop.state.progress
    held_out = float(results["loss"]) if results is not None and "loss" in results else None
    # that of the last epoch if it is not finite on some row, not scored, or nothing is held out
    loss = progress.last_epoch_loss if held_out is None else held_out
    gained = compare(loop, results)
    if results is not None:
        metrics = held_out_metrics(loop, results)
    return _observation(
        loop,
        "evaluated",
        ends_epoch=ends_epoch,
        metrics=metrics,
        higher_is_better=frozenset() if results is None else results.higher_is_better,
        loss=loss,
        held_out_loss=held_out,
        gained=gained,
        reference_loss=state.held_out.reference_loss,
    )


def _observation(loop: Loop, moment: Moment, **seen: Any) -> Observation:
    state, seconds = loop.state, loop.seconds
    if loop.context.has_clock:
        sizes = CompiledSizes(
            **loop.steps.sizes(),
            first_compile_seconds=loop.dispatcher.compile_seconds,
            step_seconds=loop.step_seconds,
        )
    else:
        assert loop.setup.costs is not None
        seconds = loop.counted_seconds
        sizes = loop.steps.counted_sizes(loop.setup.costs, seconds, wait=moment == "evaluated")
    _tell_failures(loop)
    return Observation(
        moment=moment,
        context=loop.context,
        step=state.progress.num_steps,
        seconds=seconds,
        epochs=loop.epochs,
        done=loop.fraction,
        run_steps=loop.run_steps,
        knobs=state.knobs,
        sizes=sizes,
        instruments=LoopInstruments(loop),
        first_loss=state.progress.first_loss,
        epoch_loss=state.progress.last_epoch_loss,
        is_interrupted=loop.interrupts.received is not None,
        **seen,
    )


def _tell_failures(loop: Loop) -> None:
    for size, failure in loop.steps.failures().items():
        if size not in loop.failures_told:
            loop.failures_told.add(size)
            step, because = loop.state.progress.num_steps, str(failure)[:200]
            loop.run.journal.write("not compiled", step=step, batch_size=size, because=because)


class LoopInstruments:
    """Costly readings of a run, made on demand; see `choose.controller.Instruments`."""

    def __init__(self, loop: Loop):
        self._loop = loop

    def noise(self) -> NoiseReading:
        return self._noise

    @functools.cached_property
    def _noise(self) -> NoiseReading:
        if self._loop.state.monitor is None:
            return NoiseReading()
        with self._loop.spending.on(MEASURING):
            readings = self._loop.state.monitor.read()
        scale = readings.scale
        return NoiseReading(
            scale=scale.value,
            lo=scale.lo,
            hi=scale.hi,
            equilibrium_ratio=readings.equilibrium.value,
            is_preconditioned=readings.preconditioned_scale is not None,
        )

    def norms(self) -> NormReading | None:
        from downslope.noise.tails import hill

        monitor = self._loop.state.monitor
        norms = np.zeros(0) if monitor is None else monitor.norms()
        if len(norms) < MIN_NORMS:
            return None
        threshold = float(np.quantile(norms, CLIPPED_FROM))
        if not threshold > 0:
            return None
        return NormReading(
            num_norms=len(norms),
            threshold=threshold,
            largest=float(np.max(norms)),
            tail_index_upper=hill(norms, num_tail=max(8, len(norms) // 10)).hi,
            clipped_share=float(np.mean(norms > threshold)),
            length_lost=float(1 - np.minimum(norms, threshold).sum() / norms.sum()),
        )

    def start_rate(self) -> float | None:
        return start_rate(self._loop.setup)

    def nonfinite_rows(self) -> tuple[int, ...]:
        loop = self._loop
        params = restore_device(loop.good, loop.setup, "checkpoint")[0].params
        return loop.setup.bad_rows(params)
