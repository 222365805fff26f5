"""Gradient clipping, only if the norms have a heavy tail."""

from __future__ import annotations

import dataclasses

from downslope.choose.controller import Context, Observation, Order, decision_on
from downslope.choose.decision import Decision, policy

MIN_NORMS = 64  # needed for a decision
HEAVY_TAIL = 2.0  # tail index of the norms below which their variance is infinite
MIN_EXCESS = 10.0  # the largest norm over the threshold, below which clipping changes little
CLIPPED_FROM = 0.9  # quantile of the norms at which clipping would begin


@policy
def next_clip_norm(
    *,
    clip_norm: float | None,
    num_norms: int,
    threshold: float,
    largest: float,
    tail_index_upper: float | None,
    clipped_share: float,
    length_lost: float,
) -> Decision | None:
    """Clip at a high quantile of the gradient norms if their tail is heavy.

    Clipping is never free: it biases the gradient. It is turned on only if the upper end of the
    tail index is below 2 and the largest norm is ten times the threshold.

    Args:
        clip_norm: norm in use, or None.
        num_norms: number of gradient norms, from measured updates.
        threshold: 90 % quantile of the norms.
        largest: largest norm.
        tail_index_upper: upper end of the interval of the norms' tail index; None where it
            cannot be estimated, which changes nothing.
        clipped_share: share of updates that the threshold would have clipped.
        length_lost: share of the sum of norms that clipping removes: a bound of its bias on the
            length of the mean gradient.

    Example:
        >>> next_clip_norm(clip_norm=None, num_norms=200, threshold=2.0, largest=3.0,
        ...                tail_index_upper=8.0, clipped_share=0.1, length_lost=0.01) is None
        True
        >>> next_clip_norm(clip_norm=None, num_norms=200, threshold=2.0, largest=300.0,
        ...                tail_index_upper=1.5, clipped_share=0.1, length_lost=0.4).new
        2.0
    """
    if clip_norm is not None or num_norms < MIN_NORMS or tail_index_upper is None:
        return None
    if tail_index_upper >= HEAVY_TAIL or largest < MIN_EXCESS * threshold:
        return None
    because = (
        f"the norms of {num_norms} gradients have a heavy tail (index below {tail_index_upper:.2g} "
        f"with 95 %, the largest {largest:.3g} against {threshold:.3g} at 90 %); clipping there "
        f"shortens {clipped_share:.0%} of the gradients and biases their mean: up to "
        f"{length_lost:.0%} of the mean gradient is lost"
    )
    return Decision(knob="clip_norm", old=clip_norm, new=threshold, because=because)


class Clipping:
    """Turn on clipping at the first evaluation that shows a heavy tail; stateless."""

    def init(self, context: Context) -> None:
        """No state."""

    def update(
        self, state: None, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[None, tuple[Order, ...]]:
        """Norm to clip at, if the gradient norms have a heavy tail."""
        if seen.moment != "evaluated" or seen.loss is None or decision_on(decided, "stop"):
            return None, ()
        if "clip_norm" not in seen.context.free or seen.knobs.clip_norm is not None:
            return None, ()
        norms = seen.instruments.norms()
        decision = norms and next_clip_norm(clip_norm=None, **dataclasses.asdict(norms))
        return None, (decision,) if decision else ()
