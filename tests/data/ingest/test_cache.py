"""Converted tables are found again, and made again when anything that matters has changed."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from downslope.config import TableOptions
from downslope.data.ingest import cache as cache_module
from downslope.data.ingest.cache import cache_folder, cached
from downslope.data.ingest.tabular import open_table
from downslope.errors import DataError


@pytest.fixture
def table_path(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    pq.write_table(pa.table({"x": np.arange(50.0), "y": np.arange(50) % 2}), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


@pytest.fixture
def conversions(monkeypatch):
    """How many conversions were run."""
    made, convert = [], cache_module.convert

    def counted(*arguments, **options):
        made.append(arguments)
        return convert(*arguments, **options)

    monkeypatch.setattr(cache_module, "convert", counted)
    return made


def test_reused_until_table_or_options_change(table_path, conversions):
    """Wrong: the key leaves out an option, the seed or the file's time of change."""
    options = TableOptions(target="y")
    first = cached(open_table(table_path), options)
    again = cached(open_table(table_path), TableOptions(target="y"))
    assert len(conversions) == 1 and first.folder == again.folder
    assert first.fingerprint == again.fingerprint
    assert first.folder.parent == cache_folder() / "tables"
    cached(open_table(table_path), TableOptions(target="y", seed=1))
    cached(open_table(table_path), TableOptions(target="y", validation=0.2))
    assert len(conversions) == 3
    os.utime(table_path, ns=(10**18, 10**18))
    assert cached(open_table(table_path), options).fingerprint != first.fingerprint
    assert len(conversions) == 4


def test_damaged_cache_is_made_again(table_path, conversions):
    """Wrong: the damaged folder blocks the rename of the new one."""
    options = TableOptions(target="y")
    folder = cached(open_table(table_path), options).folder
    with open(folder / "train.rows", "r+b") as file:
        file.truncate(8)
    stored = cached(open_table(table_path), options)
    assert len(conversions) == 2 and "converted again" in stored.notes[-1]
    assert os.listdir(folder.parent) == [folder.name]
    assert "converted again" not in " ".join(cached(open_table(table_path), options).notes)


def test_another_process_was_first(table_path, monkeypatch):
    """Wrong: the loser of the race fails, though the table it wants is there."""
    convert = cache_module.convert

    def overtaken(*arguments, **options):
        convert(*arguments, **options)
        return convert(*arguments, **options)  # the second finds the folder there

    monkeypatch.setattr(cache_module, "convert", overtaken)
    assert cached(open_table(table_path), TableOptions(target="y")).num_train > 0


def test_unusable_tables_leave_nothing(table_path):
    with pytest.raises(DataError, match="no such column"):
        cached(open_table(table_path), TableOptions(target="z"))
    assert os.listdir(cache_folder() / "tables") == []


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("DOWNSLOPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "downslope"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().parts[-2:] == (".cache", "downslope")
