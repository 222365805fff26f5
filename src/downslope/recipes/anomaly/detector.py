"""`AnomalyDetector`: learns normal periodic signals, and finds what is not like them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from downslope import DataError, StopReason
from downslope.arguments import number, whole
from downslope.estimate import Estimate, not_estimable
from downslope.recipes.anomaly import files
from downslope.recipes.anomaly.learning import (
    Learned,
    learned,
    learned_more,
    signals_of,
    split,
    units_of,
)
from downslope.recipes.anomaly.model import GAIN
from downslope.recipes.anomaly.period import find_period
from downslope.recipes.anomaly.threshold import Threshold, calibrate
from downslope.recipes.anomaly.training import train
from downslope.recipes.anomaly.watch import Watcher
from downslope.recipes.anomaly.windows import layout_for

if TYPE_CHECKING:
    from downslope import Result


class AnomalyDetector(Watcher):
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
        max_iter: passes over the windows, at most, where there is a descent; None leaves it to
            choose.
        seconds: time budget for a descent; None leaves it to choose.
        random_state: seed of every random choice, a whole number.

    Attributes:
        period_: the period, with its interval, as `find_period` gives it.
        threshold_: the threshold, with the rate of false alarms that it can state.
        gain_: share of the held-out error that a bend of the linear autoencoder removes.
        result_: the descent, as `downslope.fit` gives it; None where the linear autoencoder, which
            is solved, was enough, and after `partial_fit` or loading.
        offset_: the opposite of the threshold, as scikit-learn's detectors have it.
        learned_: layout of the windows, scorer, and windows held out.

    Example:
        >>> from downslope.recipes.anomaly.simulate import beam, plant
        >>> detector = AnomalyDetector(false_alarm_rate=0.01).fit(beam(20_000))
        >>> signal = plant(beam(4_000, seed=1), "spike", at=2_000, strength=3.0)
        >>> [(alarm.because, 2_000 in alarm.samples) for alarm in detector.explain(signal)]
        [('peak', True)]
        >>> int(detector.predict(signal)[2_000]), int(detector.predict(signal)[100])
        (-1, 1)
    """

    period_: Estimate
    gain_: Estimate
    result_: Result | None

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
        self.period = period
        self.false_alarm_rate = false_alarm_rate
        self.held_out = held_out
        self.code = code
        self.sampling_rate = sampling_rate
        self.max_iter = max_iter
        self.seconds = seconds
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> AnomalyDetector:
        """The detector, trained.

        Args:
            X: a normal signal [n], or a list of them (stretches between gaps). Give each stretch
                once: a signal that is repeated is taken once, but stretches that overlap are not
                recognised, and the rate is then stated too surely.
            y: not used.

        Raises:
            UsageError: a parameter outside its range.
            DataError: a signal that is too short, constant, not finite, or has no period.
            KeyboardInterrupt: a descent was interrupted; the model as it stood is kept.

        Warns:
            UserWarning: signals too short to hold a window teach nothing.
        """
        self._check()
        signals = signals_of(X)
        period = self._period(signals)
        layout, (centre, scale) = layout_for(period.value or 0), units_of(signals)
        parts = split(signals, layout, held_out=self.held_out)
        found = train(
            (parts.train - centre) / scale,
            (parts.validation - centre) / scale,
            overlap=layout.overlap,
            code=self.code,
            epochs=self.max_iter,
            seconds=self.seconds,
            seed=self.random_state,
        )
        self.period_, self.gain_, self.result_ = period, found.gain, found.result
        self._now(learned(parts, found.model, layout, (centre, scale))).reset()
        if found.result is not None and found.result.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt  # the model as it stood is kept
        return self

    def partial_fit(self, X: Any, y: Any = None) -> AnomalyDetector:
        """The detector after one more pass over more normal signal; the first call is `fit`.

        Period and units stay. All weights of the autoencoder take steps, the spectrum is that of
        all windows so far, and the threshold is calibrated anew on the latest held-out windows,
        old ones with them. Held-out windows that are kept already are not counted again.

        Args:
            X: a normal signal [n], or a list of them: stretches that were not given before, see
                `fit`.
            y: not used.

        Raises:
            UsageError: a parameter outside its range.
            DataError: a signal that is too short or not finite.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X)
        self._check()
        from downslope.recipes.anomaly.descent import Trainer

        before = self.learned_
        parts = split(
            signals_of(X), before.layout, held_out=self.held_out, least=1, known=before.held_out
        )
        trainer = self._trainer or Trainer(before.scorer.model, self.random_state)
        rows = np.concatenate([parts.train, parts.validation])
        model = trainer.step(before.scorer.units(rows))
        moved = "all weights have taken steps since it was measured"
        self.gain_, self.result_ = not_estimable(moved, unit=GAIN), None
        self._now(learned_more(before, parts, model))
        self._trainer = trainer
        return self

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit(X).predict(X)` for one signal."""
        return self.fit(X).predict(X)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the detector as a folder of safetensors and JSON, without pickle.

        A stream that is under way is not kept.

        Raises:
            DataError: `path` exists.
        """
        self._fitted()
        kept = files.Kept(
            params=self.get_params(),
            period=self.period_,
            gain=self.gain_,
            threshold=self.threshold_,
            learned=self.learned_,
        )
        files.save(kept, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AnomalyDetector:
        """The detector from a folder that `save` wrote; nothing in it is executed.

        Raises:
            DataError: the folder is damaged, or holds something else.
        """
        kept = files.load(Path(path))
        self = cls(**kept.params)
        self.period_, self.gain_, self.result_ = kept.period, kept.gain, None
        return self._now(kept.learned, kept.threshold).reset()

    def _now(self, found: Learned, threshold: Threshold | None = None) -> AnomalyDetector:
        """The detector with what it has learned, and the threshold that follows from it."""
        self.learned_, self._trainer = found, None
        self.threshold_ = threshold or calibrate(
            found.scores(), self.false_alarm_rate, overlap=found.layout.overlap
        )
        return self

    def _period(self, signals: list[np.ndarray]) -> Estimate:
        if self.period is not None:
            layout_for(self.period)  # raises where it is out of range
            return Estimate(value=float(self.period), unit="samples", method="given")
        found = find_period(max(signals, key=len))
        if found.value is None:
            raise DataError(
                f"no period was found: {found.reason}", remedy="give period, in samples"
            )
        return found

    def _check(self) -> None:
        number("false_alarm_rate", self.false_alarm_rate, above=0, below=1)
        number("held_out", self.held_out, above=0, below=1)
        number("sampling_rate", self.sampling_rate, above=0)
        number("period", self.period, above=0, optional=True)
        number("seconds", self.seconds, above=0, optional=True)
        whole("code", self.code, optional=True)
        whole("max_iter", self.max_iter, optional=True)
        whole("random_state", self.random_state, least=0)
