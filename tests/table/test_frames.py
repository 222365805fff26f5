"""From a data frame to a model and back to predictions, without a file of the user's."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plain
from downslope import DataError, MismatchError, TableOptions, Training
from downslope.table import fit as table
from downslope.table.predict import predict
from downslope.table.run import request_of

QUICK = Training(epochs=2, batch_size=64, learning_rate=0.05, measure_every=None)
OPTIONS = TableOptions(target="label")
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def columns(count=600):
    rng = np.random.default_rng(0)
    x, word = rng.normal(size=count), rng.choice(["red", "green", "blue"], count)
    gaps = rng.random(count) < 0.1
    label = np.where(x + (word == "red") > 0.3, "yes", "no")
    return {
        "x": [None if gap else float(v) for v, gap in zip(x, gaps, strict=True)],
        "word": word.tolist(),
        "label": label.tolist(),
    }


MAKERS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table}


@pytest.mark.slow
def test_predictions_are_those_of_a_file(tmp_path):
    """Catches a frame that is read otherwise than the same table on disk, and rows out of order."""
    frame = pl.DataFrame(columns())
    pq.write_table(pa.table(columns()), tmp_path / "t.parquet")
    table.fit(frame, OPTIONS, plain.LINEAR, training=QUICK, out=tmp_path / "a")
    table.fit(tmp_path / "t.parquet", OPTIONS, plain.LINEAR, training=QUICK, out=tmp_path / "b")
    found = predict(tmp_path / "a", frame)
    predict(tmp_path / "b", tmp_path / "t.parquet", tmp_path / "p.parquet")
    assert found.num_rows == 600 and found.table is not None
    assert found.table.equals(pq.read_table(tmp_path / "p.parquet"))
    right = np.array(found.table["prediction"].to_pylist()) == np.array(columns()["label"])
    assert right.mean() > 0.8


def test_trained_on_one_library_and_applied_to_another(tmp_path):
    """Catches types that differ in their layout only and are refused; and files left behind."""
    run = tmp_path / "run"
    table.fit(pd.DataFrame(columns()), OPTIONS, plain.LINEAR, training=QUICK, out=run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run"]
    found = [predict(run, make(columns())).table for make in MAKERS.values()]
    assert found[0] is not None and found[0].equals(found[1]) and found[0].equals(found[2])
    with pytest.raises(MismatchError, match="word"):
        predict(run, pd.DataFrame({"x": [1.0]}))


def test_a_run_is_gone_on_with(tmp_path):
    """Catches a fingerprint that differs between two frames of the same content."""
    run, more = tmp_path / "run", dataclasses.replace(QUICK, epochs=3)
    table.fit(pd.DataFrame(columns()), OPTIONS, plain.LINEAR, training=QUICK, out=run)
    assert json.loads((run / "run.json").read_text())["metadata"]["path"] is None
    with pytest.raises(DataError, match="trained on a data frame; use it in Python"):
        request_of(run)  # the command line has no frame to go on with
    found = table.fit(pd.DataFrame(columns()), OPTIONS, plain.LINEAR, training=more, resume=run)
    assert found.result.num_epochs == 3
    changed = pd.DataFrame(columns())
    changed.loc[5, "x"] = 1e3
    with pytest.raises(MismatchError, match="data given are not those"):
        table.fit(changed, OPTIONS, plain.LINEAR, training=more, resume=run)


@pytest.mark.parametrize(
    ("frame", "column", "words"),
    [
        (pd.DataFrame({"label": ["a", "b"] * 9, "o": [1, "x"] * 9}), "o", "cannot be read"),
        (pl.DataFrame({"label": ["a", "b"] * 9, "l": [[1]] * 18}), "l", "list<item: int64>"),
        (pl.DataFrame({"lable": ["a", "b"]}), "label", "did you mean 'lable'"),
        (pd.DataFrame({"label": []}), None, "no rows"),
    ],
)
def test_frames_that_cannot_be_used(frame, column, words):
    with pytest.raises(DataError, match=words) as raised:
        table.fit(frame, OPTIONS)
    assert raised.value.column == column
    assert str(raised.value).startswith("data frame")
