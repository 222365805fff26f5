"""Predictions: the table's order, the classes' own types, one batch in memory at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plain
from downslope import DataError, MismatchError, TableOptions, UsageError
from downslope.data import output
from downslope.data.ingest import tabular
from downslope.data.ingest.encoding import Encoding
from downslope.table import fit as table
from downslope.table import predict

ROWS = 400
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains on columns for a few steps; gives the run's folder."""
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))

    def trained(columns, **options):
        path = tmp_path / "train.parquet"
        pq.write_table(pa.table(columns), path)
        training = plain.training(batch_size=8, learning_rate=0.1, epochs=3)
        table.fit(
            path, TableOptions(target="y", **options), plain.LINEAR, training, out=tmp_path / "run"
        )
        return tmp_path / "run"

    return trained


@pytest.fixture
def predicted(tmp_path):
    """Predicts for columns; gives the table of predictions."""

    def predicted(run, columns):
        pq.write_table(pa.table(columns), tmp_path / "new.parquet")
        found = predict.predict(run, tmp_path / "new.parquet", tmp_path / "p.parquet")
        predictions = pq.read_table(tmp_path / "p.parquet")
        assert found.num_rows == predictions.num_rows
        return found, predictions

    return predicted


X = np.random.default_rng(0).normal(size=ROWS)
SIDE = (X > 0).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "kind", "names"),
    [
        (pa.array(["no", "yes"]).take(pa.array(SIDE)), pa.string(), ["no", "yes"]),
        (pa.array(SIDE * 5 - 2), pa.int64(), ["-2", "3"]),
        (pa.array(SIDE.astype(bool)), pa.bool_(), ["False", "True"]),
        (pa.array(SIDE * 1.5), pa.float64(), ["0.0", "1.5"]),
        (
            pa.array(["no", "yes"]).take(pa.array(SIDE)).dictionary_encode(),
            pa.string(),
            ["no", "yes"],
        ),
    ],
    ids=["strings", "integers", "booleans", "floats", "dictionary"],
)
def test_classes_keep_their_type(classes, kind, names, trained, predicted):
    """Catches class numbers, or strings, where the table's own labels belong."""
    run = trained({"x": X, "y": classes}, task="classify")
    _, found = predicted(run, {"x": X})
    assert found.column_names == ["prediction", *(f"probability_{name}" for name in names)]
    assert found.schema.field(0).type == kind
    assert set(found["prediction"].to_pylist()) == set(classes.to_pylist())
    p = np.stack(found.columns[1:], axis=1)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    assert (p >= 0).all()
    right = np.array(found["prediction"].to_pylist()) == np.array(classes.to_pylist())
    assert right.mean() > 0.95
    likeliest = np.array(sorted(set(classes.to_pylist())))[p.argmax(1)]
    assert (likeliest == np.array(found["prediction"].to_pylist())).all()


@pytest.mark.slow
def test_numbers_are_predicted_in_their_unit(trained, predicted):
    """Catches standardised predictions, and float32 that swallows the digits of a large mean."""
    run = trained({"x": X, "y": 1e9 + 2 * X})
    _, found = predicted(run, {"x": X})
    assert found.schema.names == ["prediction"]
    np.testing.assert_allclose(found["prediction"], 1e9 + 2 * X, atol=0.5)


def test_rows_keep_their_order_over_many_batches(trained, predicted):
    """Catches batches that swap, lose their last rows or are padded into the result."""
    rows = 2 * tabular.MAX_BATCH_ROWS + 12_345
    x = np.random.default_rng(1).permutation(rows) / rows
    run = trained({"x": X, "y": 3 * X})
    _, found = predicted(run, {"x": x})
    order = np.argsort(np.asarray(found["prediction"]), kind="stable")
    assert found.num_rows == rows
    assert (np.argsort(x)[:: rows // 1000] - order[:: rows // 1000] == 0).mean() > 0.99
    assert np.corrcoef(x, found["prediction"])[0, 1] > 0.999999


def test_a_row_is_predicted_alike_wherever_it_stands(trained, predicted):
    """Catches predictions that depend on a row's neighbours, or on the padding."""
    run = trained({"x": X, "y": SIDE})
    _, whole = predicted(run, {"x": X})
    (folder := run.parent / "p.parquet").unlink()
    _, part = predicted(run, {"x": X[37:40]})
    assert part.equals(whole.slice(37, 3))
    folder.unlink()


def test_one_batch_at_a_time(trained, predicted, monkeypatch):
    """Catches a table that is read whole before anything is written."""
    monkeypatch.setattr(tabular, "MAX_BATCH_ROWS", 256)
    monkeypatch.setattr("downslope.table.predict.ROWS", 256)
    run = trained({"x": X, "y": SIDE})
    events = []
    encode, write = Encoding.encode, output.pq.ParquetWriter.write_batch
    monkeypatch.setattr(Encoding, "encode", lambda *a: events.append("read") or encode(*a))
    monkeypatch.setattr(
        output.pq.ParquetWriter, "write_batch", lambda *a: events.append("write") or write(*a)
    )
    predicted(run, {"x": np.tile(X, 10)})
    assert events == ["read", "write"] * len(events[::2])
    assert len(events) > 20


@pytest.mark.slow
def test_columns_may_be_more_and_in_another_order(trained, predicted):
    """Catches columns that are found by their place."""
    z = np.random.default_rng(2).normal(size=ROWS)
    run = trained({"x": X, "z": z, "y": SIDE})
    _, expected = predicted(run, {"x": X, "z": z})
    (run.parent / "p.parquet").unlink()
    _, found = predicted(run, {"more": ["a"] * ROWS, "z": z, "y": [None] * ROWS, "x": X})
    assert found.equals(expected)


@pytest.mark.slow
def test_what_training_had_not_seen_is_counted(trained, predicted):
    """Catches an unknown category that is taken for a known one, and a count of the wrong rows."""
    kind = np.where(SIDE, "red", "blue")
    run = trained({"x": X, "kind": kind, "y": SIDE})
    new = {"x": pa.array(X, mask=np.arange(ROWS) < 7), "kind": ["green"] * 3 + ["red"] * (ROWS - 3)}
    found, predictions = predicted(run, new)
    assert found.unseen == {"kind": 3}
    assert found.missing == {"x": 7}
    p = np.asarray(predictions["probability_1"])
    assert p[0] == p[1] == p[2]  # neither x nor kind is known
    assert p[0] < p[3] == p[6]  # kind is known to be red


@pytest.mark.slow
def test_probabilities_of_an_svm_are_calibrated(trained, predicted, tmp_path):
    """Catches margins taken for log-odds. Truth: the probability that drew the classes."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=20_000)
    truth = 1 / (1 + np.exp(-2 * x))
    columns = {"x": x, "y": (rng.random(20_000) < truth).astype(int)}
    pq.write_table(pa.table(columns), tmp_path / "svm.parquet")
    table.fit(
        tmp_path / "svm.parquet",
        TableOptions(target="y"),
        table.ModelOptions(model="svm"),
        plain.training(epochs=2),
        out=tmp_path / "svm",
    )
    _, found = predicted(tmp_path / "svm", {"x": x})
    assert np.abs(np.asarray(found["probability_1"]) - truth).mean() < 0.03


def test_errors_of_python_callers(trained, tmp_path):
    """Catches an error of another kind than the command line's, and a file left behind."""
    run = trained({"x": X, "y": SIDE})
    path, out = tmp_path / "train.parquet", tmp_path / "p.parquet"
    with pytest.raises(UsageError, match=r"name the file p.parquet, not .*p.csv"):
        predict.predict(run, path, tmp_path / "p.csv")
    with pytest.raises(DataError, match="no such file"):
        predict.predict(run, tmp_path / "none.parquet", out)
    pq.write_table(pa.table({"X": X}), tmp_path / "other.parquet")
    with pytest.raises(MismatchError, match="needs column 'x'"):
        predict.predict(run, tmp_path / "other.parquet", out)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))
