"""Temperature control at each evaluation: hold it, lower it, restart or stop."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from downslope.choose.controller import SURVIVES, Context, Observation, Order, decision_on
from downslope.choose.decision import Decision, policy
from downslope.choose.next_batch import BATCH_STRIDE
from downslope.choose.restart import LATEST_RESTART, is_overfitted, start_again, start_hotter
from downslope.config import NEED_AN_END

MIN_EVALUATIONS = 2  # without a gain before the temperature is lowered
MIN_EPOCHS = 2  # made meanwhile: evaluations inside an epoch say little of rows not seen yet
MIN_UPDATES = 128  # made meanwhile: two evaluations of a small table are quickly over
MIN_SHARE = 0.15  # of the updates so far, made meanwhile: late gains come slowly
SLOW_GAIN = 0.01  # relative, over the latest fifth of the updates: less means a floor is near
RECENT_SHARE = 0.2
OVERFITTED_SHARE = 0.5  # of the updates so far, without a gain, after which overfitting counts
MAX_ANNEALS = 2  # lower temperatures in a row without a gain, after which the run has converged
GIVE_UP = 5  # evaluations without a gain that end a run whose temperature is given
COOLING = 4.0  # the factor by which the temperature is lowered; assumed
LATEST_ANNEAL = 0.8  # share of a run whose schedule spans it: later the rate is low already
FITTED = 1e-6  # of the first loss; assumed
CHEAPER = 0.9  # a larger batch must cost at most this share of the time for an example
NEGLIGIBLE = 0.01  # of the first batch's loss; assumed


def stands_out(gain: float, error: float | None, *, loss: float, tolerance: float) -> bool:
    """True if a gain in loss exceeds its own noise and the tolerance.

    Args:
        gain: lowest loss so far minus the new one, on the same held-out rows.
        error: standard error of that difference, from the differences of single rows; None
            if unknown.
        loss: the lowest loss so far.
        tolerance: relative gain that counts.

    Example:
        >>> stands_out(0.01, 0.002, loss=1.0, tolerance=1e-3)
        True
        >>> stands_out(0.01, 0.02, loss=1.0, tolerance=1e-3)
        False
    """
    return gain > max(tolerance * abs(loss), error or 0.0)


@policy
def next_temperature(
    *,
    learning_rate: float | None,
    batch_size: int,
    may_lower: bool,
    may_stop: bool,
    evaluations_without_gain: int,
    updates_without_gain: int,
    share_without_gain: float,
    recent_gain: float | None,
    anneals_without_gain: int,
    fitted_share: float | None,
    equilibrium_ratio: float | None,
    seconds_per_example: float | None,
    larger_batch_size: int | None,
    larger_seconds_per_example: float | None,
    epochs_without_gain: float = math.inf,
    overfitted: bool = False,
    spans_the_run: bool = False,
    is_second_start: bool = False,
) -> Decision | None:
    """Lower the temperature or stop, at the noise floor; None while the loss still gains.

    While evaluations show gains above their noise, the temperature is held. After two that do
    not, over two epochs or more, or once the latest fifth of the updates, of an epoch or more,
    gained less than 1 %, the loss is at its noise floor or near it, and the temperature is lowered
    by a factor of 4: by a batch 4 times as large if that makes an example at least a tenth cheaper,
    else by a quarter of the learning rate. After two such steps without a gain, the run has
    converged.

    A schedule that spans the run lowers the rate itself, and takes its gain late. Before that end,
    no gain seen is no evidence that there is none: such a run is cooled or ended only if nothing
    was gained over half of the updates while the training rows are overfitted; not in a second
    start, which has yet to cool.

    Args:
        learning_rate, batch_size: in use.
        may_lower: the temperature was left to choose.
        may_stop: the end of the run was left to choose.
        evaluations_without_gain: evaluations since the last gain or change of temperature.
        updates_without_gain, epochs_without_gain: updates and epochs since then.
        share_without_gain: their share of the run's updates.
        recent_gain: relative gain in loss over the latest fifth of the updates; None if the
            temperature was changed since.
        anneals_without_gain: changes of temperature since the last gain.
        fitted_share: training loss of the last epoch over that of the first batch; None if
            unknown. Below a millionth the rows are fitted and nothing is left to learn.
        equilibrium_ratio: R_eq, 1 once the run is stationary; only shown.
        seconds_per_example: measured at the current batch size; None if unknown.
        larger_batch_size: a batch size that could be used instead, or None.
        larger_seconds_per_example: the same for the larger batch size.
        overfitted: the training loss is well below the held-out one.
        spans_the_run: the schedule ends with the run.
        is_second_start: the run restarted before.

    Example:
        >>> print(next_temperature(learning_rate=0.01, batch_size=128, may_lower=True,
        ...     may_stop=True, evaluations_without_gain=2, updates_without_gain=700,
        ...     epochs_without_gain=2, share_without_gain=0.2, recent_gain=None,
        ...     anneals_without_gain=0, fitted_share=0.2, equilibrium_ratio=1.2,
        ...     seconds_per_example=1e-6,
        ...     larger_batch_size=None, larger_seconds_per_example=None))
        learning_rate 0.01 -> 0.0025: 2 evaluations brought no gain in loss above its own
        noise (R_eq 1.2): the loss sits at its noise floor, and a quarter of the rate lowers that
    """
    if may_stop and fitted_share is not None and 0 <= fitted_share < FITTED:
        because = f"the training loss is {fitted_share:.1g} of what it was: the rows are fitted"
        return Decision(knob="stop", old=None, new="converged", because=because)
    slow = recent_gain is not None and recent_gain < SLOW_GAIN
    waited = (
        evaluations_without_gain >= MIN_EVALUATIONS
        and updates_without_gain >= MIN_UPDATES
        and epochs_without_gain >= MIN_EPOCHS
        and share_without_gain >= MIN_SHARE
    )
    if not waited and not slow:
        return None
    overfits = overfitted and share_without_gain >= OVERFITTED_SHARE
    if spans_the_run and (is_second_start or not overfits):
        return None
    seen = f"{evaluations_without_gain} evaluations brought no gain in loss above its own"
    if not waited:
        seen = f"the latest fifth of the updates gained {recent_gain:.1%}, little above the"
    seen += " noise" if equilibrium_ratio is None else f" noise (R_eq {equilibrium_ratio:.2g})"
    if overfits:
        seen += ", over half of the updates, and the training rows are overfitted"
    if anneals_without_gain >= MAX_ANNEALS or not may_lower or learning_rate is None:
        if not may_stop or (not may_lower and evaluations_without_gain < GIVE_UP):
            return None
        tried = f", and neither did {anneals_without_gain} lower temperatures before"
        because = seen + tried * (anneals_without_gain > 0)
        return Decision(knob="stop", old=None, new="converged", because=because)
    growth = _growth(seconds_per_example, larger_seconds_per_example)
    if larger_batch_size is not None and growth is not None and growth <= CHEAPER:
        because = (
            f"{seen}: the loss sits at its noise floor, and a batch of {larger_batch_size:,} "
            f"lowers that at {growth:.2g} of the time for an example"
        )
        return Decision(knob="batch_size", old=batch_size, new=larger_batch_size, because=because)
    because = f"{seen}: the loss sits at its noise floor, and a quarter of the rate lowers that"
    return Decision(
        knob="learning_rate", old=learning_rate, new=learning_rate / COOLING, because=because
    )


def _growth(now: float | None, larger: float | None) -> float | None:
    if now is None or larger is None or not (now > 0 and math.isfinite(larger)):
        return None
    return larger / now


@dataclass(frozen=True, kw_only=True)
class TemperatureState:
    """State of the temperature.

    Attributes:
        evaluations_without_gain: since the last gain or change of temperature.
        changed_step, changed_epochs: update of that gain or change, and the epochs made by then.
        anneals_without_gain: changes of temperature since the last gain.
        path: (update, reference loss) at the evaluations since the last change of temperature.
        average_from: update that the average of the parameters begins with.
        starts: number of starts from the first parameters.
        started_step, started_epochs: update of the latest of them, and the epochs made by then.
        first_rate: rate that the latest start began with; None without a search.
        lowest_before: lowest held-out loss of earlier starts, or None.
    """

    average_from: int
    evaluations_without_gain: int = 0
    changed_step: int = 0
    changed_epochs: float = 0.0
    anneals_without_gain: int = 0
    path: tuple[tuple[int, float], ...] = ()
    starts: int = field(default=1, metadata=SURVIVES)
    started_step: int = field(default=0, metadata=SURVIVES)
    started_epochs: float = field(default=0.0, metadata=SURVIVES)
    first_rate: float | None = field(default=None, metadata=SURVIVES)
    lowest_before: float | None = field(default=None, metadata=SURVIVES)


class Temperature:
    """Lower the temperature at the noise floor; restart or stop the run."""

    def init(self, context: Context) -> TemperatureState:
        """The first start, at its first update."""
        return TemperatureState(average_from=context.training.average_from_step)

    def update(
        self, state: TemperatureState, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[TemperatureState, tuple[Order, ...]]:
        """A lower rate, a larger batch, a restart, or a stop."""
        if seen.moment == "trial_ended" and (settled := decision_on(decided, "learning_rate")):
            return dataclasses.replace(state, first_rate=settled.new), ()
        if seen.moment != "evaluated" or seen.loss is None:
            return state, ()
        state, free = _with_evaluation(state, seen), seen.context.free
        if decision_on(decided, "stop"):
            return state, ()
        decision = None
        is_late = _spans_the_run(seen.context) and (seen.done or 0) >= LATEST_ANNEAL
        if free & {"schedule", "patience"} and not is_late:
            decision = _decide(state, seen)
        if decision is None:
            return state, ()
        decision = _restart(state, seen, decision) or decision
        if decision.knob == "stop":
            return state, (decision,)
        state = (
            _restarted(state, seen, decision)
            if decision.from_start
            else dataclasses.replace(
                state,
                anneals_without_gain=state.anneals_without_gain + 1,
                path=state.path[-1:],
            )
        )
        return dataclasses.replace(
            state,
            evaluations_without_gain=0,
            changed_step=seen.step,
            changed_epochs=seen.epochs or 0.0,
            average_from=seen.step if "average" in free else state.average_from,
        ), (decision,)


def _spans_the_run(context: Context) -> bool:
    """True if the schedule ends with the run; one that needs an end is constant without."""
    return context.has_end and context.training.schedule in NEED_AN_END


def _with_evaluation(state: TemperatureState, seen: Observation) -> TemperatureState:
    """State after an evaluation, before decisions."""
    assert seen.reference_loss is not None
    path = (*state.path, (seen.step, seen.reference_loss))
    anneals = state.anneals_without_gain
    if path[0][1] - seen.reference_loss > SLOW_GAIN * gain_scale(
        seen.reference_loss, seen.first_loss
    ):
        anneals = 0
    state = dataclasses.replace(state, path=path, anneals_without_gain=anneals)
    if seen.gained:
        return dataclasses.replace(
            state,
            evaluations_without_gain=0,
            changed_step=seen.step,
            changed_epochs=seen.epochs or 0.0,
        )
    waited = state.evaluations_without_gain + 1
    return dataclasses.replace(state, evaluations_without_gain=waited)


def _decide(state: TemperatureState, seen: Observation) -> Decision | None:
    knobs, sizes, context = seen.knobs, seen.sizes, seen.context
    larger: int | None = knobs.batch_size * BATCH_STRIDE
    if larger not in sizes.usable:
        larger = None
    steps = seen.step - state.changed_step
    ratio = seen.instruments.noise().equilibrium_ratio
    is_fitted = seen.first_loss and seen.epoch_loss is not None and seen.first_loss > 0
    return next_temperature(
        learning_rate=knobs.learning_rate,
        batch_size=knobs.batch_size,
        may_lower="schedule" in context.free and knobs.learning_rate is not None,
        may_stop="patience" in context.free,
        evaluations_without_gain=state.evaluations_without_gain,
        updates_without_gain=steps,
        epochs_without_gain=(seen.epochs or 0.0) - state.changed_epochs,
        share_without_gain=steps / max(1, seen.step - state.started_step),
        recent_gain=_recent_gain(state, seen),
        anneals_without_gain=state.anneals_without_gain,
        fitted_share=seen.epoch_loss / seen.first_loss if is_fitted else None,  # type: ignore[operator]
        # below 0 the run is far from stationary, which says nothing about a noise floor
        equilibrium_ratio=ratio if ratio is not None and ratio > 0 else None,
        seconds_per_example=sizes.seconds_per_example(knobs.batch_size),
        larger_batch_size=larger,
        larger_seconds_per_example=larger and sizes.seconds_per_example(larger),
        overfitted=context.has_held_out and is_overfitted(seen.epoch_loss, seen.loss),
        spans_the_run=_spans_the_run(context),
        is_second_start=state.starts > 1,
    )


def _recent_gain(state: TemperatureState, seen: Observation) -> float | None:
    """Relative gain over the latest fifth of this start's updates; None if not comparable."""
    assert seen.reference_loss is not None
    since = seen.step - RECENT_SHARE * (seen.step - state.started_step)
    before = [loss for step, loss in state.path if step <= since]
    if not before or len(state.path) - len(before) < MIN_EVALUATIONS:
        return None
    if RECENT_SHARE * ((seen.epochs or 0.0) - state.started_epochs) < 1:
        return None  # less than an epoch
    scale = gain_scale(seen.reference_loss, seen.first_loss)
    return (before[-1] - seen.reference_loss) / scale if scale else None


def _restart(state: TemperatureState, seen: Observation, instead_of: Decision) -> Decision | None:
    """A restart in place of a stop, or of a lower rate in a run whose schedule lowers it."""
    context, lowest = seen.context, None
    if state.first_rate is None or not {"learning_rate", "schedule", "patience"} <= context.free:
        return None
    if context.has_end and (seen.done or 0.0) > LATEST_RESTART:
        return None
    spans = _spans_the_run(context)
    if spans and state.starts > 1:  # the schedule ends with this start
        return None
    if context.has_held_out:
        lowest = seen.reference_loss
    if lowest is not None and seen.first_loss and abs(lowest) < NEGLIGIBLE * abs(seen.first_loss):
        return None
    known = {"train_loss": seen.epoch_loss, "held_out_loss": lowest, "starts": state.starts}
    rate = seen.knobs.learning_rate  # less than the first one where steps diverged
    if spans and rate and (hotter := start_hotter(learning_rate=rate, **known)) is not None:
        return hotter
    if instead_of.knob != "stop":
        return None
    has_both = state.lowest_before is not None and lowest is not None
    gain = state.lowest_before - lowest if has_both else None  # type: ignore[operator]
    return start_again(
        learning_rate=state.first_rate, gain=gain, tolerance=context.training.tolerance, **known
    )


def _restarted(state: TemperatureState, seen: Observation, decision: Decision) -> TemperatureState:
    losses = [loss for loss in (state.lowest_before, seen.reference_loss) if loss is not None]
    return dataclasses.replace(
        state,
        lowest_before=min(losses),
        starts=state.starts + 1,
        started_step=seen.step,
        started_epochs=seen.epochs or 0.0,
        first_rate=decision.new,
        anneals_without_gain=0,
        path=(),
    )


def gain_scale(loss: float, first_loss: float | None) -> float:
    """Scale of a relative gain: the loss, but at least a hundredth of the first loss.

    Otherwise a loss that falls to 0 would never stop gaining.
    """
    return max(abs(loss), NEGLIGIBLE * abs(first_loss or 0.0))
