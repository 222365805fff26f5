"""The folder of a converted table: read by range, unpacked, and checked when opened."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.config import TableOptions
from downslope.data.ingest.convert import convert
from downslope.data.ingest.tabular import open_table
from downslope.data.source import Source
from downslope.data.stored import StoredTable
from downslope.errors import DataError
from downslope.tree import aligned_empty

COUNT = 500


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored")
    rng = np.random.default_rng(0)
    table = {"x": rng.random(COUNT), "z": rng.random(COUNT), "c": rng.choice(list("abc"), COUNT),
             "y": rng.choice(["no", "yes"], COUNT)}  # fmt: skip
    pq.write_table(pa.table(table), path / "t.parquet")
    convert(open_table(path / "t.parquet"), TableOptions(target="y"), path / "out").close()
    return path / "out"


@pytest.fixture
def copy(folder, tmp_path):
    import shutil

    return shutil.copytree(folder, tmp_path / "copy")


def test_row_files_are_sources(folder):
    stored = StoredTable.open(folder)
    assert isinstance(stored.train, Source) and isinstance(stored.held_out, Source)
    assert stored.train.shuffled and stored.train.num_rows == stored.num_train
    assert stored.train.fingerprint != stored.held_out.fingerprint
    assert len(stored.train.fingerprint) == 64
    assert stored.train.row_bytes == 4 * stored.encoding.width == 4 * (2 + 1 + 2)


@given(st.data())
def test_any_range_is_the_same_as_the_whole(folder, data):
    """Wrong: an offset in floats instead of bytes, or `out` returned unfilled."""
    stored = StoredTable.open(folder)
    whole = np.fromfile(folder / "train.rows", "<f4").reshape(stored.num_train, -1)
    start = data.draw(st.integers(0, stored.num_train))
    stop = data.draw(st.integers(start, stored.num_train))
    found = stored.train.read(start, stop)
    np.testing.assert_array_equal(found, whole[start:stop])
    assert found.ctypes.data % 64 == 0 or not found.size
    out = aligned_empty(found.shape, np.float32)
    assert stored.train.read(start, stop, out) is out
    np.testing.assert_array_equal(out, found)
    stored.close()


def test_unpack(folder):
    """Wrong: columns counted from the wrong end, or only rows of two axes accepted."""
    stored = StoredTable.open(folder)
    rows = stored.train.read(0, 12)
    batch = stored.train.unpack(rows)
    np.testing.assert_array_equal(batch.x, rows[:, :2])
    assert batch.codes.dtype == np.int32 and batch.codes.shape == (12, 1)
    assert batch.codes.min() >= 2 and set(batch.y) == {0, 1} and (batch.weight == 1).all()
    blocks = stored.train.unpack(rows.reshape(3, 4, -1))
    assert blocks.x.shape == (3, 4, 2) and blocks.y.shape == (3, 4)


def test_reading_what_cannot_be_read(folder):
    stored = StoredTable.open(folder)
    for start, stop in [(-1, 2), (0, stored.num_train + 1), (3, 2)]:
        with pytest.raises(ValueError, match="rows"):
            stored.train.read(start, stop)
    with pytest.raises(ValueError, match="out has"):
        stored.train.read(0, 2, np.empty((2, 5), np.float64))
    with pytest.raises(ValueError):
        stored.train.read(0, 2, np.empty((2, 10), np.float32)[:, ::2])
    stored.close()
    stored.close()
    with pytest.raises(ValueError, match="closed"):
        stored.train.read(0, 1)


def test_file_cut_short_while_open(copy):
    stored = StoredTable.open(copy)
    with open(copy / "train.rows", "r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match="shorter"):
        stored.train.read(0, stored.num_train)


@pytest.mark.parametrize(
    "name", ["encoding.json", "table.json", "manifest.json", "train.rows", "held_out.rows"]
)
@pytest.mark.parametrize("how", ["remove", "cut", "empty"])
def test_damage_is_seen_on_opening(copy, name, how):
    """Wrong: a folder is trusted because it is there."""
    path, content = copy / name, (copy / name).read_bytes()
    path.unlink()
    if how != "remove":
        path.write_bytes(content[: -4 if how == "cut" else 0])
    with pytest.raises(DataError) as caught:
        StoredTable.open(copy)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_changed_encoding_is_seen(copy):
    """Wrong: only sizes are compared."""
    path = copy / "encoding.json"
    path.write_text(path.read_text().replace('"yes"', '"yea"'))
    with pytest.raises(DataError, match=r"encoding\.json"):
        StoredTable.open(copy)


def test_documents_can_be_read(folder):
    record = json.loads((folder / "table.json").read_text())
    assert record["num_train"] + record["num_held_out"] == COUNT
    assert record["options"]["target"] == "y"
    encoding = json.loads((folder / "encoding.json").read_text())
    assert encoding["task"] == "classify" and encoding["target"]["classes"] == ["no", "yes"]
