"""Cross-validation: every row is predicted by the one model that has not seen it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import downslope
from downslope import ModelOptions, TableOptions, Training, UsageError
from downslope.cli import main
from downslope.data.ingest.split import fold_numbers, folds_of
from downslope.data.output import write_parquet
from downslope.table.fit import fit
from downslope.table.folds import cross_validate
from plain import LINEAR

QUICK = Training(steps=100, learning_rate=0.05)


def _memory(count: int = 120) -> pa.Table:
    """A category of its own for each row, and a target of noise: seen rows alone are known."""
    draw = np.random.default_rng(0)
    return pa.table({
        "name": [f"n{i}" for i in range(count)], "x": draw.normal(size=count),
        "group": draw.integers(12, size=count), "y": draw.normal(size=count),
    })  # fmt: skip


@pytest.mark.parametrize("group", [None, "group"])
def test_every_row_is_in_one_fold_and_held_out_there(group):
    """Catches rows in two folds or in none, and groups that are split."""
    frame, table = _memory(), TableOptions(target="y", group=group)
    folds = fold_numbers(frame, table, 4)
    counts = np.bincount(folds, minlength=5)
    assert counts[0] == 0 and counts[1:].sum() == 120 and (counts[1:] > 5).all()
    assert group is not None or set(counts[1:].tolist()) == {30}
    assert (np.diff(folds) != 0).any() and folds[:4].tolist() != folds[4:8].tolist()
    for number in range(1, 5):
        fold = TableOptions(target="y", group=group, fold=(number, 4))
        stored = downslope.open(frame, fold)
        held = stored.held_out.unpack(stored.held_out.read(0, stored.num_held_out)).y
        truth = stored.encoding.target.in_own_unit(np.asarray(held, np.float64))
        np.testing.assert_allclose(truth, frame["y"].to_numpy()[folds == number], atol=1e-5)
        stored.close()
    if group is not None:
        for value in range(12):
            assert len(set(folds[frame["group"].to_numpy() == value])) <= 1


def test_a_row_is_in_the_same_fold_whatever_the_batches():
    """Catches folds that depend on where a batch of rows begins."""
    batch, table = _memory().to_batches()[0], TableOptions(target="y")
    whole = folds_of(batch, 0, table, 7)
    parts = [
        folds_of(batch.slice(a, b - a), a, table, 7) for a, b in ((0, 10), (10, 12), (12, 120))
    ]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_rows_are_predicted_by_a_model_that_has_not_seen_them():
    """Catches the folds swapped: predictions of seen rows would follow their noise."""
    frame = _memory()
    mlp = ModelOptions(model="mlp", hidden=(16,))
    found = cross_validate(frame, TableOptions(target="y"), mlp, QUICK, num_folds=3)
    assert found.predictions.column_names == ["prediction", "fold"]
    predicted, y = found.predictions["prediction"].to_numpy(), frame["y"].to_numpy()
    assert found.metrics["rmse"].value == pytest.approx(np.sqrt(np.mean((predicted - y) ** 2)))
    assert found.metrics["rmse"].num_examples == 120 and "loss" not in found.metrics
    assert found.metrics["r2"].value < 0.1
    seen = fit(frame, TableOptions(target="y"), mlp, QUICK).result
    assert seen.train_loss < 0.3 * found.metrics["rmse"].value ** 2 / 2  # of rows seen


def test_weights_missing_targets_and_classes_count_as_in_a_run(tmp_path):
    """Catches metrics over rows without a target, and probabilities of the wrong class."""
    draw = np.random.default_rng(1)
    x = draw.normal(size=300)
    kind = np.where(x + 0.3 * draw.normal(size=300) > 0, "yes", "no").tolist()
    kind[7] = None
    frame = pa.table({"x": x, "w": draw.integers(0, 3, size=300), "kind": kind})
    table = TableOptions(target="kind", weight="w")
    found = cross_validate(frame, table, LINEAR, QUICK, num_folds=3, out=tmp_path / "cv")
    assert found.metrics["accuracy"].value > 0.8 and found.metrics["auc"].value > 0.9
    p = found.predictions["probability_yes"].to_numpy()
    rows = np.array([k is not None for k in kind])
    weight, is_yes = frame["w"].to_numpy()[rows], np.array(kind)[rows] == "yes"
    hits = (p[rows] > 0.5) == is_yes
    assert found.metrics["accuracy"].value == pytest.approx(np.average(hits, weights=weight))
    kept = pq.read_table(tmp_path / "cv" / "out_of_fold.parquet")
    assert kept.equals(found.predictions) and kept.num_rows == 300
    assert (tmp_path / "cv" / "fold-3" / "result.json").exists()


@pytest.mark.parametrize("model", ["linear", "svm"])
@pytest.mark.parametrize("values", [("a", "b"), ("a", "b", "c"), (True, False), (1, 2, 3)])
def test_accuracy_is_that_of_the_predictions(model, values):
    """Catches calibrated probabilities counted where margins decide, and classes out of order."""
    draw = np.random.default_rng(2)
    x = draw.normal(size=240)
    kind = np.digitize(x + 0.4 * draw.normal(size=240), np.linspace(-1, 1, len(values) + 1)[1:-1])
    kind = [values[k] for k in kind]
    frame = pa.table({"x": x, "kind": pa.array(kind)})
    options = ModelOptions(model=model)
    found = cross_validate(frame, TableOptions(target="kind"), options, QUICK, num_folds=2)
    hits = np.mean([a == b for a, b in zip(found.predictions["prediction"].to_pylist(), kind,
                                          strict=True)])  # fmt: skip
    assert found.metrics["accuracy"].value == pytest.approx(hits) and hits > 0.6
    assert ("log_loss" in found.metrics) is (model == "linear")


def test_the_command_tells_scores_over_all_folds(tmp_path, monkeypatch, capsys):
    """Catches a flag that is not read, and a run's own scores shown as those of all folds."""
    monkeypatch.chdir(tmp_path)
    frame = _memory(60)
    write_parquet(tmp_path / "t.parquet", frame.schema, frame.to_batches())
    words = ["fit", "t.parquet", "--target", "y", "--model", "linear", "--steps", "30"]
    assert main([*words, "--folds", "3", "--no-report", "--out", "run"]) == 0
    told = capsys.readouterr()
    assert "fold 2 of 3: rmse" in told.err and told.out.index("held out") < told.out.index("folds")
    kept = pq.read_table("run/folds/out_of_fold.parquet")["prediction"].to_numpy()
    rmse = np.sqrt(np.mean((kept - frame["y"].to_numpy()) ** 2))
    assert f"3 folds    rmse {rmse:.2f}"[:18] in told.out
    assert main([*words, "--fold", "1,3", "--folds", "3", "--out", "other"]) == 2
    assert not (tmp_path / "other").exists()
    assert main(["fit", "--resume", "run", "--folds", "3"]) == 2


@pytest.mark.parametrize(("ask", "rule"), [
    (lambda: TableOptions(target="y", fold=(3, 2)), "N from 1 to OF"),
    (lambda: TableOptions(target="y", fold=(1,)), "N,OF"),
    (lambda: TableOptions(target="y", fold=(1, 2), time_column="x"), "exclude"),
    (lambda: cross_validate(_memory(), TableOptions(target="y", time_column="x")), "leave out"),
    (lambda: cross_validate(_memory(), TableOptions(target="y"), num_folds=1), "num_folds"),
    (lambda: cross_validate(_memory(3), TableOptions(target="y"), num_folds=5), "3 rows do not"),
    (lambda: cross_validate(_memory(), TableOptions(target="y", group="group"), num_folds=50),
     "the groups of 'group' do not fill 50"),
])  # fmt: skip
def test_folds_that_cannot_be_made_are_refused(ask, rule):
    with pytest.raises(UsageError, match=rule):
        ask()
