"""Close looks at the noise while a run trains: their time, what they tell, what they spare."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import plain
from downslope.estimate import Estimate
from downslope.noise.online.monitor import NoiseMonitor
from downslope.noise.survey.anatomy import SECTIONS
from downslope.noise.survey.record import Section
from downslope.train import diagnostics
from downslope.train.assemble import assemble
from downslope.train.diagnostics import Diagnostics, short_record
from downslope.train.progress import TrainingProgress

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(0).normal(size=(512, 4)).astype("f4")
DATA = X, np.tanh(X[:, 0])
OPTIONS = {"optimizer": "momentum", "batch_size": 16, "learning_rate": 0.05, "measure_every": 2}


def loss(model, batch, key):
    return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2


def model():
    return {"w": np.full(4, 0.5, "f4")}


class Clock:
    """Stands where it is put."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(diagnostics, "time", clock)
    return clock


def looker(share):
    training = plain.training(**OPTIONS, anatomy_share=share)
    engine = assemble(loss, model(), DATA, training)
    return Diagnostics(engine), engine


@pytest.fixture
def dear(monkeypatch, clock):
    """Subjects of known cost, in the order in which they were looked at."""
    costs, asked = {"gradient": 30.0, "scale": 1.0}, []

    def look(self, name, *_):
        clock.now += costs.get(name, 5.0)
        asked.append(name)
        return "nothing to see"

    monkeypatch.setattr(Diagnostics, "_measure", look)
    return asked


def test_the_time_stays_within_its_share(clock, dear):
    found, _ = looker(0.1)
    while clock.now < 5000:
        clock.now += 0.5
        if found.is_due(clock.now):
            at, name = clock.now, found.measure(None, None, None)[0]
            # a subject may take longer than was thought the first time, never again
            assert found._spent <= 0.1 * at or dear.count(name) == 1
    names = [name for name in SECTIONS if name != "order"]
    assert dear[: len(names)] == names
    assert dear[len(names) : 2 * len(names)] == names
    # what is left unused is less than the dearest look
    assert 0.1 * clock.now - found._spent < 31


def test_no_share_no_look(clock, dear):
    found, _ = looker(None)
    assert not found.is_due(1e9)


def test_a_look_that_fails_is_told(monkeypatch):
    def fails(*_):
        raise MemoryError("too large")

    monkeypatch.setattr(Diagnostics, "_measure", fails)
    found, _ = looker(0.5)
    assert found.measure(None, None, None) == ("gradient", "MemoryError: too large")
    assert found.measure(None, None, None)[0] == "scale"


def test_every_subject_at_the_parameters_that_are_trained():
    found, engine = looker(0.5)
    state = engine.start()
    seen = dict(
        found.measure(state, NoiseMonitor(engine.setting), 100) for _ in range(len(SECTIONS) - 1)
    )
    assert set(seen) == set(SECTIONS) - {"order"}
    assert isinstance(seen["scale"], Section)
    assert seen["trajectory"] == "no path was kept"
    curvature = seen["curvature"].records["lambda_max"].value
    assert curvature == pytest.approx(np.linalg.eigvalsh(X.T @ X / 512)[-1], rel=0.3)


def test_the_short_record_keeps_numbers_and_reasons():
    section = Section(
        title="t", sentences=("s",),
        records={
            "a": Estimate(value=0.0, lo=-1.0, hi=1.0, unit="m", method="long", flags=("x",)),
            "b": Estimate(value=None, unit="", reason="why"),
        },
    )  # fmt: skip
    assert short_record(section) == {
        "sentences": ["s"],
        "records": {
            "a": {"value": 0.0, "lo": -1.0, "hi": 1.0, "unit": "m"},
            "b": {"unit": "", "reason": "why"},
        },
    }


@pytest.fixture
def eager(monkeypatch):
    """Diagnostics as soon as there is any time at all."""
    monkeypatch.setattr(Diagnostics, "is_due", lambda self, _: True)


def train(folder=None, **options):
    return plain.fit(loss, model(), DATA, out=folder, **{**OPTIONS, "epochs": 6, **options})


def subjects(result):
    return [record["subject"] for record in result.history if record["event"] == "anatomy"]


def test_training_does_not_notice(eager, tmp_path):
    with_looks = train(tmp_path / "run", anatomy_share=0.5)
    without = train()
    assert_array_equal(with_looks.params["w"], without.params["w"])
    assert subjects(without) == []
    named = subjects(with_looks)
    assert named[:3] == ["gradient", "scale", "required"]
    first = next(r for r in with_looks.history if r["event"] == "anatomy")
    assert first["records"]["batch_variance"]["value"] > 0
    assert 0 < first["step"] <= with_looks.num_steps


def test_a_resumed_run_may_ask_for_another_share(eager, tmp_path):
    train(tmp_path / "run", epochs=2)
    resumed = plain.fit(loss, model(), DATA, resume=tmp_path / "run", anatomy_share=0.3,
                            **{**OPTIONS, "epochs": 6})  # fmt: skip
    assert subjects(resumed)
    assert_array_equal(resumed.params["w"], train().params["w"])


def test_the_share_counts_the_present_sitting(monkeypatch, tmp_path):
    """Hours trained before a resume give no right to catch up at once."""
    train(tmp_path / "run", epochs=2)
    asked = []
    monkeypatch.setattr(Diagnostics, "is_due", lambda self, seconds: bool(asked.append(seconds)))
    before = TrainingProgress.from_json
    monkeypatch.setattr(
        TrainingProgress, "from_json", staticmethod(lambda d: before({**d, "seconds": 36_000.0}))
    )
    plain.fit(loss, model(), DATA, resume=tmp_path / "run", anatomy_share=0.3,
                  **{**OPTIONS, "epochs": 6})  # fmt: skip
    assert asked
    assert max(asked) < 1000
