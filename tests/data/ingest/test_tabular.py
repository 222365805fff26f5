"""Reading tables: every format gives the same rows, and every fault one clear line."""

from __future__ import annotations

import gzip
import itertools
import os

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.data.ingest.tabular import batch_rows, open_table, rebatched
from downslope.data.output import write_parquet
from downslope.errors import DataError

TABLE = pa.table({"x": [1.5, -2.0, 3.25], "k": [1, 2, 3], "s": ["a", "b", "c"]})


def whole(path, columns=None, **options) -> dict:
    table = open_table(path, **options)
    parts = [pa.Table.from_batches([batch]) for batch in table.batches(columns)]
    return pa.concat_tables(parts, promote_options="permissive").to_pydict()


def fault(path, **options) -> DataError:
    """The DataError of reading the table to its end; its message is one line with the path."""
    with pytest.raises(DataError) as caught:
        for _ in open_table(path, **options).batches():
            pass
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and len(message) < 400, message
    return caught.value


def _write_stream(table, path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _write_gzip(table, path):
    with gzip.open(path, "wb") as file:
        pa_csv.write_csv(table, file)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.parquet", pq.write_table),
        ("t.feather", feather.write_feather),
        ("t.arrow", _write_stream),
        ("t.csv", pa_csv.write_csv),
        ("t.csv.gz", _write_gzip),
    ],
)
def test_formats_agree(tmp_path, name, write):
    """Wrong: columns come in the file's order instead of the order asked for."""
    write(TABLE, tmp_path / name)
    assert whole(tmp_path / name) == TABLE.to_pydict()
    found = whole(tmp_path / name, ["s", "x"])
    assert list(found) == ["s", "x"] and found["s"] == ["a", "b", "c"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_files(tmp_path, order):
    """Wrong: Fortran order or a foreign byte order is read as if it were ours."""
    x = np.asarray(np.arange(6.0).reshape(3, 2), ">f8", order=order)
    np.save(tmp_path / "x.npy", x)
    assert whole(tmp_path / "x.npy") == {"0": [0, 2, 4], "1": [1, 3, 5]}
    np.savez_compressed(tmp_path / "x.npz", x=x, label=np.array(["a", "bb", "c"]))
    found = whole(tmp_path / "x.npz", ["label", "x[1]"])
    assert found == {"label": ["a", "bb", "c"], "x[1]": [1, 3, 5]}


def test_folder_in_order_of_names(tmp_path):
    """Wrong: files in the order of the directory, or the marker files of others read too."""
    for i in (2, 0, 1):
        part = pa.table({"x": [i]}) if i else pa.table({"x": pa.nulls(1)})
        pq.write_table(part, tmp_path / f"part-{i}.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part-3.parquet").touch()
    table = open_table(tmp_path)
    assert table.num_rows == 3 and table.types == {"x": pa.int64()}
    assert whole(tmp_path) == {"x": [None, 1, 2]}


def test_files_of_a_folder_must_agree(tmp_path):
    pq.write_table(pa.table({"x": [1], "z": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    error = pytest.raises(DataError, open_table, tmp_path).value
    assert error.column == "z" and "b.parquet" in str(error)


def test_fixed_lists_are_taken_apart(tmp_path):
    """Wrong: `flatten()` drops the values of null lists and shifts all later rows."""
    lists = pa.array([[1.0, 2.0], None, [5.0, None]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"v": lists, "k": [1, 2, 3]}), tmp_path / "t.parquet")
    assert whole(tmp_path / "t.parquet") == {
        "v[0]": [1, None, 5], "v[1]": [2, None, None], "k": [1, 2, 3]
    }  # fmt: skip


@given(sizes=st.lists(st.integers(0, 12), max_size=8), rows=st.integers(1, 9))
def test_rebatched(sizes, rows):
    """Wrong: empty batches end the stream, or the last rows are dropped."""
    total = np.arange(sum(sizes))
    edges = np.cumsum([0, *sizes])
    parts = [pa.record_batch({"x": total[a:b]}) for a, b in itertools.pairwise(edges)]
    found = list(rebatched(iter(parts), rows))
    assert all(batch.num_rows == rows for batch in found[:-1])
    assert [v for batch in found for v in batch["x"].to_pylist()] == total.tolist()


def test_rebatched_unites_dictionaries():
    """Wrong: indices are joined while their dictionaries differ."""
    parts = [
        pa.record_batch({"s": pa.array(words).dictionary_encode()})
        for words in (["a", "b"], ["b", "c"], ["c", "a"])
    ]
    (joined,) = rebatched(iter(parts), 6)
    assert joined["s"].to_pylist() == ["a", "b", "b", "c", "c", "a"]


def test_wide_tables_get_short_batches():
    assert batch_rows([pa.float32()] * 64) == 1 << 16
    assert batch_rows([pa.float64()] * 10_000) * 80_000 <= 1 << 26


# --- CSV ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a;b\n1;2\n", {"a": [1], "b": [2]}),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", {"a": [1], "b": [2]}),
        (b'a,b\n"x\ny",2\n\n"u,v",3\n', {"a": ["x\ny", "u,v"], "b": [2, 3]}),
        (b"a,b\nNA,1\nNamibia,NaN\n,3\n", {"a": ["NA", "Namibia", None], "b": [1, None, 3]}),
        (b"a,b\n 1 ,x\nnull, y\n", {"a": [1, None], "b": ["x", " y"]}),
        (b"a\n12345678901234567890\n3\n", {"a": [12345678901234567890.0, 3.0]}),
        (b"a\n1e400\n1\n", {"a": [float("inf"), 1.0]}),
        (b"a\ntrue\nFALSE\n", {"a": [True, False]}),
    ],
)
def test_csv_quirks(tmp_path, text, expected):
    (tmp_path / "t.csv").write_bytes(text)
    assert whole(tmp_path / "t.csv") == expected


def test_tab_separated(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"a,1\tb\n1\t2\n")
    assert whole(tmp_path / "t.tsv") == {"a,1": [1], "b": [2]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_csv_with_a_mark_of_its_encoding(tmp_path, encoding):
    """Catches a first name with the mark in it, and text that is read as pairs of bytes."""
    text = "größe,stadt\n1.5,Köln\n2,Łódź\n"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "t.csv").write_bytes((mark + text).encode(encoding))
    assert whole(tmp_path / "t.csv") == {"größe": [1.5, 2.0], "stadt": ["Köln", "Łódź"]}


def test_csv_separator_beside_names_that_hold_another(tmp_path):
    (tmp_path / "t.csv").write_text('"x, y, z";"a, b"\n1;2\n')
    assert whole(tmp_path / "t.csv") == {"x, y, z": [1], "a, b": [2]}


def test_csv_with_a_row_too_long(tmp_path):
    """Catches a message about straddling objects; an open quote is its most likely cause."""
    (tmp_path / "t.csv").write_text('a,b\n1,"' + "x" * 10_000_000 + '"\n2,y\n')
    assert "a row of more than 4 MiB" in str(fault(tmp_path / "t.csv"))


def test_csv_strings_stay_as_written(tmp_path):
    """Wrong: "007" is read as the number 7 and written back as "7"."""
    (tmp_path / "t.csv").write_bytes(b"code,x\n007,1\n7,2\n")
    assert whole(tmp_path / "t.csv", strings=["code"])["code"] == ["007", "7"]


def _long_csv(path, first, later, blocks=3):
    """A file of some blocks whose values change after the first, on row `count + 1`."""
    count = blocks * (1 << 22) // (len(first) + 3)
    path.write_text("a,b\n" + f"{first},1\n" * count + f"{later},1\n" * 3)
    return count + 1


@pytest.mark.parametrize(("first", "later"), [("7", "1.5"), ("", "1.5"), ("", "4")])
def test_csv_widens_late_values(tmp_path, first, later):
    """Wrong: the type of the first block is kept, and a float among integers is an error."""
    row = _long_csv(tmp_path / "t.csv", first * 100, later)
    found = whole(tmp_path / "t.csv")["a"]
    assert len(found) == row + 2 and found[-3:] == [float(later)] * 3


def test_csv_type_change_names_column_and_row(tmp_path):
    row = _long_csv(tmp_path / "t.csv", "7" * 9, "abc")
    error = fault(tmp_path / "t.csv")
    assert (error.column, error.row) == ("a", row) and "'abc'" in str(error)
    assert "--categorical" in str(error)


@pytest.mark.parametrize("bad", ["1", "1,2,3"])
def test_csv_ragged_row_is_named(tmp_path, bad):
    """Wrong: Arrow's number counts the header; ours counts rows of data from 1."""
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 700_000 + f"{bad}\n")
    assert fault(tmp_path / "t.csv").row == 700_001
    (tmp_path / "u.csv").write_text(f"a,b\n1,2\n{bad}\n")
    assert fault(tmp_path / "u.csv").row == 2


# --- faults ---------------------------------------------------------------------------


def test_missing_path(tmp_path):
    assert "no such file" in str(fault(tmp_path / "none.parquet"))


def test_unreadable_path(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    pq.write_table(TABLE, tmp_path / "t.parquet")
    monkeypatch.setattr(
        "downslope.data.ingest.tabular.open", refuse, raising=False
    )  # root reads all
    assert "permission" in str(fault(tmp_path / "t.parquet"))


def test_broken_link_and_loop(tmp_path):
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone.csv")
    (tmp_path / "b.csv").symlink_to(tmp_path / "b.csv")
    assert "no such file" in str(fault(tmp_path / "a.csv"))
    fault(tmp_path / "b.csv")


def test_not_a_table(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    assert ".parquet" in str(fault(tmp_path / "t.xlsx"))
    (tmp_path / "folder").mkdir()
    assert ".parquet" in str(fault(tmp_path / "folder"))


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.csv", "t.npy", "t.npz", "t.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"garbage\x00\xff" * 50])
def test_files_that_are_something_else(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    if name == "t.csv" and content:
        content = b"a\n\xff\xfe\n"
        (tmp_path / name).write_bytes(content)
    fault(tmp_path / name)


def test_empty_tables(tmp_path):
    pq.write_table(TABLE.slice(0, 0), tmp_path / "t.parquet")
    assert "no rows" in str(fault(tmp_path / "t.parquet"))
    np.save(tmp_path / "t.npy", np.zeros((0, 3)))
    assert "no rows" in str(fault(tmp_path / "t.npy"))
    np.save(tmp_path / "u.npy", np.zeros(3))
    assert "not a table" in str(fault(tmp_path / "u.npy"))


def test_duplicate_columns(tmp_path):
    double = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    pq.write_table(double, tmp_path / "t.parquet")
    assert fault(tmp_path / "t.parquet").column == "x"
    (tmp_path / "t.csv").write_text("y,y\n1,2\n")
    assert fault(tmp_path / "t.csv").column == "y"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.csv.gz", "t.npy", "t.npz"])
def test_truncated_files(tmp_path, name, share):
    """Wrong: a stream that ends early is taken for one that is complete."""
    x = np.random.default_rng(0).random((20_000, 3))
    table = pa.table({str(i): x[:, i] for i in range(3)})
    path = tmp_path / name
    writers = {
        "t.parquet": lambda: pq.write_table(table, path),
        "t.arrow": lambda: _write_stream(table, path),
        "t.csv.gz": lambda: _write_gzip(table, path),
        "t.npy": lambda: np.save(path, x),
        "t.npz": lambda: np.savez(path, x=x),
    }
    writers[name]()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    fault(path)


def test_flipped_bytes_under_page_checksums(tmp_path):
    """Wrong: page checksums are not asked for, and changed numbers pass for data."""
    path = tmp_path / "t.parquet"
    x = np.random.default_rng(0).random(50_000)
    pq.write_table(pa.table({"x": x}), path, write_page_checksum=True, use_dictionary=False)
    content = bytearray(path.read_bytes())
    for place in np.linspace(1000, len(content) - 2000, 7).astype(int):
        content[place] ^= 1
        path.write_bytes(content)
        fault(path)
        content[place] ^= 1


def test_fingerprint_follows_the_file(tmp_path):
    pq.write_table(TABLE, tmp_path / "t.parquet")
    first = open_table(tmp_path / "t.parquet").fingerprint
    assert open_table(tmp_path / "t.parquet").fingerprint == first
    os.utime(tmp_path / "t.parquet", ns=(1, 1))
    assert open_table(tmp_path / "t.parquet").fingerprint != first


def test_column_names_with_dots(tmp_path):
    """Wrong: Arrow takes "a.b" for field b of column a."""
    table = pa.table({"a.b": [1], "a": [2], "a.c": [3]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert whole(tmp_path / "t.parquet", ["a"]) == {"a": [2]}
    assert whole(tmp_path / "t.parquet", ["a.b", "a"]) == {"a.b": [1], "a": [2]}


# --- writing --------------------------------------------------------------------------


def test_write_parquet(tmp_path):
    """Wrong: the file appears before its last batch, or remains when a batch fails."""
    path, batches = tmp_path / "p.parquet", TABLE.to_batches(max_chunksize=2)

    def watched():
        for batch in batches:
            assert not path.exists()
            yield batch

    assert write_parquet(path, TABLE.schema, watched()) == 3
    assert pq.read_table(path) == TABLE
    error = pytest.raises(DataError, write_parquet, path, TABLE.schema, batches).value
    assert "already exists" in str(error)
    write_parquet(path, TABLE.schema, batches[:1], overwrite=True)
    assert pq.read_table(path).num_rows == 2

    def failing():
        yield batches[0]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_parquet(path, TABLE.schema, failing(), overwrite=True)
    assert pq.read_table(path).num_rows == 2
    assert os.listdir(tmp_path) == ["p.parquet"]
    with pytest.raises(DataError, match="no such folder"):
        write_parquet(tmp_path / "none" / "p.parquet", TABLE.schema, [])
