"""Data frames are read as they are: the same rows whatever library holds them."""

from __future__ import annotations

import datetime
import decimal

import jax
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import downslope
from downslope import DataError, TableOptions, UsageError
from downslope.data.frames import arrow_table, is_frame, numeric_columns
from downslope.data.ingest.memory import open_memory
from downslope.data.ingest.tabular import open_table

COLUMNS = {
    "x": [0.5, -1.0, 2.0, 4.0],
    "n": [3, 1, 2, 5],
    "on": [True, False, True, True],
    "word": ["a", "b", "a", "c"],
    "y": [1.0, 2.0, 3.0, 5.0],
}


class OnlyStream:
    """What a library of one's own may offer: the interface and nothing else."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


class OnlyOldProtocol:
    """Older libraries offer the interchange protocol alone."""

    def __init__(self, table):
        self._table = table

    def __dataframe__(self, nan_as_null=False, allow_copy=True):
        return self._table.__dataframe__(nan_as_null, allow_copy)


MAKERS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": pa.table,
    "batch": pa.record_batch,
    "reader": lambda columns: pa.table(columns).to_reader(),
    "stream": lambda columns: OnlyStream(pa.table(columns)),
    "protocol": lambda columns: OnlyOldProtocol(pa.table(columns)),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every_maker
def test_numbers_by_name(make):
    """Catches a library that is not recognised, and columns in another order."""
    frame = make({name: COLUMNS[name] for name in ("x", "n", "y")})
    assert is_frame(frame)
    found = numeric_columns(frame)
    assert list(found) == ["x", "n", "y"]
    assert found["x"].tolist() == COLUMNS["x"] and found["n"].tolist() == COLUMNS["n"]


@every_maker
def test_rows_of_a_table(make):
    """Catches strings or booleans that come out otherwise from one of the libraries."""
    table = open_table(make(COLUMNS))
    assert table.names == list(COLUMNS) and table.num_rows == 4
    (batch,) = table.batches(["word", "on", "y"])
    assert batch.to_pydict() == {name: COLUMNS[name] for name in ("word", "on", "y")}
    assert batch.schema.types == [table.types[name] for name in ("word", "on", "y")]


@pytest.mark.parametrize(
    "data", [[1.0], (np.ones(2),), np.ones((2, 2)), "t.csv", {"x": [1]}, None, pl.DataFrame]
)
def test_other_data_is_no_frame(data):
    assert not is_frame(data)


@pytest.mark.parametrize("column", [pd.Series([1.0, 2.0]), pl.Series([1.0, 2.0])])
def test_a_single_column_is_an_array_as_before(column):
    """Catches one that is taken for a table: it has the same interface."""
    assert not is_frame(column)
    assert downslope.Arrays((column, column)).num_rows == 2


def test_a_frame_inside_a_tuple_is_a_matrix():
    """`(X, y)` of data frames: as numpy.asarray makes of them, as the documentation says."""
    rows = downslope.Arrays((pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), pd.Series([0, 1])))
    assert rows.tree[0].tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_kinds_of_numbers():
    """Catches a decimal or a list that is dropped, and rows of a list out of order."""
    vectors = pl.Series([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=pl.Array(pl.Float32, 2))
    frame = pl.DataFrame(
        {
            "vector": vectors,
            "price": pl.Series([decimal.Decimal("1.5")] * 3),
            "on": [True, False, True],
            "small": pl.Series([1, 2, 3], dtype=pl.UInt8),
        }
    )
    found = numeric_columns(frame[1:])  # a slice: its buffers begin elsewhere
    assert found["vector"].tolist() == [[3.0, 4.0], [5.0, 6.0]]
    assert found["price"].tolist() == [1.5, 1.5]
    assert found["on"].tolist() == [False, True]
    assert found["small"].tolist() == [2, 3]


DATES = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]


@pytest.mark.parametrize(
    ("frame", "column", "words"),
    [
        (pd.DataFrame({"x": [1.0, 2.0], "s": ["a", "b"]}), "s", "not numbers"),
        (pl.DataFrame({"s": ["a", "b"]}), "s", "not numbers"),
        (pd.DataFrame({"c": pd.Categorical(["a", "b"])}), "c", "not numbers"),
        (pl.DataFrame({"day": DATES}), "day", "not numbers"),
        (pl.DataFrame({"l": [[1], [1, 2]]}), "l", "not numbers"),
        (pd.DataFrame({"x": [1.0, None]}), "x", "row 2: a value is missing"),
        (pd.DataFrame({"x": pd.Series([None, 1], dtype="Int64")}), "x", "row 1: a value is"),
        (pl.DataFrame({"x": [1, None]}), "x", "row 2: a value is missing"),
        (
            pl.DataFrame({"v": pl.Series([[1, 2], [3, None]], dtype=pl.Array(pl.Int64, 2))}),
            "v",
            "row 2: a value is missing",
        ),
        (pd.DataFrame({"ok": [1, 2], "mixed": [1, "b"]}), "mixed", "cannot be read"),
        (pd.DataFrame({"ok": [1], "o": [object()]}), "o", "cannot be read"),
        (pd.DataFrame({"z": [1 + 2j]}), "z", "cannot be read"),
        (pd.DataFrame({"s": pd.arrays.SparseArray([0, 1])}), "s", "cannot be read"),
        (pl.DataFrame({"big": pl.Series([1], dtype=pl.Int128)}), "big", "cannot be read"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a", "2 columns have this name"),
        (pa.table([[1], [2]], names=["a", "a"]), "a", "2 columns have this name"),
        (pd.DataFrame({"x": []}), None, "no rows"),
        (pl.DataFrame(), None, "no columns"),
        (pd.DataFrame(index=[0, 1]), None, "no columns"),
    ],
)
def test_what_cannot_be_numbers(frame, column, words):
    """Catches an error of the library's own, and one that names no column."""
    with pytest.raises(DataError, match=words) as raised:
        downslope.open(frame)
    assert raised.value.column == column
    assert str(raised.value).startswith("data frame")
    assert raised.value.remedy and "\n" not in str(raised.value)


def test_names_that_become_the_same():
    """1 and "1" are two columns to pandas and one name to Arrow."""
    with pytest.raises(DataError, match="2 columns have this name"):
        arrow_table(pd.DataFrame([[1, 2]], columns=[1, "1"]))


def test_the_index_of_a_pandas_frame_is_no_column():
    """Catches row numbers that are learned from, after a shuffle or a split."""
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index([7, 3], name="id"))
    assert arrow_table(frame).column_names == ["x"]


def test_what_is_neither_path_nor_frame():
    with pytest.raises(UsageError, match="got LazyFrame; collect"):
        downslope.open(pl.DataFrame({"x": [1.0]}).lazy(), TableOptions(target="x"))
    with pytest.raises(UsageError, match=r"got list$"):
        downslope.open([1.0])


def content(frame):
    return open_memory(frame)[2]


def mixed(count, start=0):
    rng = np.random.default_rng(0)
    words = np.array(["", "one", "zwölf", "a longer one"])[rng.integers(4, size=count)]
    gaps = rng.random(count) < 0.2
    columns = {
        "x": pa.array(rng.normal(size=count), mask=gaps),
        "n": pa.array(rng.integers(9, size=count), mask=gaps),
        "on": pa.array(rng.random(count) < 0.5, mask=gaps),
        "word": pa.array(words, pa.large_string(), mask=gaps),
        "kind": pa.array(words, pa.large_string(), mask=gaps).dictionary_encode(),
    }
    return pa.table(columns).slice(start)


def test_the_fingerprint_is_of_the_content():
    """Catches a hash over buffers as they lie: slices, chunks and hidden values would count."""
    whole = mixed(1000, start=3)
    pieces = pa.concat_tables([whole.slice(0, 13), whole.slice(13, 500), whole.slice(513)])
    copy = pa.Table.from_pylist(whole.to_pylist(), whole.schema)
    other = copy["kind"].combine_chunks().dictionary_decode().cast(pa.large_string())
    recoded = pa.DictionaryArray.from_arrays(
        pa.array([["zwölf", "", "a longer one", "one"].index(v) if v is not None else None
                  for v in other.to_pylist()], pa.int32()),
        pa.array(["zwölf", "", "a longer one", "one"], pa.large_string()),
    )  # fmt: skip
    recoded = copy.set_column(4, "kind", recoded)
    assert content(whole) == content(pieces) == content(copy) == content(recoded)


def test_what_lies_under_a_missing_value_does_not_count():
    mask = np.array([False, True])
    one, two = (pa.array(np.array([1.0, v]), mask=mask) for v in (2.0, 3.0))
    assert content(pa.table({"x": one})) == content(pa.table({"x": two}))


def test_the_fingerprint_tells_frames_apart():
    """Catches a hash that leaves out names, types, order, or where values are missing."""
    frames = [
        {"x": [1, 2], "y": [3, 4]},
        {"x": [2, 1], "y": [3, 4]},
        {"y": [1, 2], "x": [3, 4]},
        {"x": [1.0, 2.0], "y": [3, 4]},
        {"x": [1, 2], "z": [3, 4]},
        {"x": [None, 1, 2], "y": [3, 4, 5]},
        {"x": [1, None, 2], "y": [3, 4, 5]},
        {"x": ["ab", "c"]},
        {"x": ["a", "bc"]},
        {"x": [True, False]},
        {"x": [False, True]},
    ]
    assert len({content(pa.table(frame)) for frame in frames}) == len(frames)


def test_a_value_far_into_a_frame_counts():
    x = np.zeros(200_000)
    before = content(pa.table({"x": x}))
    x[-1] = 1
    assert content(pa.table({"x": x})) != before


def test_polars_and_arrow_agree():
    """A run on one is gone on with on the other."""
    assert content(pl.DataFrame(COLUMNS)) == content(pl.DataFrame(COLUMNS).to_arrow())


def test_converted_as_a_file_would_be(tmp_path, monkeypatch):
    """Catches rows, held-out rows or an encoding that depend on where a table lies."""
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    table = mixed(3000)
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as file:
        file.write_table(table.unify_dictionaries())
    options = TableOptions(target="x")
    found = [downslope.open(t, options) for t in (table, tmp_path / "t.arrow", table)]
    frames, file, again = found
    assert frames.encoding == file.encoding
    for part in ("train", "held_out"):
        rows = [getattr(t, part).read(0, getattr(t, part).num_rows) for t in found]
        assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[0], rows[2])
    assert frames.folder == again.folder != file.folder  # found again by its content
    for each in found:
        each.close()


def test_many_small_chunks():
    """Catches batches as small as the chunks of a frame that was appended to."""
    part = pl.DataFrame({"word": ["a", "b"], "kind": pl.Series(["u", "v"], dtype=pl.Categorical)})
    frame = pl.concat([part] * 300, rechunk=False)
    (batch,) = open_table(frame).batches()
    assert batch.num_rows == 600
    assert batch["word"].to_pylist() == ["a", "b"] * 300
    assert batch["kind"].to_pylist() == ["u", "v"] * 300


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_loss_of_ones_own_sees_columns_by_name(make):
    """The line through points that lie on it, whatever holds them."""
    x = np.random.default_rng(0).normal(size=500)

    def loss(model, batch, key):
        return 0.5 * (model["slope"] * batch["x"] + model["shift"] - batch["y"]) ** 2

    frame = make({"x": x, "y": 3 * x - 1})
    model = {"slope": np.float32(0), "shift": np.float32(0)}
    model = {name: np.asarray(value) for name, value in model.items()}
    found = downslope.fit(loss, model, frame, validation=0.2)
    assert jax.tree.map(lambda v: round(float(v), 3), found.params) == {"slope": 3, "shift": -1}
    assert found.validation["loss"].num_examples == 100
    with_frame = downslope.fit(loss, model, frame, validation=make({"x": x[:7], "y": x[:7]}))
    assert with_frame.validation["loss"].num_examples == 7
