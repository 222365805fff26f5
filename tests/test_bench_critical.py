"""The comparison of noise scales with critical batch sizes: arms, tuned rates, and the counts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def critical(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.selftuning import critical

    return critical


class Ended:
    def __init__(self, steps, loss=0.0):
        self.steps, self.loss = steps, loss


@pytest.mark.parametrize("best", [-4, -1, 0, 0.5, 3])
def test_the_rate_of_fewest_updates_is_found(critical, best):
    """Catches a search in one direction only, one that stops at its first three rates, and a best
    rate that is not interpolated.
    """

    def arm(rate, *, longest, level):
        steps = 100 * math.exp(0.15 * (math.log2(rate) - best) ** 2)
        return Ended(steps if steps <= longest else math.inf)

    steps, rate = critical._tune(arm, 1.0, longest=10_000, level=0.0)
    assert math.log2(rate) == pytest.approx(best, abs=0.05)
    assert steps == pytest.approx(100, rel=0.01)


def test_a_level_that_no_rate_reaches_has_no_updates(critical):
    """Catches an infinite count that is fitted."""
    assert critical._tune(lambda rate, **_: Ended(math.inf), 1.0, longest=9, level=0.0) is None
    ends = {0.5: 2.0, 1.0: 3.0, 2.0: 4.0}
    assert critical._level(lambda size, rate, longest: Ended(0, ends[rate]), 8, 1.0, 9, 1.5) is None
    level = critical._level(lambda size, rate, longest: Ended(0, ends[rate]), 8, 1.0, 9, 12.0)
    assert level == pytest.approx(12 - 0.9 * 10)


def test_an_arm_counts_its_updates_to_the_level_by_its_average(critical):
    """Catches counts of evaluations, and a level judged by the last parameters, which noise keeps
    above it.
    """
    import jax.numpy as jnp
    from benchmarks.selftuning.workloads import Workload

    rows = np.random.default_rng(0).normal(1.0, size=512).astype(np.float32)

    def model(seed):
        return {"w": np.zeros(1, np.float32)}

    def loss(model, batch, key):
        return 0.5 * (model["w"][0] - batch) ** 2

    workload = Workload(
        name="mean", kind="linear", loss=loss, model=model, train=rows, validation=rows, test=rows,
        horizon_seconds=1,
    )  # fmt: skip
    trainer = critical.Trainer(workload, 0)
    least = float(trainer.loss({"w": jnp.asarray([rows.mean()])}))
    begin = trainer.updates(trainer.start, batch_size=64, rate=0.01, stream=0, first=0, count=50)
    arm = critical.Arm(trainer, begin.branch(), 8, 0.02, longest=4000, level=least + 0.002)
    assert 50 < arm.steps < 2000 and arm.loss <= least + 0.002
    assert critical.Arm(trainer, begin.branch(), 8, 0.02, longest=5, level=least).steps == math.inf
    scales = trainer.noise_scales(begin)
    assert set(scales) == set(critical.SCALES)
    exact = rows.var() / (0.5**2)  # about the middle of the way
    assert 0.5 * exact < scales["Euclidean"].value < 8 * exact


def test_cases_are_counted_as_near_or_not(critical, tmp_path):
    """Catches ratios counted in one direction, and intervals that only touch a value."""

    def case(predicted, branched):
        return critical.Case(
            workload="poisson", seed=0, share=0.1, step=9, loss=1.0, level=0.5, sizes=[], steps=[],
            predicted={kind: predicted for kind in critical.SCALES}, rates=[], branched=branched,
            residual=None,
        )  # fmt: skip

    found = [
        case([10.0, 8.0, 12.0], [19.0, 11.0, 30.0]),
        case([10.0, 8.0, 12.0], [4.0, 3.0, 7.0]),
        case([10.0, 8.0, None], [None, 20.0, None]),
        case([3.0, 2.0, 4.0], [10.0, 9.0, 11.0]),
    ]
    text = critical.markdown(found)
    assert "preconditioned: 1 of 3 within a factor of 2" in text
    assert "intervals overlap in 2 of 4" in text
    assert "at least 20" in text
