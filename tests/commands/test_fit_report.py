"""The report at the end of `fit`, and `downslope report`: what a failure may cost."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from downslope.cli import main

FIT = ["fit", "t.parquet", "--target", "y", "--model", "linear"]
FIT += ["--optimizer", "sgd", "--steps", "5"]
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A table, and parts of the report that only note what they are asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    x = np.random.default_rng(0).normal(size=(300, 2))
    pq.write_table(pa.table({"x": x[:, 0], "y": (x.sum(1) > 0).astype(int)}), "t.parquet")
    told = []

    def gather(run, *, seconds, command=None, findings=None):
        assert seconds == 0.5  # of a run of less than two and a half
        assert findings  # what was said of the table before training
        told.append(("gather", str(run), command))

    def write_report(runs, out=None):
        told.append(("write", [str(run) for run in runs], out))
        return Path(out or Path(runs[0]) / "report.html")

    monkeypatch.setattr("downslope.table.evidence.gather", gather)
    monkeypatch.setattr("downslope.report.write_report", write_report)
    return told


@pytest.mark.slow
def test_fit_ends_with_a_report(told, capsys):
    """Catches a report of another run, evidence gathered too late, a path that is not said."""
    words = [*FIT, "--out", "my run"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == "my run/report.html"
    assert found["num_steps"] == 5
    command = shlex.join(["downslope", *words, "--json"])
    assert told == [("gather", "my run", command), ("write", ["my run"], None)]
    assert main(["fit", "--resume", "my run", "--steps", "6"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["report"] == "my run/report.html"
    assert lines["next"].startswith("downslope predict 'my run'")


@pytest.mark.slow
def test_no_report_where_none_is_wanted(told, capsys):
    assert main([*FIT, "--no-report", "--out", "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] is None
    assert main([*FIT, "--dry-run", "--out", "b"]) == 0
    assert "report " not in capsys.readouterr().out
    assert told == []


@pytest.mark.slow
def test_no_report_of_an_interrupted_run(told, monkeypatch, capsys):
    from downslope.report import progress

    def interrupt(_, record):
        if record["event"] == "progress":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "__call__", interrupt)
    words = ["fit", "t.parquet", "--target", "y", "--optimizer", "sgd", "--batch-size", "2",
             "--epochs", "500", "--patience", "10000", "--learning-rate", "0.01"]  # fmt: skip
    assert main([*words, "--out", "cut"]) == 130
    assert "fit --resume cut" in capsys.readouterr().out
    assert told == []


@pytest.mark.parametrize(
    ("part", "error", "code", "why"),
    [
        ("table.evidence.gather", ValueError("two\nlines"), 0, "ValueError: two lines"),
        ("table.evidence.gather", KeyboardInterrupt(), 130, "interrupted"),
        ("report.write_report", MemoryError(), 0, "MemoryError:"),
        ("report.write_report", ImportError("No module 'jinja2'"), 0, "ImportError: No module"),
    ],
)
def test_a_report_that_fails_costs_no_training(part, error, code, why, told, capsys, monkeypatch):
    """Catches a result that is lost, an exit code that says training failed, several lines."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"downslope.{part}", fail)
    assert main([*FIT, "--out", "run", "--json"]) == code
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["run"], found["report"]) == ("run", None)
    said = [line for line in err.splitlines() if "no report" in line]
    assert len(said) == 1 and err.endswith(said[0] + "\n")
    assert said[0].startswith(f"downslope: no report, but the model is saved: {why}")
    assert said[0].endswith("; try downslope report run")
    assert Path("run/model").is_dir()


@pytest.mark.slow
def test_divergence_keeps_its_exit_code(told, capsys):
    x = np.random.default_rng(0).normal(size=(2, 300))
    pq.write_table(pa.table({"x": x[0], "y": x[1]}), "t.parquet")
    words = ["fit", "t.parquet", "--target", "y", "--optimizer", "sgd", "--learning-rate", "1e30"]
    assert main([*words, "--out", "run", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["report"] == "run/report.html"


def test_report_of_runs(told, capsys):
    assert main(["report", "a", "b", "--out", "both.html"]) == 0
    assert capsys.readouterr() == ("both.html\n", "")
    assert main(["report", "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": "a/report.html"}
    assert told == [("write", ["a", "b"], Path("both.html")), ("write", ["a"], None)]


@pytest.mark.slow
def test_evidence_is_gathered_again_on_request(told, monkeypatch, capsys):
    assert main([*FIT, "--no-report", "--out", "a"]) == 0
    gathered = []
    monkeypatch.setattr(
        "downslope.table.evidence.gather", lambda run, *, seconds: gathered.append((run, seconds))
    )
    assert main(["report", "a"]) == 0 and gathered == []
    assert main(["report", "a", "--evidence", "10"]) == 0
    assert gathered == [(Path("a"), 10.0)]
    assert main(["report", "a", "--evidence", "0"]) == 2
    assert "--evidence must be a finite number above 0" in capsys.readouterr().err
