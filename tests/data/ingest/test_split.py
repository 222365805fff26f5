"""Which rows are held out: whole groups, or the latest ones."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from downslope.config import TableOptions
from downslope.data.ingest.convert import convert
from downslope.data.ingest.tabular import open_table
from downslope.errors import DataError, UsageError

ROWS = 2000


def _convert(columns, tmp_path, **options):
    table = open_table(pa.table({**columns, "y": np.arange(ROWS) / 7}))
    return convert(table, TableOptions(target="y", **options), tmp_path / "out")


def _targets(part, stored):
    batch = part.unpack(part.read(0, part.num_rows))
    y = batch.y.astype(float) * stored.encoding.target.scale + stored.encoding.target.mean
    return np.round(y * 7).astype(int)


@pytest.mark.parametrize("kind", [str, int])
def test_rows_of_a_group_stay_together(tmp_path, monkeypatch, kind) -> None:
    """Catches a split by rows, one that changes between batches, and the group as a feature."""
    monkeypatch.setattr("downslope.data.ingest.tabular.MAX_BATCH_ROWS", 300)
    rng = np.random.default_rng(0)
    group = rng.integers(0, 200, ROWS)
    columns = {"x": rng.normal(size=ROWS), "who": [kind(g) for g in group]}
    stored = _convert(columns, tmp_path, group="who")
    train, held = (_targets(part, stored) for part in (stored.train, stored.held_out))
    assert len(train) + len(held) == ROWS
    assert not set(group[train]) & set(group[held])
    assert 0.03 < len(held) / ROWS < 0.2
    assert stored.encoding.names == ("x",)


def test_two_groups_are_one_for_each_part(tmp_path) -> None:
    columns = {"x": np.arange(ROWS) % 9, "who": np.where(np.arange(ROWS) % 5, "a", "b")}
    stored = _convert(columns, tmp_path, group="who")
    assert {stored.num_train, stored.num_held_out} == {400, 1600}


def test_rows_without_a_group_stand_for_themselves(tmp_path) -> None:
    columns = {"x": np.arange(ROWS) % 9, "who": [None] * (ROWS - 2) + ["a", "a"]}
    stored = _convert(columns, tmp_path, group="who")
    assert 0.07 < stored.num_held_out / ROWS < 0.13


@pytest.mark.parametrize("kind", ["number", "date", "timestamp"])
def test_the_latest_rows_are_held_out(tmp_path, kind) -> None:
    """Catches the earliest ones, and rows of one moment on both sides."""
    day = np.random.default_rng(1).permutation(np.arange(ROWS) // 4)  # four rows a day
    values = day
    if kind != "number":
        begin = datetime.date(2020, 1, 1) if kind == "date" else datetime.datetime(2020, 1, 1, 3)
        values = [begin + datetime.timedelta(days=int(d)) for d in day]
    columns = {"x": np.arange(ROWS) % 9, "when": values}
    stored = _convert(columns, tmp_path, time_column="when", validation=0.2)
    train, held = (_targets(part, stored) for part in (stored.train, stored.held_out))
    assert day[train].max() < day[held].min()
    assert len(held) / ROWS == pytest.approx(0.2, abs=0.01)
    assert "when" in stored.encoding.names


def test_a_last_moment_with_many_rows_is_held_out_whole(tmp_path) -> None:
    columns = {"x": np.arange(ROWS) % 9, "when": np.arange(ROWS) // 1000}
    stored = _convert(columns, tmp_path, time_column="when")
    assert stored.num_held_out == 1000


def test_wrong_columns_are_named(tmp_path) -> None:
    columns = {"x": np.arange(ROWS) % 9, "when": ["a"] * ROWS, "now": np.ones(ROWS)}
    with pytest.raises(DataError, match="no times"):
        _convert(columns, tmp_path, time_column="when")
    with pytest.raises(DataError, match="all rows are of one moment"):
        _convert(columns, tmp_path, time_column="now")
    with pytest.raises(DataError, match="no such column"):
        _convert(columns, tmp_path, time_column="wen")
    with pytest.raises(DataError, match="no such column"):
        _convert(columns, tmp_path, group="who")
    with pytest.raises(UsageError, match="exclude each other"):
        TableOptions(target="y", group="x", time_column="when")
