"""What-if questions on a run's plain numbers.

Each test's comment names the wrong implementation that it catches.
"""

import pytest

from downslope.choose import RunFacts, Scenario, what_if
from downslope.errors import UsageError

SIZES = tuple(float(2**i) for i in range(4, 12))


def straight(b):
    return 5e-3 + 2e-5 * b


# 3,000 steps at 100 examples and noise scale 200: S_min 1,000, E_min 200,000
KNOWN = dict(
    num_steps=3000, seconds=30.0, batch_size=100.0, stretch_steps=(1000, 2000),
    batch_sizes=(100.0, 100.0), noise_scales=(200.0, 200.0), noise_los=(150.0, 150.0),
    noise_his=(260.0, 260.0), timed_sizes=SIZES, timed_seconds=tuple((straight(b),) for b in SIZES),
    num_bytes=4e6,
)  # fmt: skip


def ask(changed=None, **scenario):
    answers = what_if(RunFacts(**{**KNOWN, **(changed or {})}), Scenario(**scenario))
    return {answer.question: answer for answer in answers}


def test_best_batch_and_its_time():
    found = ask()
    assert found["batch_size"].value.value == 220
    assert found["same_batch_size"].value.value == pytest.approx(3000 * straight(100), rel=1e-6)
    assert found["seconds"].value.value == pytest.approx(
        (1000 + 2e5 / 220) * straight(220), rel=1e-6
    )
    assert found["largest_cost"].words == "the fixed cost of a step"
    assert ask(batch_size=2048)["largest_cost"].words == "computing"


def test_readings_that_failed_are_counted():
    def told(changed):
        return [flag for flag in ask(changed)["batch_size"].flags if "failed" in flag]

    assert told({}) == []
    assert told({"num_unread": 3}) == ["3 readings of the noise scale failed; others were used"]


# catches: an overhead in the time but not in the optimum: sqrt(200 (5 ms + 15 ms)/20 us) = 447
def test_step_overhead():
    found = ask(step_overhead_seconds=0.015)
    assert found["batch_size"].value.value == 450
    assert found["same_batch_size"].value.value == pytest.approx(3000 * 0.022, rel=1e-6)
    assert found["seconds"].value.value == pytest.approx(
        (1000 + 2e5 / 450) * (0.015 + straight(450)), rel=1e-6
    )


def test_asked_batch_size():
    found = ask(batch_size=50)
    assert found["seconds"].value.value == pytest.approx(5000 * straight(50), rel=1e-6)
    assert found["batch_size"].value.value == 220
    assert "5,000 steps" in found["seconds"].because
    assert any("extrapolated" in flag for flag in ask(batch_size=9999)["seconds"].flags)


def test_memory():
    known = {"fixed_bytes": 1e6, "example_bytes": 1e4}
    found = ask(known, memory_bytes=2e6)
    assert found["batch_size"].value.value == 100
    assert any("capped by memory" in flag for flag in found["batch_size"].flags)
    assert ask(known, memory_bytes=1e9)["batch_size"].value.value == 220
    assert any("not recorded" in flag for flag in ask(memory_bytes=2e6)["batch_size"].flags)
    with pytest.raises(UsageError, match="memory_bytes"):
        ask(known, memory_bytes=1e6)


def test_workers():
    # 2 n s/W = 0.08 s is more than computing 220 examples takes
    slow = ask(bytes_per_second=1e8)
    assert slow["num_workers"].value.value == 1 and str(slow["num_workers"]) == "1 worker"
    asked = ask(bytes_per_second=1e8, num_workers=8, latency_seconds=0.0)
    assert asked["workers_step_seconds"].value.value == pytest.approx(
        straight(220 / 8) + 2 * 7 / 8 * 0.04, rel=1e-6
    )
    assert asked["workers_largest_cost"].words == "exchanging gradients"
    # sqrt(200 * 8 * (5 ms + 70 ms)/20 us)
    assert asked["workers_batch_size"].value.value == pytest.approx(2449, rel=0.05)
    fast = ask({"num_bytes": 4e3}, bytes_per_second=1e10, latency_seconds=1e-6)
    p = fast["num_workers"].value.value
    assert p == fast["slower_beyond"].value.value
    assert p == pytest.approx((220 * 2e-5 / 2e-6) ** 0.5, abs=1)
    assert fast["workers_seconds"].value.value < fast["seconds"].value.value


# each gap is told by its own reason, and the rest is answered all the same
def test_what_is_not_known_is_said():
    found = ask({"stretch_steps": (), "batch_sizes": (), "noise_scales": (), "noise_los": (),
                 "noise_his": ()}, bytes_per_second=1e9)  # fmt: skip
    assert "no noise scale" in found["batch_size"].value.reason
    assert "no noise scale" in found["workers_seconds"].value.reason
    assert found["same_batch_size"].value.value == pytest.approx(3000 * straight(100), rel=1e-6)
    assert found["num_workers"].value.value is not None

    one = ask({"timed_sizes": (100.0,), "timed_seconds": ((0.005, 0.007, 0.1),)},
              step_overhead_seconds=0.001)  # fmt: skip
    assert "only steps of 100" in one["batch_size"].value.reason
    assert "only steps of 100" in one["num_workers"].value.reason
    assert one["same_batch_size"].value.value == pytest.approx(3000 * 0.008)

    none = ask({"timed_sizes": (), "timed_seconds": ()})
    assert all(each.value.value is None for each in none.values())
    assert "no step was timed" in none["seconds"].value.reason
    assert "link" in ask()["num_workers"].value.reason
    assert (
        "parameters" in ask({"num_bytes": None}, bytes_per_second=1e9)["num_workers"].value.reason
    )


def test_noise_known_from_below_is_said():
    found = ask({"noise_scales": (200.0, None), "noise_los": (150.0, 150.0),
                 "noise_his": (260.0, None)})  # fmt: skip
    assert any("67 % of the steps" in flag for flag in found["batch_size"].flags)
    assert found["seconds"].value.lo < found["seconds"].value.value


def test_every_answer_is_plain():
    for changed in ({}, {"timed_sizes": (), "timed_seconds": ()}):
        for answer in ask(changed, bytes_per_second=1e9).values():
            assert set(answer.to_json()) == {"question", "value", "words", "because", "flags"}
            assert answer.because or answer.value.reason
            assert str(answer)


@pytest.mark.parametrize(
    "named",
    [{"batch_size": 0}, {"num_workers": 0}, {"memory_bytes": 0.0}, {"bytes_per_second": -1.0},
     {"step_overhead_seconds": -1.0}, {"latency_seconds": float("nan")}],
)  # fmt: skip
def test_refuses(named):
    with pytest.raises(UsageError, match=next(iter(named))):
        Scenario(**named)
