"""`AnomalyDetector`: learns normal periodic signals, and finds what is not like them."""

from __future__ import annotations

import dataclasses
import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np

from downslope import DataError, Result, Stepper, Training, UsageError
from downslope.noise import Measurement
from downslope.recipes.anomaly import files, model
from downslope.recipes.anomaly.explain import Alarm, explain
from downslope.recipes.anomaly.period import as_signal, find_period
from downslope.recipes.anomaly.scoring import Scorer, scorer_of
from downslope.recipes.anomaly.stream import Scores, State, advance, begin
from downslope.recipes.anomaly.threshold import Threshold, calibrate
from downslope.recipes.anomaly.windows import Layout, cut, layout_for

VALIDATION = 0.1  # share of a signal to stop by. Assumed
LEAST = 10  # windows that train, at the least; a hundred are a better number. Assumed
KEPT = 8192  # held-out windows kept for calibrating anew: 4 MB of 64 samples
STEP_RATE = 1e-3  # of Adam in `partial_fit`: small, since the model is trained. Assumed


class AnomalyDetector:
    """Finds anomalies in a periodic signal after learning from normal ones only.

    Windows aligned to the period go through an autoencoder; the score of a window is the larger of
    what that could not rebuild and of how far its spectrum lies from the normal. The threshold is
    calibrated on the last part of each normal signal, which trained nothing. Works in the manner
    of scikit-learn's outlier detectors (`clone`, `get_params`), and does not need scikit-learn.

    Args:
        period: in samples; None finds it.
        false_alarm_rate: false alarms per window, between 0 and 1.
        held_out: share of each signal, its end, that calibrates the threshold.
        code: numbers from which a window is rebuilt; None for as many as stand above noise.
        sampling_rate: samples in a unit of time, for frequencies.
        max_iter: passes over the windows, at most; None leaves it to choose.
        seconds: time budget for training; None leaves it to choose.
        random_state: seed of every random choice.

    Attributes:
        period_: the period, with its interval, as `find_period` gives it.
        threshold_: the threshold, with the rate of false alarms that it can state.
        layout_: where windows lie.
        result_: the run, as `downslope.fit` gives it; None after `partial_fit` or loading.
        offset_: the opposite of the threshold, as scikit-learn's detectors have it.

    Example:
        >>> from downslope.recipes.anomaly.simulate import beam, plant
        >>> detector = AnomalyDetector(false_alarm_rate=0.01, max_iter=3).fit(beam(20_000))
        >>> signal = plant(beam(4_000, seed=1), "spike", at=2_000, strength=3.0)
        >>> [(alarm.because, 2_000 in alarm.samples) for alarm in detector.explain(signal)]
        [('peak', True)]
        >>> int(detector.predict(signal)[2_000]), int(detector.predict(signal)[100])
        (-1, 1)
    """

    period_: Measurement
    threshold_: Threshold
    layout_: Layout
    result_: Result | None
    _scorer: Scorer
    _held_out: np.ndarray
    _count: int
    _state: State
    _stepper: Stepper | None

    def __init__(
        self,
        *,
        period: float | None = None,
        false_alarm_rate: float = 1e-3,
        held_out: float = 0.3,
        code: int | None = None,
        sampling_rate: float = 1.0,
        max_iter: int | None = None,
        seconds: float | None = None,
        random_state: int = 0,
    ):
        vars(self).update({k: v for k, v in locals().items() if k != "self"})

    # -- learning -----------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> AnomalyDetector:
        """The detector, trained.

        Args:
            X: a normal signal [n], or a list of them (stretches between gaps).
            y: not used.

        Raises:
            UsageError: a parameter outside its range.
            DataError: a signal that is too short, constant, not finite, or has no period.
        """
        self._check()
        signals = _signals(X)
        longest = max(signals, key=len)
        self.period_ = find_period(longest) if self.period is None else _given(self.period)
        if self.period_.value is None:
            raise DataError(
                f"no period was found: {self.period_.reason}", remedy="give period, in samples"
            )
        layout = layout_for(self.period_.value)
        train, validation, held_out = self._split(signals, layout)
        centre, scale = _units(signals)
        result = model.train(
            (train - centre) / scale,
            (validation - centre) / scale,
            code=self.code,
            epochs=self.max_iter,
            seconds=self.seconds,
            seed=self.random_state,
        )
        params = {name: np.asarray(value) for name, value in result.params.items()}
        self.layout_, self.result_ = layout, result
        self._scorer = scorer_of(train, params, centre, scale)
        self._count, self._stepper = len(train), None
        self._calibrate(held_out)
        return self.reset()

    def partial_fit(self, X: Any, y: Any = None) -> AnomalyDetector:
        """The detector after one more pass over more normal signal; the first call is `fit`.

        Period and units stay. Model and spectrum move, and the threshold is calibrated anew on
        the latest held-out windows, old ones with them.

        Args:
            X: a normal signal [n], or a list of them.
            y: not used.

        Raises:
            DataError: a signal that is too short or not finite.
        """
        if not hasattr(self, "_scorer"):
            return self.fit(X)
        old = self._scorer
        train, validation, held_out = self._split(_signals(X), self.layout_, least=1)
        train = np.concatenate([train, validation])
        training = Training(learning_rate=STEP_RATE, batch_size=64, seed=self.random_state)
        self._stepper = self._stepper or Stepper(model.loss, old.model, training)
        order = np.random.default_rng(self._count).permutation(len(train))
        self._stepper.step(old.units(train)[order].astype(np.float32))
        params = {name: np.asarray(v) for name, v in self._stepper.params.items()}
        new = scorer_of(train, params, old.centre, old.scale)
        share = len(train) / (self._count + len(train))
        residual = np.sqrt((1 - share) * old.residual**2 + share * new.residual**2)
        spectrum = old.spectrum.merged(new.spectrum)
        # one scale for the parts needs old windows too, and those that are kept are held out:
        # the scale stays, which shifts their balance but not the calibration
        self._scorer = dataclasses.replace(
            new, residual=residual, spectrum=spectrum, middle=old.middle, reach=old.reach
        )
        self._count, self.result_ = self._count + len(train), None
        self._calibrate(np.concatenate([self._held_out, held_out]))
        return self

    def _calibrate(self, held_out: np.ndarray) -> None:
        self._held_out = held_out[-KEPT:]
        scores = self._scorer(self._held_out)
        rate, overlap = self.false_alarm_rate, self.layout_.overlap
        self.threshold_ = calibrate(scores, rate, overlap=overlap)
        self.offset_ = -self.threshold_.value

    def _split(self, signals: list[np.ndarray], layout: Layout, least: int = LEAST) -> Any:
        """Windows that train, that say when to stop, and that calibrate: no sample is shared."""
        parts: list[list[np.ndarray]] = [[], [], []]
        for signal in signals:
            starts = layout.swept(len(signal))
            ends = starts + layout.length
            last = len(signal) * (1 - self.held_out)
            middle = last - len(signal) * VALIDATION * (1 - self.held_out)
            for part, low, high in zip(
                parts, (0, middle, last), (middle, last, len(signal)), strict=True
            ):
                part.append(cut(signal, starts[(starts >= low) & (ends <= high)], layout.length))
        train, validation, held_out = (np.concatenate(part) for part in parts)
        if len(train) < least or min(len(validation), len(held_out)) < 1:
            needed = (least - 1) * layout.hop + layout.length
            needed = max(needed, layout.length * 2 / VALIDATION) / (1 - self.held_out)
            raise DataError(
                f"{len(train)} windows of {layout.length} samples to train on; too few",
                remedy=f"give {needed:,.0f} samples or more, without gaps",
            )
        return train, validation, held_out

    # -- scoring ------------------------------------------------------------------------------

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
        starts, windows = self._cut(X)
        return self._by_sample(self._scored(starts, windows), len(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples(X) - offset_` [n]: below 0 is an alarm."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """-1 for samples [n] in an alarm, 1 for the others."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit(X).predict(X)` for one signal."""
        return self.fit(X).predict(X)

    def explain(self, X: Any) -> list[Alarm]:
        """The alarms in a signal: which samples, which frequency, and when they were known.

        Args:
            X: a signal [n].
        """
        starts, windows = self._cut(X)
        scores = self._scored(starts, windows)
        return explain(self._scorer, scores, windows, sampling_rate=self.sampling_rate)

    def score(self, X: Any) -> Scores:
        """Scores of the windows that the next piece of a stream completes.

        Pieces of any length give, together, what `windows` gives for the whole. `reset` begins a
        new stream; so does `fit`.

        Args:
            X: the next samples [n], none or more.
        """
        self._fitted()
        chunk = as_signal(X, finite=False)
        self._state, starts, windows = advance(self._state, self.layout_, chunk)
        return self._scored(starts, windows)

    def reset(self) -> AnomalyDetector:
        """The detector, at the beginning of a stream."""
        self._fitted()
        self._state = begin()
        return self

    def _cut(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        self._fitted()
        signal = as_signal(X, finite=False)
        starts = self.layout_.starts(len(signal))
        if len(starts) == 0:
            raise DataError(
                f"{len(signal)} samples; a window has {self.layout_.length}",
                remedy="give a longer signal, or pieces of it to score",
            )
        return starts, cut(signal, starts, self.layout_.length)

    def _scored(self, starts: np.ndarray, windows: np.ndarray) -> Scores:
        scores = self._scorer(windows)
        alarms = scores > self.threshold_.value
        return Scores(
            starts=starts, ends=starts + self.layout_.length, scores=scores, alarms=alarms
        )

    def _by_sample(self, scores: Scores, count: int) -> np.ndarray:
        found = np.full(count, -np.inf)
        for start, end, score in zip(scores.starts, scores.ends, scores.scores, strict=True):
            np.maximum(found[start:end], score, out=found[start:end])
        found[scores.ends[-1] :] = scores.scores[-1]
        return -found

    # -- files and parameters -----------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the detector as a folder of safetensors and JSON, without pickle.

        A stream that is under way is not kept.

        Raises:
            DataError: `path` exists.
        """
        self._fitted()
        files.save(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AnomalyDetector:
        """The detector from a folder that `save` wrote; nothing in it is executed.

        Raises:
            DataError: the folder is damaged, or holds something else.
        """
        return files.load(cls, Path(path))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, as scikit-learn asks for them."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> AnomalyDetector:
        """The detector with other parameters.

        Raises:
            UsageError: a name that is no parameter.
        """
        for name, value in params.items():
            if name not in self.get_params():
                known = ", ".join(self.get_params())
                raise UsageError(f"{name} is no parameter; there are {known}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        given = {k: v for k, v in self.get_params().items() if v != defaults[k].default}
        return f"AnomalyDetector({', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_scorer")

    def _fitted(self) -> None:
        if not hasattr(self, "_scorer"):
            raise UsageError("the detector is not fitted; call fit with normal signals first")

    def _check(self) -> None:
        for name in ("false_alarm_rate", "held_out"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise UsageError(f"{name} must be greater than 0 and less than 1; got {value!r}")
        if not (np.isfinite(self.sampling_rate) and self.sampling_rate > 0):
            raise UsageError(f"sampling_rate must be greater than 0; got {self.sampling_rate!r}")
        if self.code is not None and not (isinstance(self.code, int) and self.code >= 1):
            raise UsageError(f"code must be a whole number of 1 or more; got {self.code!r}")

    period: float | None
    false_alarm_rate: float
    held_out: float
    code: int | None
    sampling_rate: float
    max_iter: int | None
    seconds: float | None
    random_state: int


def _signals(X: Any) -> list[np.ndarray]:
    """One signal or several, as a list; an array of two dimensions is not guessed about."""
    if not isinstance(X, (list, tuple)) or (len(X) and np.ndim(X[0]) == 0):
        return [as_signal(X)]
    if not X:
        raise DataError("there are no signals", remedy="give a normal signal [n], or a list")
    return [as_signal(each) for each in X]


def _units(signals: list[np.ndarray]) -> tuple[float, float]:
    together = np.concatenate(signals)
    scale = float(together.std())
    if scale == 0 or not np.isfinite(scale):
        raise DataError("the signal is constant, or its values are too large to be squared")
    return float(together.mean()), scale


def _given(period: float) -> Measurement:
    layout_for(period)  # raises where it is out of range
    return Measurement(value=float(period), unit="samples", method="given")
