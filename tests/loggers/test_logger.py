"""The flow of every logger, on a sink that remembers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import downslope
from downslope.errors import UsageError
from downslope.loggers import Logger, LogTo, from_name
from downslope.loggers.logger import GOES_BACK, needed
from downslope.report import journal


class Memory:
    """A sink in a list; `forgets` as TensorBoard does, else it keeps everything as MLflow."""

    def __init__(self, forgets=False, holds=None):
        self.forgets, self.holds = forgets, holds or {}
        self.rows, self.calls = [], []

    def start(self, resumed_step):
        self.calls.append(("start", resumed_step))
        return self.holds

    def write(self, step, numbers, texts):
        self.rows.append((step, numbers, texts))

    def go_back(self, step):
        self.calls.append(("back", step))
        if self.forgets:
            self.rows = [row for row in self.rows if row[0] <= step]
        return self.forgets

    def stop(self, reason):
        self.calls.append(("stop", reason))

    def series(self, name):
        return [(step, numbers[name]) for step, numbers, _ in self.rows if name in numbers]


def progress(step, loss):
    return {"event": "progress", "step": step, "loss": loss}


STARTED = {"event": "started", "step": 0, "shuffling": "fully"}
STOPPED = {"event": "stopped", "step": 30, "reason": "finished", "advice": "go on"}


@pytest.mark.parametrize("forgets", [False, True])
def test_no_step_twice_after_going_back(forgets):
    """Catches a curve that folds back on itself after a step that was undone."""
    sink = Memory(forgets)
    log = Logger(sink)
    undone = {"event": "undone", "step": 10, "what": "exploded"}
    for record in (STARTED, progress(10, 1.0), progress(20, 9.0), undone):
        log(record)
    for record in (progress(15, 0.9), progress(20, 0.8), progress(30, 0.7), STOPPED):
        log(record)
    after = [(15, 0.9), (20, 0.8)] if forgets else [(20, 9.0)]
    assert sink.series("train/loss") == [(10, 1.0), *after, (30, 0.7)]
    assert sink.calls == [("start", None), ("back", 10), ("stop", "finished")]


def test_a_resumed_run_passes_over_what_the_sink_holds():
    """Catches a resume that logs again what the crashed session had logged beyond its save."""
    sink = Memory(holds={"train/loss": 20})
    log = Logger(sink)
    for record in ({"event": "resumed", "step": 10}, progress(20, 0.8), progress(30, 0.7)):
        log(record)
    assert sink.series("train/loss") == [(30, 0.7)]
    assert sink.calls[0] == ("start", 10)


def test_a_run_goes_back_where_its_journal_does():
    """Catches an event that takes steps back and is not known here."""
    assert GOES_BACK == journal.GOES_BACK


def test_two_decisions_at_one_step_are_both_logged():
    """Catches a filter that keeps the first of two values: the second one is in use."""
    sink = Memory()
    log = Logger(sink)
    for new in (0.1, 0.05):
        log({"event": "decided", "step": 4, "knob": "rate", "old": 1, "new": new, "because": "so"})
    assert sink.series("knobs/rate") == [(4, 0.1), (4, 0.05)]


def test_records_after_the_end_are_left_alone():
    """Catches a sink that is opened again by what a finished run adds to its journal."""
    sink = Memory()
    log = Logger(sink)
    for record in (STARTED, progress(10, 1.0), STOPPED, progress(40, 2.0)):
        log(record)
    log.close()
    assert sink.calls == [("start", None), ("stop", "finished")]
    log({"event": "resumed", "step": 30})
    assert sink.calls[-1] == ("start", 30)


def test_a_run_that_breaks_off_is_closed_with_the_block():
    sink = Memory()
    with pytest.raises(ZeroDivisionError), Logger(sink) as log:
        log(progress(10, 1.0))
        raise ZeroDivisionError
    assert sink.calls == [("start", None), ("stop", None)]


def test_nothing_is_opened_before_the_first_record():
    sink = Memory()
    with Logger(sink):
        pass
    assert not sink.calls


class Run:
    """What wandb and trackio give: `log`, `finish`, and the step they are at."""

    def __init__(self, step=None):
        self.step, self.rows, self.finished = step, [], 0

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self):
        self.finished += 1


def test_anything_with_log():
    """Catches a run that is not finished, and steps that fall: wandb drops them with a warning."""
    run = Run(step=15)
    log = LogTo(run)
    undone = {"event": "undone", "step": 16, "what": "exploded"}
    for record in (STARTED, progress(10, 3.0), progress(15, 2.0), progress(20, 1.0), undone):
        log(record)
    for record in (progress(18, 0.5), progress(25, 0.4), STOPPED):
        log(record)
    losses = [(step, values["train/loss"]) for step, values in run.rows if "train/loss" in values]
    assert losses == [(15, 2.0), (20, 1.0), (25, 0.4)]
    steps = [step for step, _ in run.rows]
    assert steps == sorted(steps) and run.finished == 1


def test_an_object_without_finish():
    class Bare:
        def __init__(self):
            self.rows = []

        def log(self, values, *, step):
            self.rows.append(step)

    bare = Bare()
    with LogTo(bare) as log:
        log(progress(10, 1.0))
    assert bare.rows == [10]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_a_run_from_its_first_record_to_its_last():
    """Catches an event of the journal that a logger cannot read, and a metric without interval."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2)).astype("float32")
    y = (x @ np.array([1, -1], "float32") + rng.normal(size=2000)).astype("float32")

    def loss(model, batch, key):
        return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2

    run, model = Run(), {"w": np.zeros(2, "float32")}
    found = downslope.fit(
        loss,
        model,
        (x, y),
        steps=800,
        batch_size=32,
        validation=0.2,
        patience=None,
        readers=(LogTo(run),),
    )
    together = {name: value for _, values in run.rows for name, value in values.items()}
    held_out = found.validation["loss"]
    assert together["held_out/loss"] == held_out.value
    assert together["held_out/loss_lo"] == held_out.lo
    assert together["held_out/loss_hi"] == held_out.hi
    assert together["knobs/learning_rate"] == pytest.approx(found.learning_rate)
    assert {"train/loss", "knobs/batch_size", "speed/examples_per_second"} <= together.keys()
    assert together["stopped"].startswith("finished: ")
    assert together["decisions/learning_rate"].startswith("learning_rate ")
    assert run.finished == 1


@pytest.mark.parametrize("name", ["tensorboard", "tensorboard:", "comet:x", "wandb:", "", ":x"])
def test_names_that_name_no_logger(name):
    with pytest.raises(UsageError, match="must be one of tensorboard:FOLDER, "):
        from_name(name)


def test_what_to_install():
    with pytest.raises(UsageError, match=r"needs no_such: pip install 'downslope\[wandb\]'"):
        needed("no_such.module", "wandb")


def test_importing_loads_none_of_the_packages():
    """Catches an import at the top of a module: each of them costs a second."""
    code = (
        "import sys, downslope.loggers\n"
        "heavy = {'jax', 'tensorboard', 'mlflow', 'wandb', 'trackio', 'numpy'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
    assert done.stdout.strip() == "" and done.returncode == 0, done.stderr
