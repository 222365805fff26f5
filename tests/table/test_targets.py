"""Several targets: a model each, none an input of another's, and predictions side by side."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from downslope import DataError, TableOptions, Training, UsageError, read_metadata
from downslope.cli import main
from downslope.data.output import write_parquet
from downslope.table.predict import predict
from downslope.table.targets import TargetRuns, fit_targets, options_of, share_of
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
    notes = {name: [n for n in result.notes if "1 rows without" in n or "1 row" in n]
             for name, result in trained[0].items()}  # fmt: skip
    assert "'size'" in notes["size"][0] and "'kind'" in notes["kind"][0]


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
    """Catches a role that names another target, and a budget that each target gets whole."""
    table = TableOptions(number=("size", "x"), seed=3)
    assert options_of("kind", NAMES, table) == TableOptions(
        target="kind", ignore=("size",), number=("x",), seed=3
    )
    assert share_of(Training(seconds=60), 3).seconds == 20
    assert share_of(Training(steps=60), 3) == Training(steps=60)


@pytest.mark.parametrize(
    ("names", "words"),
    [(["size"], "two columns"), (["size", "size"], "named twice"), (["size", "sise"], "sise")],
)
def test_targets_that_cannot_be(names, words, tmp_path):
    """Catches a folder left by targets that were refused."""
    with pytest.raises((UsageError, DataError), match=words):
        fit_targets(_frame(), names, model=LINEAR, out=tmp_path / "run")
    assert list(tmp_path.glob("**/run.json")) == [] or (tmp_path / "run/target-1").exists()
    assert len(names) > 1 or not (tmp_path / "run").exists()


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
