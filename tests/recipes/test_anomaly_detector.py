"""The detector as a whole: its rate, its streams, its files, its reasons."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from downslope import DataError, StopReason, UsageError
from downslope.recipes.anomaly import AnomalyDetector, descent
from downslope.recipes.anomaly.descent import RebuildLoss
from downslope.recipes.anomaly.simulate import KINDS, beam, plant
from downslope.recipes.anomaly.threshold import clopper_pearson
from downslope.recipes.anomaly.windows import cut


@pytest.fixture(scope="module")
def detector():
    return AnomalyDetector(false_alarm_rate=0.01).fit(beam(60_000))


@pytest.fixture(scope="module")
def other():
    return beam(30_000, seed=7)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found(detector, other, kind):
    strength = 2.0 if kind == "spike" else None
    signal = plant(other, kind, at=15_000, strength=strength)
    events = [a for a in detector.explain(signal) if a.start < 16_000 and a.end > 15_000]
    assert events
    assert max(events, key=lambda a: a.score).score > detector.threshold_.value


def test_an_anomaly_that_is_rebuilt_is_caught_by_the_spectrum(detector, other):
    """Catches a detector without the second score: half the amplitude is rebuilt without error."""
    signal = plant(other, "amplitude_loss", at=15_000, length=400)
    starts = detector.layout_.starts(len(signal))
    windows = cut(signal, starts, detector.layout_.length)
    inside = (starts >= 15_000) & (starts + 64 <= 15_400)
    parts = detector.learned_.scorer.parts(windows[inside])
    assert np.median(parts[:, :2].max(1)) < detector.threshold_.value
    assert np.median(parts[:, 2:].max(1)) > detector.threshold_.value
    assert detector.windows(signal).alarms[inside].mean() > 0.5


def test_false_alarms_on_another_recording_are_as_many_as_stated(detector):
    """Catches training on windows that all begin at one place of the period."""
    stated = detector.threshold_.rate
    assert stated.is_measured and stated.lo < 0.01 < stated.hi
    alarms = [detector.windows(beam(30_000, seed=seed)).alarms for seed in (11, 12, 13)]
    count, hits = sum(map(len, alarms)), sum(int(a.sum()) for a in alarms)
    low, high = clopper_pearson(hits / detector.layout_.overlap, count / detector.layout_.overlap)
    assert low < stated.hi and high > stated.lo and hits / count < 0.03


@pytest.mark.parametrize("pieces", [[30_000], [1] * 500 + [29_500], [63, 1, 1, 4000, 0, 25_935]])
def test_a_stream_scores_like_the_whole(detector, other, pieces):
    """Catches a window lost or seen twice at a border, and starts counted from the piece."""
    whole = detector.windows(plant(other, "dropout", at=4_000))
    signal, detector = plant(other, "dropout", at=4_000), detector.reset()
    found = [detector.score(piece) for piece in np.split(signal, np.cumsum(pieces)[:-1])]
    for name in ("starts", "ends", "alarms"):
        np.testing.assert_array_equal(
            np.concatenate([getattr(f, name) for f in found]), getattr(whole, name)
        )
    scores = np.concatenate([f.scores for f in found])
    np.testing.assert_allclose(scores, whole.scores, rtol=1e-9, atol=1e-9)
    assert len(detector._state.tail) < detector.layout_.length + detector.layout_.hop


def test_missing_samples_are_an_alarm_and_never_nan(detector, other):
    signal = other.copy()
    signal[5_000:5_003] = [np.nan, np.inf, np.nan]
    scores = detector.windows(signal)
    touched = (scores.starts <= 5_002) & (scores.ends > 5_000)
    assert np.isinf(scores.scores[touched]).all() and scores.alarms[touched].all()
    assert np.isfinite(scores.scores[~touched]).all()
    (event,) = [a for a in detector.explain(signal) if a.because == "missing"]
    assert event.samples == (5_000, 5_001, 5_002)
    json.dumps(event.to_json(), allow_nan=False)


def test_samples_and_frequency_are_named(detector, other):
    """Catches places counted within the window, and a frequency in bins."""
    signal = plant(other, "spike", at=15_000, strength=3.0)
    (event,) = [a for a in detector.explain(signal) if 14_900 < a.start < 15_100]
    assert 15_000 in event.samples and len(event.samples) <= 3
    assert event.start <= 15_000 < event.end and event.known <= 15_000 + 64
    turns = np.arange(30_000)
    hum = other + np.where(abs(turns - 15_200) < 200, 0.5, 0) * np.cos(2 * np.pi * 0.12 * turns)
    loud = max(detector.explain(hum), key=lambda a: a.score)
    assert abs(loud.frequency - 0.12) <= 2 * loud.resolution and loud.power > 2


def test_samples_in_the_manner_of_scikit_learn(detector, other):
    signal = plant(other, "dropout", at=15_000)
    values = detector.score_samples(signal)
    assert values.shape == signal.shape and np.isfinite(values).all()
    assert values[15_020] == values.min() or values[15_020] < detector.offset_
    np.testing.assert_array_equal(detector.predict(signal) == -1, values < detector.offset_)
    copy = clone(detector)
    assert copy.get_params() == detector.get_params() and not hasattr(copy, "offset_")
    assert "false_alarm_rate=0.01" in repr(copy.set_params(code=3))
    with pytest.raises(UsageError, match="no parameter"):
        copy.set_params(rate=1)


@pytest.mark.slow
def test_a_narrow_code_is_bent_and_hears_an_overtone_out_of_step():
    """Overtone moved against the tone: the power is normal, and a wide code rebuilds it.

    Catches a descent that is never begun, one that is begun for nothing, and a loss by which no
    program is kept for the next fit.
    """
    turns = np.arange(40_000)
    noise = 0.1 * np.random.default_rng(0).normal(size=(2, len(turns)))

    def signal(shift, row):
        phase = 2 * np.pi * turns / 12.5
        return np.cos(phase) + 0.5 * np.cos(2 * phase + shift) + noise[row]

    shift = np.where(abs(turns - 20_000) < 200, np.pi / 2, 0)
    wide = AnomalyDetector(false_alarm_rate=0.01).fit(signal(0, 0))
    narrow = AnomalyDetector(false_alarm_rate=0.01, code=2, max_iter=1).fit(signal(0, 0))
    assert wide.result_ is None and wide.gain_.hi < 0.1
    assert narrow.result_.num_steps > 0 and narrow.gain_.lo > 0.5
    inside = abs(wide.windows(signal(0, 1)).starts + 37 - 20_000) < 150
    found = {name: d.windows(signal(shift, 1)) for name, d in (("w", wide), ("n", narrow))}
    assert found["n"].alarms[inside].all() and not found["w"].alarms[inside].all()
    assert found["n"].alarms[~inside].mean() < 0.05
    assert RebuildLoss() == RebuildLoss() and hash(RebuildLoss()) == hash(RebuildLoss())


@pytest.mark.slow
def test_a_solved_detector_does_not_wait_for_jax():
    """Catches an import at the top that costs a second of every `downslope detect`."""
    code = (
        "import sys; from downslope.recipes.anomaly import AnomalyDetector as A; "
        "from downslope.recipes.anomaly.simulate import beam; "
        "d = A(false_alarm_rate=0.05).fit(beam(20_000)); d.explain(beam(2_000, seed=1)); "
        "print('jax' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "False", found.stderr


def test_saved_and_loaded(detector, other, tmp_path):
    detector.save(tmp_path / "d")
    loaded = AnomalyDetector.load(tmp_path / "d")
    np.testing.assert_array_equal(loaded.windows(other).scores, detector.windows(other).scores)
    assert loaded.threshold_ == detector.threshold_ and loaded.gain_ == detector.gain_
    assert loaded.offset_ == detector.offset_ and loaded.period_ == detector.period_
    assert loaded.get_params() == detector.get_params()
    (tmp_path / "d" / "document.json").write_text("{}")
    with pytest.raises(DataError, match="changed or damaged"):
        AnomalyDetector.load(tmp_path / "d")


@pytest.mark.slow
def test_partial_fit_learns_a_new_normal():
    """A fourth harmonic: alarms before, fewer after. Catches a threshold that stays behind."""
    detector = AnomalyDetector(false_alarm_rate=0.01).fit(beam(40_000))
    louder = {"harmonics": (0.1, 0.05, 0.3)}
    before = detector.windows(beam(10_000, seed=3, **louder)).alarms.mean()
    for seed in (4, 5, 6):
        detector.partial_fit(beam(40_000, seed=seed, **louder))
    after = detector.windows(beam(10_000, seed=3, **louder)).alarms.mean()
    assert before > 0.05 and after < before / 2
    assert detector.result_ is None and detector.threshold_.num_windows > 2_000
    assert detector.learned_.scorer.spectrum.count == detector.learned_.num_windows > 5_000


@pytest.mark.parametrize(
    ("signal", "why"),
    [
        (np.ones(5000), "no period was found: the signal is constant"),
        (np.zeros((10, 2)), "one dimension"),
        (np.r_[beam(5000), np.nan], "row 5,001: not a finite number"),
        (beam(700), "too few"),
        ([], "no signals"),
        (["a", "b"], "must be numbers"),
        (beam(5000).astype(str), "must be numbers"),
        (beam(5000).astype(str).astype(object), "must be numbers"),
        (beam(5000) + 1j, "must be numbers"),
        (np.arange(5000).astype("datetime64[s]"), "must be numbers"),
        (np.ma.masked_greater(beam(5000), 1.0), "not a finite number"),
        ([*beam(5000), pd.NA], "row 5,001: not a finite number"),
        (1e300 * beam(5000), "too large or too small"),
        (1e-300 * beam(5000), "too large or too small"),
    ],
)
def test_signals_that_cannot_teach(signal, why):
    with pytest.raises(DataError, match=why):
        AnomalyDetector().fit(signal)


@pytest.mark.parametrize(
    "wrong",
    [
        {"held_out": 1.0},
        {"false_alarm_rate": 0},
        {"sampling_rate": -1},
        {"code": 0},
        {"period": 1},
        {"max_iter": 0},
        {"seconds": 0},
        {"seconds": "x"},
        {"false_alarm_rate": None},
        {"held_out": "a"},
        {"period": "x"},
        {"sampling_rate": None},
        {"code": True},
        {"random_state": None},
        {"random_state": np.random.RandomState(0)},
    ],
)
def test_parameters_out_of_range(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        AnomalyDetector(**wrong).fit(beam(5000))


def test_before_fit_and_short_signals(detector):
    with pytest.raises(UsageError, match="not fitted"):
        AnomalyDetector().windows(beam(100))
    with pytest.raises(DataError, match="a window has 64"):
        detector.predict(beam(63))


def test_an_interrupted_descent_is_kept_and_said(monkeypatch):
    """Catches Ctrl-C swallowed: the program would go on as if the fit were whole."""

    def cut_short(*args, **settings):
        result = descend(*args, **settings)
        return dataclasses.replace(result, stop_reason=StopReason.INTERRUPTED)

    descend = descent.descend
    monkeypatch.setattr(descent, "descend", cut_short)
    detector = AnomalyDetector(period=12.5, code=2, max_iter=1)
    phase = 2 * np.pi * np.arange(40_000) / 12.5
    noise = 0.1 * np.random.default_rng(0).normal(size=40_000)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(np.cos(phase) + 0.5 * np.cos(2 * phase) + noise)
    assert detector.result_.stop_reason is StopReason.INTERRUPTED
    assert detector.predict(np.cos(phase[:100])).shape == (100,)


@pytest.mark.slow
def test_a_signal_given_again_is_no_new_evidence():
    """Catches 92 independent windows that are stated as 644."""
    signal = beam(20_000)
    once = AnomalyDetector().fit(signal).threshold_
    assert AnomalyDetector().fit([signal] * 7).threshold_ == once
    detector = AnomalyDetector().fit(signal).partial_fit(signal).partial_fit(signal)
    assert detector.threshold_.num_windows == once.num_windows
    detector.partial_fit(beam(20_000, seed=1))
    assert detector.threshold_.num_windows == pytest.approx(2 * once.num_windows, abs=3)


def test_equal_windows_of_one_signal_stay():
    """A signal of few bits repeats itself: its windows are as many as they are."""
    signal = np.round(8 * np.cos(2 * np.pi * np.arange(8_000) / 16))
    assert AnomalyDetector(period=16).fit(signal).threshold_.num_windows > 100


def test_signals_too_short_to_teach_are_told():
    signal = beam(20_000)
    with pytest.warns(UserWarning, match="2 of 3 signals are too short for windows of 64 samples"):
        detector = AnomalyDetector().fit([signal[:10], signal, signal[:70]])
    whole = AnomalyDetector().fit(signal).learned_
    assert detector.learned_.num_windows == whole.num_windows
    assert len(detector.learned_.held_out) == len(whole.held_out)


@pytest.mark.slow
def test_held_out_windows_train_nothing_in_partial_fit():
    """Another end of the signal: only the threshold changes."""
    signal = beam(8_000, seed=1)
    other = np.r_[signal[:5_600], 3 * signal[5_600:]]
    pair = [AnomalyDetector().fit(beam(20_000)).partial_fit(x) for x in (signal, other)]
    ours, theirs = (detector.learned_.scorer for detector in pair)
    for name in ours.model:
        np.testing.assert_array_equal(ours.model[name], theirs.model[name])
    np.testing.assert_array_equal(ours.residual, theirs.residual)
    np.testing.assert_array_equal(ours.spectrum.mean, theirs.spectrum.mean)
    assert pair[1].threshold_.value > 2 * pair[0].threshold_.value


@pytest.mark.slow
def test_spreads_are_of_all_windows_in_partial_fit():
    """Three times the noise in one window of thirty: mean squares of 1 + 8 / 30, not of 9.

    Catches the spread of what was rebuilt before being forgotten.
    """
    turns, draw = np.arange(40_000), np.random.default_rng(0)
    signal = np.cos(2 * np.pi * turns / 12.5) + 0.1 * draw.normal(size=40_000)
    loud = np.cos(2 * np.pi * turns[:1_700] / 12.5) + 0.3 * draw.normal(size=1_700)
    detector = AnomalyDetector(period=12.5).fit(signal)
    before, count = detector.learned_.scorer.residual, detector.learned_.num_windows
    detector.partial_fit(loud)
    share = 1 - count / detector.learned_.num_windows
    ratio = (detector.learned_.scorer.residual**2).mean() / (before**2).mean()
    assert ratio == pytest.approx(1 + 8 * share, rel=0.1)


def test_a_column_and_a_sample_beyond_squares(detector, other):
    """Catches a score that is NaN, and so no alarm, for the largest sample there is."""
    scores = detector.windows(pd.DataFrame({"x": other})).scores
    np.testing.assert_array_equal(scores, detector.windows(other).scores)
    signal = other.copy()
    signal[5_000] = np.finfo(float).max
    found = detector.windows(signal)
    touched = (found.starts <= 5_000) & (found.ends > 5_000)
    assert found.alarms[touched].all() and np.isfinite(found.scores).all()
    (event,) = [a for a in detector.explain(signal) if a.start <= 5_000 < a.end]
    assert 5_000 in event.samples
    masked = detector.windows(np.ma.masked_array(other, np.arange(len(other)) == 5_000))
    assert np.isinf(masked.scores[touched]).all()


def test_a_step_of_a_pipeline_and_a_grid_search():
    signal = beam(12_000)
    pipeline = make_pipeline(FunctionTransformer(), AnomalyDetector()).fit(signal)
    assert pipeline.predict(signal).shape == signal.shape
    search = GridSearchCV(
        AnomalyDetector(),
        {"held_out": [0.3, 0.5]},
        scoring=lambda detector, X, y=None: -detector.windows(X).alarms.mean(),
        cv=KFold(2),
    )
    assert search.fit(signal).best_params_["held_out"] in (0.3, 0.5)
