"""`downslope plan`: a run's journal asked what if.

Each test's comment names the wrong implementation that it catches.
"""

import hashlib
import json
import subprocess
import sys

import pytest

from downslope.cli import main
from downslope.report.plan import read_run
from downslope.report.run_data import FORMAT
from downslope.units import parse_bytes, parse_duration, parse_rate

SIZES = [16 * 2**i for i in range(8)]


def straight(b):
    return 5e-3 + 2e-5 * b


def measured(step, value=200.0, lo=150.0, hi=260.0, size=100, **more):
    noise = {k: v for k, v in (("value", value), ("lo", lo), ("hi", hi)) if v is not None}
    return {"event": "measured", "step": step, "seconds": step * 0.01, "batch_size": size,
            "noise_scale": noise | more}  # fmt: skip


def progress(step, seconds):
    return {"event": "progress", "step": step, "seconds": seconds, "examples_per_second": 1e4}


TIMED = {
    "event": "timed", "step": 10, "batch_sizes": SIZES,
    "step_seconds": [[straight(b), 1.5 * straight(b), straight(b)] for b in SIZES],
}  # fmt: skip
STOPPED = {"event": "stopped", "step": 3000, "reason": "finished"}
WHOLE = [{"event": "started", "step": 0}, TIMED, progress(1000, 12.0), measured(1000),
         progress(3000, 30.0), measured(2990), STOPPED]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Makes a run's folder of records."""

    def make(records, batch_size: object = 100):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        params = {"w": ["float32", 1000, 100], "b": ["bfloat16", 10], "step": ["int8"]}
        request = {"format": FORMAT, "training": {"batch_size": batch_size}, "params": params}
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        (folder / "run.json").write_text(json.dumps({**request, "sha256": digest}))
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "journal.jsonl").write_text(lines)
        return folder

    return make


def plan(capsys, *arguments, code=0):
    got = main(["plan", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert got == code, err
    return out if code == 0 else err


def test_answers_as_text_and_as_json(run, capsys):
    folder = run(WHOLE)
    text = plan(capsys, folder)
    assert "best batch size                 220 (" in text
    assert "3,000 steps, 30 s" in text
    assert "not estimable: the link" in text
    found = json.loads(plan(capsys, folder, "--json"))
    answer = found["answers"]["batch_size"]
    assert answer["value"]["value"] == 220 and answer["value"]["unit"] == "examples"
    assert "noise scale is 200 examples" in answer["because"]
    assert found["num_steps"] == 3000


# catches: a flag that is parsed and then forgotten
def test_flags_reach_the_answers(run, capsys):
    folder = run(WHOLE)
    arguments = ["--step-overhead", "15ms", "--workers", "8", "--link", "1Gbit/s",
                 "--latency", "0us", "--batch-size", "400", "--json"]  # fmt: skip
    found = json.loads(plan(capsys, folder, *arguments))["answers"]
    assert found["batch_size"]["value"]["value"] == 450
    step = 0.015 + straight(50) + 2 * 7 / 8 * 400_021 / 125e6
    assert found["workers_step_seconds"]["value"]["value"] == pytest.approx(step, rel=1e-6)
    seconds = (1000 + 2e5 / 400) * (0.015 + straight(400))
    assert found["seconds"]["value"]["value"] == pytest.approx(seconds, rel=1e-6)
    assert "not recorded" in plan(capsys, folder, "--memory", "8GB")
    memory = {**TIMED, "fixed_bytes": 1e6, "example_bytes": 1e4}
    folder = run([*WHOLE, memory])
    assert "capped by memory at 100" in plan(capsys, folder, "--memory", "2MB")


# catches: steps counted from the first reading; the last stretch cut off
def test_stretches(run):
    seen = read_run(run([measured(100, value=50.0), measured(400), STOPPED]))
    assert seen["stretch_steps"] == (100, 2900)
    assert seen["noise_scales"] == (50.0, 200.0)
    assert seen["num_steps"] == 3000
    assert seen["num_bytes"] == 4 * 100_000 + 20 + 1


def test_readings_that_say_nothing(run):
    nothing = measured(200, value=None, lo=None, hi=None, reason="one pair")
    bounded = measured(400, value=None, lo=700.0, hi=None, reason="lost in noise")
    seen = read_run(run([measured(100), nothing, bounded, progress(400, 4.0)]))
    assert seen["stretch_steps"] == (100, 300)
    assert seen["noise_scales"] == (200.0, None) and seen["noise_los"] == (150.0, 700.0)
    assert seen["num_unread"] == 1


def test_what_a_divergence_undid_does_not_count(run):
    back = {"event": "diverged", "step": 500, "bad_step": 900}
    seen = read_run(run([measured(500), measured(900, value=9e9), back, measured(800), STOPPED]))
    assert seen["noise_scales"] == (200.0, 200.0) and seen["stretch_steps"] == (500, 2500)


# catches: compiling in the time of a step; steps of two sizes thrown together
def test_times_from_progress(run, capsys):
    records = [progress(10, 3.0), measured(10), progress(110, 4.0), progress(210, 5.2),
               measured(210), progress(310, 8.0), measured(310, size=400), progress(410, 11.0),
               measured(410, size=400)]  # fmt: skip
    seen = read_run(run(records))
    assert seen["timed_sizes"] == (100.0, 400.0) and not seen["was_timed"]
    assert seen["timed_seconds"][0] == pytest.approx((0.01, 0.012))
    assert seen["timed_seconds"][1] == pytest.approx((0.028, 0.03))
    mixed = [progress(10, 1.0), measured(60), progress(110, 2.0), measured(110, size=400),
             progress(210, 9.0), measured(210, size=400)]  # fmt: skip
    assert read_run(run(mixed))["timed_seconds"] == (pytest.approx((0.07,)),)
    one = plan(capsys, run(records[:5]))
    assert "only steps of 100 examples were timed" in one
    assert "waiting for data and evaluating" in one
    resumed = [progress(10, 1.0), {"event": "resumed", "step": 10}, progress(20, 9.0),
               progress(30, 9.5)]  # fmt: skip
    assert read_run(run(resumed))["timed_seconds"] == (pytest.approx((0.05,)),)


def test_a_run_that_says_little(run, capsys):
    text = plan(capsys, run([progress(10, 3.0)], batch_size="full"))
    assert text.count("not estimable") == 5
    assert "not estimable" in plan(capsys, run([{"event": "saved", "step": 5}]))


def test_errors(run, capsys, tmp_path):
    assert "not the folder of a run" in plan(capsys, tmp_path / "none", code=3)
    assert "no step" in plan(capsys, run([{"event": "started", "step": 0}]), code=3)
    folder = run(WHOLE)
    for flags in (
        ["--workers", "0"], ["--batch-size", "-3"], ["--link", "fast"], ["--link", "0MB/s"],
        ["--memory", "0GB"], ["--step-overhead", "-5ms"], ["--latency", "5 parsecs"],
    ):  # fmt: skip
        message = plan(capsys, folder, *flags, code=2)
        assert flags[0] in message and message.count("\n") == 1
    (folder / "run.json").write_text("{")
    assert "not readable" in plan(capsys, folder, code=3)


def test_answers_without_an_accelerator(run):
    code = (
        "import sys; from downslope.cli import main; "
        f"assert main(['plan', {str(run(WHOLE))!r}]) == 0; assert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration, "50us", 5e-5), (parse_duration, "50µs", 5e-5),
        (parse_duration, "5 ms", 5e-3), (parse_duration, "2", 2.0), (parse_duration, ".5s", 0.5),
        (parse_duration, "2m", 120.0), (parse_duration, "1h", 3600.0),
        (parse_bytes, "8GB", 8e9), (parse_bytes, "8GiB", 8 * 2**30), (parse_bytes, "100", 100.0),
        (parse_bytes, "1.5MB", 1.5e6), (parse_bytes, "4kB", 4e3), (parse_bytes, "4KB", 4e3),
        (parse_rate, "100Mbit/s", 1.25e7), (parse_rate, "1Gbit/s", 1.25e8),
        (parse_rate, "1GB/s", 1e9), (parse_rate, "800bit/s", 100.0),
    ],
)  # fmt: skip
def test_units(parse, text, value):
    assert parse(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("parse", "text"),
    [(parse_duration, "5x"), (parse_duration, ""), (parse_duration, "nan"), (parse_duration, "-1s"),
     (parse_duration, "1.2.3s"), (parse_bytes, "8Gbit"), (parse_bytes, "GB"), (parse_bytes, "8XB"),
     (parse_rate, "1Gbit"), (parse_rate, "1GB"), (parse_rate, "0GB/s"), (parse_rate, "inf")],
)  # fmt: skip
def test_units_refuse(parse, text):
    with pytest.raises(ValueError, match="write"):
        parse(text)
