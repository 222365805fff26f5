"""wandb and trackio by what they are asked: their stand-ins take the same arguments."""

from __future__ import annotations

import sys
import types

from downslope.loggers import LogTo, Trackio, Wandb


def progress(step, loss):
    return {"event": "progress", "step": step, "loss": loss}


STARTED = {"event": "started", "step": 0, "shuffling": "fully"}
STOPPED = {"event": "stopped", "step": 20, "reason": "finished", "advice": "go on"}


class Run:
    def __init__(self, name):
        self.name, self.id, self.rows, self.finished = name, "an id", [], 0

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self):
        self.finished += 1


def test_wandb(monkeypatch):
    """Catches a run that is begun before training, not finished, or begun anew by a resume."""
    asked, runs = [], []

    def init(*, project, name, id, resume):
        asked.append((project, name, id, resume))
        runs.append(Run(name))
        runs[-1].step = 15 if id else 0
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    logs = [Wandb("project", name="first"), Wandb("project", id="abc")]
    assert not asked
    for log in logs:
        for record in (STARTED, progress(10, 0.5), progress(20, 0.25), STOPPED):
            log(record)
    assert asked == [("project", "first", None, None), ("project", None, "abc", "allow")]
    steps = [[step for step, values in run.rows if "train/loss" in values] for run in runs]
    assert steps == [[10, 20], [20]]
    assert [run.finished for run in runs] == [1, 1]


def test_trackio_passes_over_what_it_holds(monkeypatch):
    """Catches a resume that logs again what the session before had logged beyond its save."""
    asked, runs = [], []

    def init(**settings):
        asked.append(settings)
        runs.append(Run(settings["name"]))
        return runs[-1]

    storage = types.SimpleNamespace(
        get_max_step_for_run=lambda project, name, run_id: {"old": 20}.get(name)
    )
    fake = types.SimpleNamespace(init=init)
    monkeypatch.setitem(sys.modules, "trackio", fake)
    inner = types.SimpleNamespace(SQLiteStorage=storage)
    monkeypatch.setitem(sys.modules, "trackio.sqlite_storage", inner)
    for name in ("new", "old"):
        log = Trackio("project", name=name)
        for record in (progress(10, 3.0), progress(20, 2.0), progress(30, 1.0), STOPPED):
            log(record)
    assert asked[0] == {"project": "project", "name": "new", "resume": "allow"}
    steps = [[step for step, values in run.rows if "train/loss" in values] for run in runs]
    assert steps == [[10, 20, 30], [30]]
    assert [run.finished for run in runs] == [1, 1]


def test_what_a_target_holds_already():
    run = Run("x")
    with LogTo(run, after_step=20) as log:
        for step in (10, 20, 30):
            log(progress(step, 1.0))
    assert [step for step, _ in run.rows] == [30]
