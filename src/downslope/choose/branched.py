"""Batch size of a run whose changes are branched before they last."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from downslope.choose.branch import arm_seconds, settle_batch_size
from downslope.choose.controller import (
    SURVIVES,
    Context,
    EndTrials,
    Observation,
    Order,
    Trial,
    decision_on,
)
from downslope.choose.explore import CHANGES, BatchSize, BatchSizeState, follow
from downslope.choose.temperature import gain_scale

WAIT = 2.0  # a refused size may be proposed again once the run is this many times as long; assumed


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A branch in progress, with what its decision will rest on; a candidate of 0 if there is none.

    Attributes:
        batch_size, candidate: present and proposed size.
        learning_rate, candidate_rate: rates of their arms.
        step_seconds, candidate_seconds: time of an update; None until that of the candidate is
            timed.
        arm_seconds: time of an arm.
        candidate_steps: updates of the candidate's arm: at most, until it ended.
        candidate_gain, candidate_gain_error: fall of the held-out loss in the candidate's arm, and
            its standard error; None until it ended, or if unknown.
        noise: predicted critical batch size with the ends of its interval.
        is_preconditioned: it is in the metric of a preconditioned optimizer.
    """

    batch_size: int = 0
    candidate: int = 0
    learning_rate: float | None = None
    candidate_rate: float | None = None
    step_seconds: float = 0.0
    candidate_seconds: float | None = None
    arm_seconds: float = 0.0
    candidate_steps: int = 0
    candidate_gain: float | None = None
    candidate_gain_error: float | None = None
    noise: tuple[float | None, ...] = (None, None, None)
    is_preconditioned: bool = False

    def first_arm(self) -> Trial:
        """The candidate's; it ends by the clock where its updates were not timed yet."""
        limit = self.arm_seconds if self.candidate_seconds is None else None
        return Trial(self.candidate_rate, self.candidate_steps, limit, self.candidate)

    def second_arm(self) -> Trial:
        """That of the present size, for as long as the candidate's took."""
        assert self.candidate_seconds is not None
        steps = round(self.candidate_steps * self.candidate_seconds / self.step_seconds)
        return Trial(self.learning_rate, max(1, steps), batch_size=self.batch_size)


@dataclass(frozen=True, kw_only=True)
class BranchState:
    """State of the batch size and of the branches before its changes.

    Attributes:
        sizes: state of the search that proposes sizes.
        proposed: size to branch with at the next evaluation; None without one.
        branch: the branch in progress.
        refused: (size, seconds of the run before which it is not proposed again).
        num_branches, spent_seconds: branches so far, and the time of their arms.
    """

    sizes: BatchSizeState = BatchSizeState()  # noqa: RUF009 - immutable
    proposed: int | None = field(default=None, metadata=SURVIVES)
    branch: Branch = field(default=Branch(), metadata=SURVIVES)
    refused: tuple[tuple[int, float], ...] = field(default=(), metadata=SURVIVES)
    num_branches: int = field(default=0, metadata=SURVIVES)
    spent_seconds: float = field(default=0.0, metadata=SURVIVES)


class BranchedBatchSize:
    """Batch size by `BatchSize`, whose changes a branch confirms or refuses in a long run.

    Every long run has a branch: where the larger size cannot pay, the smaller one may; see
    `may_pay`.
    """

    def __init__(self):
        self._sizes = BatchSize()

    def init(self, context: Context) -> BranchState:
        """No branch yet."""
        return BranchState(sizes=self._sizes.init(context))

    def update(
        self, state: BranchState, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[BranchState, tuple[Order, ...]]:
        """A change of batch size, a size to compile, or an arm of a branch."""
        if seen.moment == "begun" and state.branch.candidate:
            return state, (state.branch.first_arm(),)  # interrupted, so both are repeated
        if seen.moment == "trial_ended" and seen.arm is not None:
            return self._arm_ended(state, seen)
        if seen.moment not in ("collected", "evaluated") or not seen.context.can_change_batch:
            return state, ()
        if seen.moment == "evaluated" and state.proposed not in seen.sizes.usable:
            state = dataclasses.replace(state, proposed=None)  # dropped since
        if state.proposed is None:
            sizes, orders = self._sizes.update(state.sizes, seen, decided)
            state = dataclasses.replace(state, sizes=sizes)
            change = decision_on(orders, "batch_size")
            if change is None:
                return state, orders
            again_at = dict(state.refused).get(change.new)
            if again_at is not None and seen.seconds < again_at:
                return state, ()
            if self._arm_seconds(state, seen, change.new) is None:
                may_follow = again_at is None and not seen.context.has_held_out
                return state, orders if may_follow else ()  # held-out rows would have to confirm it
            state = dataclasses.replace(state, proposed=change.new)
        return self._begin(state, seen, decided)

    def _arm_seconds(self, state: BranchState, seen: Observation, size: int) -> float | None:
        here = seen.knobs.batch_size
        each = seen.sizes.seconds_per_example(here)
        if each is None or not seen.context.has_held_out:
            return None
        return arm_seconds(
            batch_size=here,
            candidate=size,
            step_seconds=each * here,
            seconds=seen.seconds,
            done=seen.done,
            spent_seconds=state.spent_seconds,
        )

    def _begin(
        self, state: BranchState, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[BranchState, tuple[Order, ...]]:
        """First arm, at an evaluation after which nothing else changes."""
        if seen.held_out_loss is None or decision_on(decided, *CHANGES):
            return state, ()
        size, here, rate = state.proposed, seen.knobs.batch_size, seen.knobs.learning_rate
        state = dataclasses.replace(state, proposed=None)
        assert size is not None
        seconds = self._arm_seconds(state, seen, size)
        if seconds is None or size == here:
            return state, ()
        noise, sizes = seen.instruments.noise(), seen.sizes
        follows = follow(seen.context, rate, here, size, noise.scale)
        each = sizes.seconds_per_example(size)
        step_seconds = here * (sizes.seconds_per_example(here) or 0.0)
        least = step_seconds * min(1.0, size / here) if each is None else size * each
        branch = Branch(
            batch_size=here,
            candidate=size,
            learning_rate=rate,
            candidate_rate=rate if follows is None else follows.new,
            step_seconds=step_seconds,
            candidate_seconds=None if each is None else size * each,
            arm_seconds=seconds,
            candidate_steps=max(1, int(seconds / least)),
            noise=(noise.scale, noise.lo, noise.hi),
            is_preconditioned=noise.is_preconditioned,
        )
        state = dataclasses.replace(
            state,
            branch=branch,
            num_branches=state.num_branches + 1,
            spent_seconds=state.spent_seconds + 2 * seconds,
        )
        return state, (branch.first_arm(),)

    def _arm_ended(
        self, state: BranchState, seen: Observation
    ) -> tuple[BranchState, tuple[Order, ...]]:
        """Second arm, or the size to continue with."""
        arm, branch = seen.arm, state.branch
        assert arm is not None
        if seen.is_interrupted:
            return state, (EndTrials(keep_best=False),)
        ended = dataclasses.replace(state, branch=Branch())
        if seen.is_cut_short:  # out of time
            return _refused(ended, seen, branch.candidate), (EndTrials(keep_best=False),)
        if arm.batch_size == branch.candidate:
            each = seen.sizes.seconds_per_example(arm.batch_size)
            seconds = branch.arm_seconds / max(1, arm.num_steps) if each is None else None
            branch = dataclasses.replace(
                branch,
                candidate_steps=arm.num_steps,
                candidate_gain=arm.gain,
                candidate_gain_error=arm.gain_error,
                candidate_seconds=seconds or arm.batch_size * (each or 0.0),
            )
            return dataclasses.replace(state, branch=branch), (branch.second_arm(),)
        decision = settle_batch_size(
            batch_size=branch.batch_size,
            candidate=branch.candidate,
            num_steps=arm.num_steps,
            candidate_steps=branch.candidate_steps,
            arm_seconds=branch.candidate_steps * (branch.candidate_seconds or 0.0),
            difference=arm.difference,
            error=arm.error,
            num_rows=arm.num_rows,
            gain=arm.gain,
            gain_error=arm.gain_error,
            gains_error=arm.gains_error,
            candidate_gain=branch.candidate_gain,
            candidate_gain_error=branch.candidate_gain_error,
            loss=None if arm.loss is None else gain_scale(arm.loss, seen.first_loss),
            tolerance=seen.context.training.tolerance,
            was_refused=branch.candidate in dict(state.refused),
            is_preconditioned=branch.is_preconditioned,
            noise_scale=branch.noise[0],
            noise_lo=branch.noise[1],
            noise_hi=branch.noise[2],
            step_seconds=branch.step_seconds,
            candidate_seconds=branch.candidate_seconds or 0.0,
        )
        assert decision is not None
        if decision.new == branch.batch_size:
            keep = EndTrials(keep_best=arm.loss is not None, batch_size=branch.batch_size)
            return _refused(ended, seen, branch.candidate), (keep, decision)
        follows = follow(
            seen.context,
            branch.learning_rate,
            branch.batch_size,
            branch.candidate,
            branch.noise[0],
        )
        keep = EndTrials(keep_best=True, batch_size=branch.candidate)
        return ended, (keep, decision) if follows is None else (keep, decision, follows)


def _refused(state: BranchState, seen: Observation, size: int) -> BranchState:
    refused = dict(state.refused) | {size: WAIT * seen.seconds}
    return dataclasses.replace(state, refused=tuple(refused.items()))
