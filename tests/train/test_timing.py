"""Time of an update by batch size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import Generator, UsageError
from downslope.choose import next_batch_size
from downslope.config import Training
from downslope.train import timing
from downslope.train.assemble import assemble
from downslope.train.timing import time_steps

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(0).normal(size=(300, 200)).astype("float32")


def loss(model, batch, key):
    return (batch @ model["w"] - 1) ** 2


def model():
    return {"w": np.zeros(200, "float32")}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(timing, "CALL_SECONDS", 2e-3)


@pytest.mark.slow
def test_sizes_are_timed_in_order_and_those_too_large_left_out():
    """Catches times that belong to another size, a size beyond the rows, and a twin."""

    def heavy(model, batch, key):  # slower at 256 rows than at 1 on a busy machine too
        wave = jax.lax.fori_loop(0, 20, lambda _, x: jnp.sin(x + model["w"]), batch)
        return wave.sum(axis=1)

    times = time_steps(heavy, model(), X, batch_sizes=(256, 1, 64, 64, 4096), repeats=3)
    assert times.batch_sizes == (1, 64, 256)
    for size in times.batch_sizes:
        assert 1e-7 < times.predict(size) < 1
    assert times.predict(256) > times.predict(1)


def test_what_was_planted_is_what_is_told(monkeypatch):
    """Catches seconds of a call in the place of those of an update, rows for columns, and times
    that the choice of a batch size cannot take.
    """

    class Planted:
        def __init__(self, setup, step):
            self.size, self.calls = step.batch_rows, 0

        def window_seconds(self):
            self.calls += 1
            return (1e-3 + 1e-5 * self.size) * (1 + 0.01 * (self.calls - 2))

    monkeypatch.setattr(timing, "Timer", Planted)
    times = time_steps(loss, model(), X, batch_sizes=(16, 64, 256), repeats=3)
    for size in (16, 64, 256):
        assert times.predict(size) == pytest.approx(1e-3 + 1e-5 * size, rel=0.02)
    found = next_batch_size(
        batch_size=16, noise_scale=1e6, noise_lo=9e5, noise_hi=1.1e6,
        timed_sizes=times.batch_sizes, timed_seconds=[times.predict(b) for b in times.batch_sizes],
    )  # fmt: skip
    assert found.new > 16


@pytest.mark.slow
def test_an_updates_time_is_that_of_one_window(monkeypatch):
    """Catches a call's time that is not divided by its updates."""
    made = []
    real = timing.Timer

    class Kept(real):
        def __init__(self, setup, step):
            super().__init__(setup, step)
            made.append(self)
            self.calls = 0

        def _call(self):
            real._call(self)
            return 1.0

    monkeypatch.setattr(timing, "Timer", Kept)
    time_steps(loss, model(), X, batch_sizes=(50, 100), repeats=3)
    for timer in made:
        assert timer.window_seconds() == pytest.approx(1 / timer.num_windows)


@pytest.mark.parametrize("share", [3.0, 1.0, 0.3, 0.01, 0.0])
def test_a_call_has_as_many_windows_as_take_long_enough(share, monkeypatch):
    """Catches slow windows timed in twos, quick ones by the fixed cost of a call, a call cut short
    by one pause of the machine, and no end of windows that take no time.
    """
    calls = []

    def planted(timer):
        calls.append(timer.num_windows)
        return timer.num_windows * share * timing.CALL_SECONDS + len(calls) % 2

    monkeypatch.setattr(timing.Timer, "_call", planted)
    setup = assemble(loss, model(), X, Training(batch_size=50))
    num = timing.Timer(setup, setup.first_step).num_windows
    if share:
        assert num * share >= 1 and (num == 1 or num / 2 * share < 1)
    assert num == calls[-1] < 1 << 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"repeats": 2}, "repeats"),
        ({"batch_sizes": (16,)}, "batch_sizes"),
        ({"batch_sizes": (16, 301)}, "batch_sizes"),
        ({"batch_sizes": ()}, "batch_sizes"),
    ],
)
def test_too_little_to_time_is_refused(options, words):
    """Catches a line through one point."""
    with pytest.raises(UsageError, match=words):
        time_steps(loss, model(), X, **options)


def test_batches_that_cannot_be_cut_anew_are_refused():
    """Catches a generator, or a loss of whole batches, that is timed in one size only."""
    drawn = Generator(lambda rng, num: rng.normal(size=(num, 200)).astype("float32"))
    with pytest.raises(UsageError, match="stored rows"):
        time_steps(loss, model(), drawn, training=Training(steps=10, batch_size=16))
    with pytest.raises(UsageError, match="stored rows"):
        time_steps(lambda m, b, k: loss(m, b, k).mean(), model(), X)


@pytest.mark.slow
def test_a_given_batch_size_and_schedule_do_not_matter():
    """Catches a timing that is refused for a configuration that is trained with later."""
    training = Training(batch_size="full", schedule="cosine", epochs=2, microbatch_size=None)
    times = time_steps(loss, model(), X, training=training, batch_sizes=(16, 64), repeats=3)
    assert times.batch_sizes == (16, 64)
