"""The noise of a table: rows are those of the file, and its order is told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import downslope
import plain
from downslope import DataError, MismatchError, TableOptions, UsageError
from downslope.data.ingest.tabular import Table
from downslope.table import rows as table_rows
from downslope.table.fit import fit
from downslope.table.measure import measure_run, measure_table, order_extras
from downslope.table.rows import find_rows

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM = 1200
WRONG = [11, 500, 1199]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=NUM)
    y = 3 * x + rng.normal(size=NUM) * 0.1
    y[WRONG] += 60
    return {"x": x, "kind": rng.choice(["a", "b", "c"], NUM), "y": y}


def write(folder, form="parquet", table=None):
    path, table = folder / f"t.{form}", pa.table(columns() if table is None else table)
    (pq.write_table if form == "parquet" else pyarrow.csv.write_csv)(table, path)
    return path


def train(path, folder, **options):
    options = {"batch_size": 32, "epochs": 3, "optimizer": "sgd", "learning_rate": 0.05, **options}
    training = plain.training(**options)
    fit(path, TableOptions(target="y"), plain.LINEAR, training=training, out=folder / "run")
    return folder / "run"


def noisiest(found):
    return found.sections["tails"].tables["top_rows"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_mislabelled_rows_by_their_place_in_the_file(form, folder):
    path = write(folder, form)
    options = TableOptions(target="y", validation=0)
    found = measure_table(path, options, plain.LINEAR, num_examples=NUM, sections=["tails"])
    assert set(noisiest(found)[:3]) == set(WRONG)
    run = train(path, folder)
    found = measure_run(run, num_examples=NUM, sections=["tails", "curvature"])
    with_held_out = set(noisiest(found)[:3])
    assert with_held_out & set(WRONG)
    assert all(0 <= row < NUM for row in noisiest(found))
    assert found.records()["curvature/stability_ratio"].is_measured


def test_rows_that_differ_in_their_target_alone(folder):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, NUM)
    label = np.where(x == 0, "no", "yes").astype(object)
    first = np.flatnonzero(x == 1)[100]
    label[first] = "no"
    path = write(folder, table={"x": x.astype("f8"), "y": label})
    with downslope_open(path, TableOptions(target="y", validation=0)) as stored:
        rows = stored.train.read(0, stored.num_train)
        batch = stored.train.unpack(rows)
        odd = rows[(batch.y == 0) & (batch.x[:, 0] == np.sort(np.unique(batch.x[:, 0]))[1])]
        assert find_rows(path, stored.encoding, odd).tolist() == [first]
        same = rows[(batch.y == 1)][:1]  # the first of equal rows
        assert find_rows(path, stored.encoding, same)[0] in (
            np.flatnonzero(x == 1)[0], np.flatnonzero(x == 2)[0],
        )  # fmt: skip
        other = odd + np.float32(0.5)
        assert find_rows(path, stored.encoding, other).tolist() == [-1]


class downslope_open:
    def __init__(self, *arguments):
        self.stored = downslope.open(*arguments)

    def __enter__(self):
        return self.stored

    def __exit__(self, *_):
        self.stored.close()


def test_every_row_is_found_again(folder):
    path = write(folder)
    with downslope_open(path, TableOptions(target="y", validation=0)) as stored:
        rows = stored.train.read(0, 300)
        found = find_rows(path, stored.encoding, rows)
        assert len(set(found.tolist())) == 300
        again, y = stored.encoding, columns()["y"]
        np.testing.assert_allclose(
            stored.train.unpack(rows).y,
            (y[found] - again.target.mean) / again.target.scale,
            rtol=1e-4,
        )


def sorted_columns():
    rng = np.random.default_rng(0)
    label = np.repeat(["a", "b"], 3000)
    return {"x": rng.normal(size=6000) + (label == "b"), "y": label}


def test_a_sorted_table_and_its_shuffled_rows(folder):
    path = write(folder, table=sorted_columns())
    found = measure_table(
        path, TableOptions(target="y"), training=plain.training(batch_size=20), sections=["order"]
    )
    stored, visited = found.sections["order"].sentences
    assert "shuffle before training" in stored
    assert "shuffle before training" not in visited
    # a sorted column of two classes: every batch of B has the variance of one row
    assert found.records()["order/as stored: labels"].value == pytest.approx(20, rel=0.15)
    assert max(found.sections["order"].tables["as training visits it"].values()) < 1.5


def test_numbers_to_predict_count_as_a_column(folder):
    table = columns()
    table["y"] = np.sort(table["y"])
    found = measure_table(write(folder, table=table), TableOptions(target="y"), sections=["order"])
    assert found.sections["order"].tables["as stored"]["target y"] > 5


def test_reading_stops_once_all_is_known(folder, monkeypatch):
    rows = 3000
    rng = np.random.default_rng(0)
    path = write(folder, table={"x": rng.normal(size=rows), "y": rng.normal(size=rows)})
    with downslope_open(path, TableOptions(target="y", validation=0)) as stored:
        read = []
        whole = Table.batches

        def small(self, names=None):
            for batch in whole(self, names):
                for start in range(0, batch.num_rows, 100):
                    read.append(min(100, batch.num_rows - start))
                    yield batch.slice(start, 100)

        monkeypatch.setattr(Table, "batches", small)
        everything = stored.train.read(0, rows)
        numbers = find_rows(path, stored.encoding, everything)
        read.clear()
        early = everything[np.flatnonzero(numbers < 150)]
        assert find_rows(path, stored.encoding, early).max() < 150
        assert sum(read) == 200
        read.clear()
        monkeypatch.setattr(table_rows, "PART_BYTES", 64)
        extras = order_extras(path, stored, max_rows=500)
        assert sum(read) == 500
        assert {len(c) for c in (*extras.columns.values(), *extras.visited.values())} == {500}
        np.testing.assert_array_equal(
            extras.visited["target y"], stored.train.unpack(everything).y[:500]
        )


def test_a_table_that_moved_or_changed(folder):
    path = write(folder)
    run = train(path, folder)
    table = columns()
    table["x"] = table["x"] + 1
    write(folder, table=table)
    with pytest.raises(MismatchError, match=r"t\.parquet was changed since the run began"):
        measure_run(run, sections=["scale"])
    path.rename(folder / "elsewhere.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: no such file"):
        measure_run(run, sections=["scale"])


def test_wrong_subjects_are_told_before_work(folder):
    with pytest.raises(UsageError, match="sections must be names of"):
        measure_table(folder / "none.csv", TableOptions(target="y"), sections=["noise"])


def test_penalties_spare_what_training_spares(folder):
    """L2 acts on weights and leaves biases alone, in a table's model as in its training."""
    path = write(folder)
    training = plain.training(batch_size=32, optimizer="sgd")
    bare, found = (
        measure_table(path, TableOptions(target="y"), plain.LINEAR, t, sections=["curvature"])
        for t in (training, dataclasses.replace(training, l2=5.0))
    )
    more = (
        found.records()["curvature/hessian_trace"].value
        - bare.records()["curvature/hessian_trace"].value
    )
    num_weights = sum(1 for _ in ("x", "unknown", "missing", "a", "b", "c"))
    assert more == pytest.approx(5 * num_weights, rel=0.01)
