"""Several targets: a model each, none an input of another's, and predictions side by side."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import loops
from downslope import DataError, ModelOptions, TableOptions, Training, UsageError, read_metadata
from downslope.cli import main
from downslope.data.output import write_parquet
from downslope.table.predict import predict
from downslope.table.targets import TargetRuns, fit_targets, options_of, share_of
from downslope.train import dispatch
from plain import LINEAR

NAMES = ["size", "kind"]


def _frame(count: int = 300) -> pa.Table:
    """Two targets that give each other away, and a third column that says a little of both."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=count)
    size = (x + draw.normal(size=count)).tolist()
    kind = ["big" if each > 0 else "small" for each in size]
    size[3], kind[5] = None, None
    word = [f"a longer word {i % 7}" for i in range(count)]  # so that batches are of other lengths
    return pa.table({"x": x, "word": word, "size": size, "kind": kind})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("targets") / "run"
    return fit_targets(_frame(), NAMES, model=LINEAR, out=out), out


def test_no_target_is_an_input_of_another(trained):
    """Catches a leak: `size` alone would make the classes certain, and `kind` halve the error."""
    found, out = trained
    for name, result in found.items():
        assert set(result.model.encoding.names) <= {"x", "word"}
        assert read_metadata(TargetRuns.open(out).runs[name])["encoding"]["target"]["name"] == name
    assert found["size"].result.validation["r2"].value < 0.8
    assert found["kind"].result.validation["accuracy"].value < 0.95


def test_a_row_without_one_target_counts_for_the_others(trained):
    """Catches rows dropped from all models where one target is missing."""
    for name, result in trained[0].items():
        told = [note for note in result.notes if "without a value" in note]
        assert len(told) == 1 and told[0].startswith("1 rows") and repr(name) in told[0]


def test_predictions_stand_side_by_side_whatever_the_batches(trained, monkeypatch):
    """Catches columns under another target's name, and rows of one shifted against the other."""
    _, out = trained
    alone = {name: predict(run, _frame()).table for name, run in TargetRuns.open(out).runs.items()}
    monkeypatch.setattr("downslope.data.ingest.tabular.MAX_BATCH_ROWS", 64)
    monkeypatch.setattr("downslope.data.ingest.tabular.MAX_BATCH_BYTES", 1)
    monkeypatch.setattr("downslope.table.predict.ROWS", 77)
    together = predict(out, _frame())
    columns = ["size_prediction", "kind_prediction", "kind_probability_big"]
    assert together.table.column_names == [*columns, "kind_probability_small"]
    assert together.num_rows == 300
    for column in columns:
        target, name = column.split("_", 1)
        whole, each = together.table[column].to_pylist(), alone[target][name].to_pylist()
        assert whole == (each if name == "prediction" and target == "kind" else pytest.approx(each))


def test_intervals_are_those_of_numbers(trained, tmp_path):
    """Catches intervals asked of classes, and a file without them."""
    predict(trained[1], _frame(), tmp_path / "p.parquet", interval=0.8)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names[:4] == ["size_prediction", "size_lower", "size_upper",
                                      "kind_prediction"]  # fmt: skip
    assert (table["size_lower"].to_numpy() < table["size_prediction"].to_numpy()).all()


def test_options_and_time_are_shared_out():
    """Catches another target left among the inputs, and a budget that each target gets whole."""
    table = TableOptions(number=("x",), seed=3)
    assert options_of("kind", NAMES, table) == TableOptions(
        target="kind", ignore=("size",), number=("x",), seed=3
    )
    assert share_of(Training(seconds=60), 3).seconds == 20
    assert share_of(Training(steps=60), 3) == Training(steps=60)


@pytest.mark.parametrize(("names", "options", "words"), [
    (["size"], {}, "two columns"), (["size", "size"], {}, "named twice"),
    (NAMES, {"target": "x"}, "must have no target"),
    (NAMES, {"ignore": ("kind",)}, "and as ignore"),
    (NAMES, {"categorical": ("kind",)}, "and as categorical"), (["size", "sise"], {}, "sise"),
    (NAMES, {"weight": "kind"}, "kind"),
])  # fmt: skip
def test_targets_that_cannot_be_are_refused_before_any_is_trained(names, options, words, tmp_path):
    """Catches a fault in the second target that shows once the first is trained."""
    with pytest.raises((UsageError, DataError), match=words):
        fit_targets(_frame(), names, TableOptions(**options), LINEAR, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="target 'kind': "):
        fit_targets(_frame(), NAMES, model=ModelOptions(quantile=(0.5,)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_second_run_into_the_same_folder_is_refused(trained):
    """Catches runs of other options mixed in one folder."""
    with pytest.raises(DataError, match="already exists"):
        fit_targets(_frame(), NAMES, model=LINEAR, out=trained[1])
    with pytest.raises(DataError, match="go on with --resume"):
        TargetRuns.open(trained[1]).begin()


def test_the_command_trains_each_resumes_what_is_left_and_predicts(tmp_path, monkeypatch, capsys):
    """Catches a second target that is ignored, a resumed run that trains all of them anew, and a
    folder that other commands take for one run.
    """
    monkeypatch.chdir(tmp_path)
    frame = _frame()
    write_parquet(tmp_path / "t.parquet", frame.schema, frame.to_batches())
    words = ["fit", "t.parquet", "--target", "size", "--target", "kind", "--model", "linear"]
    assert main([*words, "--steps", "30", "--no-report", "--out", "run"]) == 0
    told = capsys.readouterr().out
    assert told.count("held out") >= 2 and "target 'kind'" in told
    last = told.splitlines()[-1]
    assert last.endswith("downslope predict run NEW.parquet --out predictions.parquet")
    assert main(["predict", "run", "t.parquet", "--out", "p.parquet"]) == 0
    before = pq.read_table("p.parquet")
    assert before.num_rows == 300 and "size_prediction" in before.column_names

    assert main(["fit", "--resume", "run"]) == 2  # nothing is left to do
    assert main(["fit", "--resume", "run/target-1", *words[2:6]]) == 6
    assert main(["predict", "run/target-1", "t.parquet", "--out", "one.parquet"]) == 0
    for command in ("measure", "report", "plan"):
        assert main([command, "run"]) == 3
        assert "name one that it holds, such as run/target-1" in capsys.readouterr().err
    kept = (tmp_path / "run/target-1/model/tensors.safetensors").stat().st_mtime_ns
    shutil.rmtree("run/target-2")
    assert main(["predict", "run", "t.parquet", "--out", "q.parquet"]) == 3
    capsys.readouterr()
    assert main(["fit", "--resume", "run", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["targets"]) == ["kind"]
    assert (tmp_path / "run/target-1/model/tensors.safetensors").stat().st_mtime_ns == kept
    assert main(["predict", "run", "t.parquet", "--out", "q.parquet"]) == 0
    assert pq.read_table("q.parquet").equals(before)


def test_the_command_refuses_what_it_cannot_train(tmp_path, monkeypatch, capsys):
    """Catches several targets where one is meant, and other targets when resumed."""
    monkeypatch.chdir(tmp_path)
    frame = _frame(80)
    write_parquet(tmp_path / "t.parquet", frame.schema, frame.to_batches())
    two = ["--target", "size", "--target", "kind"]
    assert main(["check", "t.parquet", *two]) == 2
    assert "--target must be one column" in capsys.readouterr().err
    assert main(["fit", "t.parquet", *two, "--out", "run", "--dry-run"]) == 0
    assert "target 'kind'" in capsys.readouterr().out and not (tmp_path / "run").exists()
    assert main(["fit", "t.parquet", "--target", "size", "--target", "none"]) == 3
    assert not list((tmp_path / "runs").glob("*"))


def test_an_interrupted_target_is_resumed_and_the_rest_trained_as_if_nothing_had_been(
    tmp_path, monkeypatch, capsys
):
    """Catches an interrupted run taken for finished, a rest that is forgotten, and one trained with
    what the first target's model chose. Oracle: runs that were not interrupted.
    """
    monkeypatch.chdir(tmp_path)
    frame = _frame().append_column("other", [np.random.default_rng(1).normal(size=300)])
    write_parquet(tmp_path / "t.parquet", frame.schema, frame.to_batches())
    words = ["fit", "t.parquet", "--model", "mlp", "--steps", "60", "--batch-size", "32"]
    words += [word for name in (*NAMES, "other") for word in ("--target", name)]
    words.append("--no-report")
    assert main([*words, "--out", "whole"]) == 0
    wanted = predict("whole", frame).table
    dispatched, count = dispatch.Dispatcher.dispatch, []

    def interrupt(self, *given, **named):
        count.append(None)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return dispatched(self, *given, **named)

    loops.shorten_calls(monkeypatch)
    monkeypatch.setattr(dispatch.Dispatcher, "dispatch", interrupt)
    assert main([*words, "--out", "run"]) == 130
    assert "next       downslope fit --resume run" in capsys.readouterr().out
    runs = TargetRuns.open("run")
    assert not runs.is_finished("size") and not runs.runs["kind"].exists()
    assert main(["predict", "run", "t.parquet", "--out", "p.parquet"]) == 3
    assert "target 'size' is not trained; go on with" in capsys.readouterr().err
    assert main(["fit", "--resume", "run", "--target", "size", "--target", "x"]) == 6
    assert main(["fit", "--resume", "run", "--no-report"]) == 0
    assert all(map(runs.is_finished, runs.targets))
    found = predict("run", frame).table
    assert found.column_names == wanted.column_names
    for name in found.column_names:
        assert found[name].to_pylist() == wanted[name].to_pylist()


def test_a_damaged_list_of_targets_is_told(tmp_path):
    """Catches names that were edited, whose predictions would be exchanged."""
    runs = TargetRuns.of(tmp_path / "run", NAMES, "t.csv", TableOptions(), LINEAR, Training())
    runs.begin()
    assert TargetRuns.open(tmp_path / "run") == runs
    path = tmp_path / "run" / "targets.json"
    path.write_text(path.read_text().replace('"size"', '"seize"'))
    with pytest.raises(DataError):
        TargetRuns.open(tmp_path / "run")
    runs.discard_if_empty()
    assert not path.parent.exists()


def test_a_folder_of_the_users_own_is_neither_used_nor_removed(tmp_path, monkeypatch, capsys):
    """Catches files lost with a folder that a run did not make, and targets added to a list that
    names others.
    """
    monkeypatch.chdir(tmp_path)
    frame = _frame(80)
    write_parquet(tmp_path / "t.parquet", frame.schema, frame.to_batches())
    words = ["fit", "t.parquet", "--target", "size", "--target", "kind", "--model", "linear"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for out in ("mine", "."):
        assert main([*words, "--out", out]) == 3
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "t.parquet").exists()
    training, prints = Training(steps=20), ["a", "b"]
    runs = TargetRuns.of("run", NAMES, "t.parquet", TableOptions(), LINEAR, training, prints)
    runs.begin()
    assert main([*words, "--out", "run"]) == 3 and "already exists" in capsys.readouterr().err
    assert main(["fit", "--resume", "run", "--no-report"]) == 6  # of other rows
    assert "was changed since" in capsys.readouterr().err and TargetRuns.open("run") is not None
    (tmp_path / "run" / "notes.txt").write_text("mine")
    runs.discard_if_empty()
    assert (tmp_path / "run" / "notes.txt").exists()
