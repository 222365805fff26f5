"""A trained detector at work: on a whole signal, and on one that comes in pieces."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from downslope import DataError, UsageError
from downslope.recipes.anomaly.explain import Alarm, explain
from downslope.recipes.anomaly.learning import Learned
from downslope.recipes.anomaly.parameters import Parameters
from downslope.recipes.anomaly.period import as_signal
from downslope.recipes.anomaly.stream import Scores, State, advance, begin
from downslope.recipes.anomaly.threshold import Threshold
from downslope.recipes.anomaly.windows import Layout, cut


class Watcher(Parameters):
    """Scores signals with what was learned; the part of a detector that needs no training.

    Attributes:
        learned_: layout of the windows, scorer, and windows held out.
        threshold_: above which score a window is an alarm.
        sampling_rate: samples in a unit of time, for frequencies.
    """

    learned_: Learned
    threshold_: Threshold
    sampling_rate: float
    _state: State

    @property
    def layout_(self) -> Layout:
        """Where windows lie."""
        return self.learned_.layout

    @property
    def offset_(self) -> float:
        """The opposite of the threshold, as scikit-learn's detectors have it."""
        return -self.threshold_.value

    def windows(self, X: Any) -> Scores:
        """Scores of all windows of a signal.

        Args:
            X: a signal [n]; samples that are not finite make their windows alarms.

        Raises:
            DataError: the signal is shorter than a window.
        """
        return self._scored(*self._cut(X))

    def score_samples(self, X: Any) -> np.ndarray:
        """The opposite of the anomaly score [n] of each sample: lower is less normal.

        A sample takes the largest score of the windows that hold it. The last samples, fewer
        than one hop, that no window holds yet take the last window's.

        Args:
            X: a signal [n].
        """
        return -self.windows(X).by_sample(len(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples(X) - offset_` [n]: below 0 is an alarm."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """-1 for samples [n] in an alarm, 1 for the others."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def explain(self, X: Any) -> list[Alarm]:
        """The alarms in a signal: which samples, which frequency, and when they were known.

        Args:
            X: a signal [n].
        """
        starts, windows = self._cut(X)
        scorer, scores = self.learned_.scorer, self._scored(starts, windows)
        return explain(scorer, scores, windows, sampling_rate=self.sampling_rate)

    def score(self, X: Any) -> Scores:
        """Scores of the windows that the next piece of a stream completes.

        Pieces of any length give, together, what `windows` gives for the whole. `reset` begins a
        new stream; so does `fit`.

        Args:
            X: the next samples [n], none or more.
        """
        self._fitted()
        chunk = as_signal(X, finite=False)
        self._state, starts, windows = advance(self._state, self.learned_.layout, chunk)
        return self._scored(starts, windows)

    def reset(self) -> Self:
        """The detector, at the beginning of a stream."""
        self._fitted()
        self._state = begin()
        return self

    def _cut(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        self._fitted()
        signal, layout = as_signal(X, finite=False), self.learned_.layout
        starts = layout.starts(len(signal))
        if len(starts) == 0:
            raise DataError(
                f"{len(signal)} samples; a window has {layout.length}",
                remedy="give a longer signal, or pieces of it to score",
            )
        return starts, cut(signal, starts, layout.length)

    def _scored(self, starts: np.ndarray, windows: np.ndarray) -> Scores:
        scores, ends = self.learned_.scorer(windows), starts + self.learned_.layout.length
        alarms = scores > self.threshold_.value
        return Scores(starts=starts, ends=ends, scores=scores, alarms=alarms)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of a step of a pipeline, and of what a grid search tries."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(one_d_array=True, two_d_array=False),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "learned_")

    def _fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise UsageError("the detector is not fitted; call fit with normal signals first")
