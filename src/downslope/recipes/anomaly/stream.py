"""A signal that comes in pieces: what must be kept so that pieces score like the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from downslope.recipes.anomaly.windows import Layout, cut


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of windows, in the order in which they were complete.

    Attributes:
        starts: [k] first sample of each window, counted from the beginning of the stream.
        ends: [k] the sample after its last: an alarm is known once so many have come.
        scores: [k] larger is less normal; infinite where a sample is not finite.
        alarms: [k] whether the score lies above the threshold.
    """

    starts: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    alarms: np.ndarray

    def by_sample(self, count: int) -> np.ndarray:
        """The largest score [count] of the windows that hold each sample.

        The last samples, that no window holds, take the last window's.

        Args:
            count: samples of the signal that the windows were cut from.
        """
        found = np.full(count, -np.inf)
        for start, end, score in zip(self.starts, self.ends, self.scores, strict=True):
            np.maximum(found[start:end], score, out=found[start:end])
        found[self.ends[-1] :] = self.scores[-1]
        return found


class State(NamedTuple):
    """Where a stream stands: bounded by one window and one hop, however long it runs.

    Attributes:
        tail: samples that later windows need.
        position: number of the tail's first sample in the stream.
        next_window: number of the first window that is not complete.
    """

    tail: np.ndarray
    position: int
    next_window: int


def begin() -> State:
    """The state before the first sample."""
    return State(tail=np.zeros(0), position=0, next_window=0)


def advance(
    state: State, layout: Layout, chunk: np.ndarray
) -> tuple[State, np.ndarray, np.ndarray]:
    """The next state, and the windows [k, L] that a chunk completes, with their starts [k].

    Example:
        >>> from downslope.recipes.anomaly.windows import layout_for
        >>> state, starts, windows = advance(begin(), layout_for(32.0), np.arange(100.0))
        >>> starts, windows.shape, state.position, len(state.tail)
        (array([ 0, 32]), (2, 64), 64, 36)
    """
    samples = np.concatenate([state.tail, chunk])
    end = state.position + len(samples)
    last = max(state.next_window, layout.count(end))
    numbers = np.arange(state.next_window, last)
    starts = np.floor(numbers * layout.hop + 0.5).astype(np.int64)
    windows = cut(samples, starts - state.position, layout.length)
    keep = min(layout.start(last), end)  # a hop may be longer than what came
    tail = samples[keep - state.position :].copy()
    return State(tail=tail, position=keep, next_window=last), starts, windows
