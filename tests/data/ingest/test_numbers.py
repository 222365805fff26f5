"""Numbers as people write them: odd cells are counted, and spoil no column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from downslope.config import TableOptions
from downslope.data.ingest.convert import convert
from downslope.data.ingest.numbers import looks_like_numbers, parse_numbers
from downslope.data.ingest.tabular import open_table
from downslope.errors import DataError

ROWS = 400


@pytest.mark.parametrize(("cell", "number"), [
    ("12", 12.0), (" -3.5 ", -3.5), ("1e-3", 1e-3), (".5", 0.5), ("+4", 4.0),
    ("1,234.5", 1234.5), ("-12,345,678", -12345678.0), ("1 234", 1234.0), ("1'234.50", 1234.5),
    ("$5", 5.0), ("-$5", -5.0), ("$1,200", 1200.0), ("€ 7.25", 7.25), ("7 %", 0.07), ("50%", 0.5),
    ("?", None), ("-", None), ("unknown", None), ("N/A", None), ("", None), ("abc", None),
    ("12,34", None), ("1,2345", None), ("3 days", None), ("1_000", None), ("inf", None),
    ("--5", None), ("12-05", None),
])  # fmt: skip
def test_a_cell_is_read_as_people_mean_it(cell, number) -> None:
    """Catches "1,2345" and "1_000" taken for numbers, and a percent that counts a hundredfold."""
    parsed = parse_numbers(pa.array([cell, "1"]))
    assert parsed.values.to_pylist() == [number, 1.0]
    assert dict(parsed.odd) == ({} if number is not None or not cell else {cell: 1})


def _cells(odd, count=1):
    return [odd] * count + [str(i % 37) for i in range(ROWS - count)]


@pytest.mark.parametrize(("cells", "is_number"), [
    (_cells("?"), True), (_cells("unknown", 150), True), (_cells("oops", 15), True),
    (_cells("$1,200"), True), ([f"{i} %" for i in range(ROWS)], True),
    (_cells("oops", 40), False),  # a tenth is no accident
    (_cells("?", 300), False),
    ([f"{i:03d}" for i in range(ROWS - 1)] + ["?"], False),  # codes
    ([str(i) for i in range(ROWS)], False),  # plain numbers that were stored as strings
    (["red", "green"] * (ROWS // 2), False), (["?"] * ROWS, False), ([""] * ROWS, False),
])  # fmt: skip
def test_a_column_of_strings_is_one_of_numbers_by_majority(cells, is_number) -> None:
    assert looks_like_numbers(pa.array(cells)) == is_number


def _write(tmp_path, cells, y=None):
    path = tmp_path / "t.csv"
    y = [str(i % 50 / 10) for i in range(len(cells))] if y is None else y
    lines = [f'"{cell}",{target}' for cell, target in zip(cells, y, strict=True)]
    path.write_text("\n".join(["x,y", *lines]) + "\n")
    return path


def _convert(path, tmp_path, **options):
    return convert(open_table(path), TableOptions(target="y", **options), tmp_path / "out")


def _values(stored):
    parts = [stored.train.read(0, stored.num_train)]
    parts += [stored.held_out.read(0, stored.num_held_out)] if stored.held_out else []
    return np.concatenate(parts)


@pytest.mark.parametrize("odd", ["?", "-", "unknown", "oops"])
def test_one_odd_cell_leaves_the_numbers_and_is_named(tmp_path, odd) -> None:
    """Catches a column that turns into categories in silence."""
    stored = _convert(_write(tmp_path, _cells(odd)), tmp_path)
    (column,) = stored.encoding.columns
    assert column.kind == "number"
    rows = _values(stored)
    assert len(np.unique(rows[:, 0])) == 38  # 37 numbers, and the mean where there is none
    (note,) = stored.notes
    assert f"1 cell is no number ({odd!r}) of 400" in note and "--categorical x" in note


def test_an_odd_cell_far_down_is_counted_too(tmp_path, monkeypatch) -> None:
    """A later block than the one that types come from; catches an error, or a lost count."""
    monkeypatch.setattr("downslope.data.ingest.delimited._BLOCK_BYTES", 1 << 12)
    cells = [str(i % 37) for i in range(4000)]
    cells[3000] = "oops"
    stored = _convert(_write(tmp_path, cells), tmp_path)
    assert stored.encoding.columns[0].kind == "number"
    assert "1 cell is no number ('oops') of 4,000" in stored.notes[0]


def test_an_odd_cell_of_the_target_is_refused(tmp_path, monkeypatch) -> None:
    """Catches a row that is dropped in silence because its target does not parse."""
    monkeypatch.setattr("downslope.data.ingest.delimited._BLOCK_BYTES", 1 << 12)
    y = [str(i % 50 / 10) for i in range(4000)]
    y[3000] = "oops"
    with pytest.raises(DataError, match=r"'oops' where other values are numbers"):
        _convert(_write(tmp_path, ["1", "2"] * 2000, y), tmp_path)


def test_a_column_is_numbers_or_categories_on_request(tmp_path) -> None:
    path = _write(tmp_path, _cells("oops", 100))
    assert open_table(path).types["x"] == pa.string()
    stored = _convert(path, tmp_path, number=("x",))
    assert stored.encoding.columns[0].kind == "number" and "100 cells" in stored.notes[0]
    again = convert(
        open_table(_write(tmp_path, _cells("?"))),
        TableOptions(target="y", categorical=("x",)), tmp_path / "again",
    )  # fmt: skip
    assert again.encoding.columns[0].kind == "category" and not again.notes


def test_the_same_cells_count_as_missing_when_predicting(tmp_path) -> None:
    """Catches a model of numbers that refuses the table it was trained on."""
    stored = _convert(_write(tmp_path, _cells("$1,200", 3)), tmp_path)
    encode = stored.encoding.encode
    rows, unseen = encode(pa.record_batch({"x": ["$1,200", "?", "5"]}))
    plain, _ = encode(pa.record_batch({"x": [1200.0, None, 5.0]}))
    np.testing.assert_array_equal(rows, plain)
    assert unseen.missing == {"x": 1}
    with pytest.raises(DataError, match="'red' where training had numbers"):
        encode(pa.record_batch({"x": ["red", "green", "5"]}))
