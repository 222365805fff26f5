"""Conversion of whole tables: every row once, well mixed, and the same as when predicting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from downslope.config import TableOptions
from downslope.data.ingest import buckets as buckets_module
from downslope.data.ingest.buckets import Buckets
from downslope.data.ingest.convert import convert, transposed
from downslope.data.ingest.split import row_keys
from downslope.data.ingest.tabular import open_table
from downslope.errors import CapacityError, DataError, UsageError


def converted(table, tmp_path, name="t", **options):
    """The table written to Parquet and converted."""
    path = tmp_path / f"{name}.parquet"
    if isinstance(table, dict):
        table = pa.table(table)
    pq.write_table(table, path, row_group_size=1000)
    options.setdefault("target", "y")
    return convert(open_table(path), TableOptions(**options), tmp_path / f"{name}.out")


def fault(table, tmp_path, kind=DataError, **options):
    """The error of converting; one line, and nothing left behind."""
    with pytest.raises(kind) as caught:
        converted(table, tmp_path, "bad", **options)
    assert "\n" not in str(caught.value)
    assert [p for p in os.listdir(tmp_path) if "bad.parquet" not in p] == []
    return caught.value


def all_rows(stored):
    held_out = stored.held_out
    parts = [stored.train.read(0, stored.num_train)]
    parts += [held_out.read(0, held_out.num_rows)] if held_out is not None else []
    return np.concatenate(parts)


def numbered(count):
    """Rows that can be told apart by weight and by target."""
    return {"x": np.arange(count) % 7.0, "w": np.arange(1.0, count + 1), "y": np.arange(count) / 2}


def ids_of(rows, count):
    """Which row of the table each stored row is, from its weight."""
    weights = np.arange(1.0, count + 1)
    first = rows[:, -1].astype(np.float64)
    return np.rint(first * (weights.sum() / count) / (first.sum() / len(rows))).astype(int) - 1


@pytest.fixture
def small_buckets(monkeypatch):
    """Many buckets, and rows on the disk, for tables of a few thousand rows."""
    monkeypatch.setattr("downslope.data.ingest.convert.BUCKET_BYTES", 4096)
    monkeypatch.setattr(buckets_module, "BUDGET_BYTES", 20_000)
    monkeypatch.setattr("downslope.data.ingest.tabular.MAX_BATCH_ROWS", 500)


# --- which rows, in which order -------------------------------------------------------


@pytest.mark.parametrize("count", [10, 501, 5000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.7])
def test_every_row_lands_once(tmp_path, small_buckets, count, share):
    """Wrong: the last rows of a bucket, batch or spill are dropped or written twice."""
    stored = converted(numbered(count), tmp_path, weight="w", validation=share)
    rows = all_rows(stored)
    assert stored.num_train + stored.num_held_out == count == len(rows)
    assert sorted(ids_of(rows, count)) == list(range(count))
    target, order = stored.encoding.target, ids_of(rows, count)
    np.testing.assert_allclose(rows[:, -2] * target.scale + target.mean, order / 2, atol=1e-3)
    assert stored.num_train > 0 and (stored.num_held_out > 0) == (share > 0)
    if count == 5000:
        assert abs(stored.num_held_out - share * count) < 4 * np.sqrt(count) * 0.5
        held_out = ids_of(rows, count)[stored.num_train :]
        assert (np.diff(held_out) > 0).all()  # held-out rows stay in the table's order


def test_order_is_a_function_of_the_seed(tmp_path, small_buckets):
    """Wrong: threads or the time decide; or each seed permutes within the same buckets."""
    orders = [
        ids_of(converted(numbered(4000), tmp_path, f"s{i}", weight="w", seed=seed,
                         validation=0.0).train.read(0, 4000), 4000)
        for i, seed in enumerate([0, 0, 1])
    ]  # fmt: skip
    assert (orders[0] == orders[1]).all()
    assert np.mean(orders[0] == orders[2]) < 0.01
    # Fixed by neither seed: how far rows move, and whether neighbours stay neighbours.
    for order in orders[1:]:
        assert abs(np.corrcoef(order, np.arange(4000))[0, 1]) < 0.06
        assert np.mean(np.abs(np.diff(order)) == 1) < 0.005
        # The share of early rows in each tenth is binomial about a half.
        tenths = (order < 2000).reshape(10, 400).mean(1)
        assert np.abs(tenths - 0.5).max() < 4 * 0.5 / 20


def test_held_out_rows_are_a_pure_function():
    """Wrong: keys depend on the batches; seeds are added to the row number."""
    whole = row_keys(0, 1000, 5)
    np.testing.assert_array_equal(np.append(row_keys(0, 300, 5), row_keys(300, 700, 5)),
                                  whole)  # fmt: skip
    assert ((whole >= 0) & (whole < 1)).all()
    for share in (0.1, 0.5):
        assert abs((row_keys(0, 100_000, 6) < share).mean() - share) < 0.006
    lagged = [np.corrcoef(row_keys(0, 1000, seed)[1:], whole[:-1])[0, 1] for seed in (5, 6)]
    assert np.abs(lagged).max() < 0.13


def test_sorted_file_is_well_mixed(tmp_path, small_buckets):
    """Wrong: rows are shuffled within windows of the file only."""
    count, size = 40_000, 100
    y = np.arange(count) >= count // 2
    table = {"x": np.arange(count) % 11.0, "y": y}
    stored = converted(table, tmp_path, validation=0.0)
    labels = stored.train.read(0, count)[:, -2]
    means = labels.reshape(-1, size).mean(1)
    assert 0.8 < means.var() / (0.25 / size) < 1.25
    blocks = labels.reshape(-1, 4000).mean(1)
    assert 0.2 < blocks.var() / (0.25 / 4000) < 2.5


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    num_buckets=st.integers(1, 5), budget=st.integers(0, 600),
)  # fmt: skip
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_buckets_give_back_what_they_got(tmp_path, counts, num_buckets, budget):
    """Wrong: pieces in memory come before those on the disk."""
    rng = np.random.default_rng(0)
    expected: list[list[float]] = [[] for _ in range(num_buckets)]
    kept = buckets_module.BUDGET_BYTES
    buckets_module.BUDGET_BYTES = budget
    buckets = Buckets(tmp_path / f"b{rng.random()}", 2, num_buckets)
    value = 0
    try:
        for count in counts:
            chosen = np.sort(rng.integers(num_buckets, size=count))
            rows = np.arange(value, value + 2 * count, dtype=np.float32).reshape(count, 2)
            value += 2 * count
            for bucket, row in zip(chosen, rows, strict=True):
                expected[bucket].append(float(row[0]))
            buckets.add(rows, np.bincount(chosen, minlength=num_buckets))
        for bucket, numbers in enumerate(expected):
            places = rng.permutation(len(numbers))
            found = buckets.take(bucket, places)
            assert found[places, 0].tolist() == numbers
            assert (found[:, 1] == found[:, 0] + 1).all()
    finally:
        buckets.close()
        buckets_module.BUDGET_BYTES = kept
    assert os.listdir(tmp_path) == []


def test_transposed():
    x = np.arange(3 * 2500, dtype=np.float32).reshape(3, 2500)
    np.testing.assert_array_equal(transposed(x), x.T)
    assert transposed(x).flags.c_contiguous and transposed(x[:, :0]).shape == (0, 3)


# --- what the rows hold ---------------------------------------------------------------


def mixed_table(count=3000):
    rng = np.random.default_rng(1)
    words = np.array(["good", "bad", "ugly", "fine", "great", "poor"])
    g = np.where(rng.random(count) < 0.1, np.nan, rng.normal(100, 20, count))
    return pa.table({
        "id": pa.array(np.arange(count) + 10**18),
        "f": rng.normal(5, 2, count).astype(np.float32),
        "g": pa.array(g, from_pandas=True),
        "flag": pa.array(rng.random(count) < 0.2),
        "money": pa.array(rng.gamma(2, 10, count)).cast(pa.decimal128(12, 2), safe=False),
        "c": pa.array(rng.choice(["red", "green", None], count).tolist()),
        "d": pa.array(rng.choice(["a", "b"], count)).dictionary_encode(),
        "zip": pa.array(rng.integers(0, 40, count)),
        "when": pa.array(rng.integers(15e8, 17e8, count), pa.timestamp("s", "Europe/Paris")),
        "words": [" ".join(rng.choice(words, rng.integers(3, 9))) for _ in range(count)],
        "v": pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=2 * count)), 2),
        "constant": np.ones(count), "empty": pa.nulls(count),
        "w": rng.random(count), "y": rng.choice(["no", "yes"], count),
    })  # fmt: skip


def test_statistics_are_numpys_on_the_training_rows(tmp_path, small_buckets):
    """Wrong: held-out rows enter means, scales or vocabularies."""
    table = mixed_table()
    stored = converted(table, tmp_path, weight="w", categorical=("zip",), validation=0.3)
    train = row_keys(0, len(table), 0) >= 0.3
    assert stored.num_train == train.sum()
    columns = {c.name: c for c in stored.encoding.columns}
    for name in ("f", "g", "flag", "money", "v[1]"):
        if name == "v[1]":
            x = np.array(table["v"].to_pylist())[:, 1]
        else:
            x = table[name].cast(pa.float64()).to_numpy()
        x, column = x[train], columns[name]
        x = x[~np.isnan(x)]
        mean = column.center + column.mean * 2.0**column.exponent
        np.testing.assert_allclose(mean, x.mean(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(column.scale * 2.0**column.exponent, x.std(), rtol=1e-5)
    exact = np.flatnonzero(train)
    assert columns["id"].center - 10**18 + columns["id"].mean == pytest.approx(exact.mean(), 1e-6)
    assert columns["g"].indicator and not columns["f"].indicator
    zips = np.array(table["zip"])[train]
    values, counts = np.unique(zips, return_counts=True)
    ranked = sorted(zip(-counts, values.astype(str), strict=True))
    assert columns["zip"].values == tuple(value for _, value in ranked)
    rows = stored.train.read(0, stored.num_train)
    np.testing.assert_allclose(rows[:, -1].mean(), 1, rtol=1e-5)
    names = stored.encoding.feature_names
    for j in (names.index("f"), names.index("id"), names.index("when elapsed")):
        np.testing.assert_allclose([rows[:, j].mean(), rows[:, j].std()], [0, 1], atol=1e-5)
    assert stored.encoding.ignored == ("constant", "empty", "w")
    assert any("'constant' is constant" in note for note in stored.notes)


@pytest.mark.parametrize("limit", [1 << 16, 3])
def test_predicting_gives_the_same_bits(tmp_path, small_buckets, monkeypatch, limit):
    """Wrong: the two paths round in another order, or number categories differently."""
    monkeypatch.setattr("downslope.data.ingest.learn.MAX_VALUES", limit)
    table = mixed_table()
    stored = converted(table, tmp_path, weight="w", categorical=("zip",))
    encoding, source = stored.encoding, open_table(tmp_path / "t.parquet")
    encoding.check_columns(source)
    parts = [encoding.encode(batch) for batch in source.batches(encoding.names)]
    predicted = np.concatenate([rows for rows, _ in parts])
    held_out = row_keys(0, len(table), 0) < 0.1
    np.testing.assert_array_equal(
        predicted[held_out], stored.held_out.read(0, stored.num_held_out)[:, :-2]
    )
    train = stored.train.read(0, stored.num_train)[:, :-2]
    by_id = np.argsort(train[:, 0], kind="stable")  # "id" rises along the table
    np.testing.assert_array_equal(predicted[~held_out], train[by_id])


def test_values_seen_in_held_out_rows_only(tmp_path):
    """Wrong: a held-out category gets a code; a held-out null makes an indicator."""
    count = 400
    held_out = row_keys(0, count, 0) < 0.1
    table = {
        "c": np.where(held_out, "late", np.where(np.arange(count) % 2, "a", "b")),
        "x": pa.array(np.arange(float(count)), mask=held_out),
        "y": np.arange(count) % 3,
    }
    stored = converted(table, tmp_path)
    category = next(c for c in stored.encoding.columns if c.name == "c")
    assert category.values in (("a", "b"), ("b", "a"))
    rows = stored.held_out.read(0, stored.num_held_out)
    assert (rows[:, 1] == 0).all() and (rows[:, 0] == 0).all()
    assert any("held-out rows only" in note for note in stored.notes)
    _, unseen = stored.encoding.encode(pa.record_batch({k: pa.array(v) for k, v in table.items()}))
    assert unseen.categories["c"] == unseen.missing["x"] == held_out.sum()


def test_rows_without_a_target_are_left_out(tmp_path):
    """Wrong: held-out rows are chosen before, and none has a target."""
    y = pa.array([None] * 50 + [1.5, 2.5, 3.5] + [None] * 50)
    for i, share in enumerate((0.001, 0.5)):
        stored = converted({"x": np.arange(103), "y": y}, tmp_path, str(i), validation=share)
        assert {stored.num_train, stored.num_held_out} == {1, 2}
        assert any("100 rows" in note for note in stored.notes)


def test_types_that_change_between_files(tmp_path):
    (tmp_path / "d").mkdir()
    for i, x in enumerate([pa.nulls(3), pa.array([1, 2, 2**40]), pa.array([0.5, 1, None])]):
        pq.write_table(pa.table({"x": x, "y": [0, 1, 1]}), tmp_path / "d" / f"{i}.parquet")
    stored = convert(open_table(tmp_path / "d"), TableOptions(target="y", validation=0),
                     tmp_path / "out")  # fmt: skip
    assert stored.num_train == 9 and stored.encoding.columns[0].indicator


# --- what cannot be used --------------------------------------------------------------

X = np.arange(6.0)


@pytest.mark.parametrize(
    ("columns", "options", "column", "row", "words"),
    [
        ({"x": [1, 2, 3, np.inf, 5, 6], "y": X}, {}, "x", 4, "infinite"),
        ({"x": X, "y": pa.nulls(6)}, {}, "y", None, "no value"),
        ({"x": X, "y": pa.nulls(6, pa.string())}, {}, "y", None, "no value"),
        ({"x": X, "y": ["a"] * 6}, {}, "y", None, "one class"),
        ({"x": X, "y": [2.5] * 6}, {}, "y", None, "constant"),
        ({"x": X, "y": [1, 2, 3, 4, np.inf, 5.5]}, {}, "y", 5, "infinite"),
        ({"x": X, "y": X}, {"target": "z"}, "z", None, "no such column"),
        ({"price": X, "y": X}, {"ignore": ("prise",)}, "prise", None, "did you mean 'price'"),
        ({"x": X, "y": X, "w": [1, 1, -1, 1, 1, 1]}, {"weight": "w"}, "w", 3, "-1"),
        ({"x": X, "y": X, "w": [0.0] * 6}, {"weight": "w"}, "w", None, "zero"),
        ({"x": [b"a"] * 6, "y": X}, {}, "x", None, "--ignore x"),
        ({"x": X, "y": X}, {"text": ("x",)}, "x", None, "as text"),
        ({"x": [1.0] * 6, "y": X}, {}, None, None, "no column is left"),
        ({"y": X}, {}, None, None, "no column is left"),
        ({"x": [[1], [1, 2]] * 3, "y": X}, {}, "x", None, "list"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, columns, options, column, row, words):
    """Wrong: a bare Arrow error, no place, rows from 0, or a half-written folder."""
    error = fault(columns, tmp_path, **options)
    assert (error.column, error.row) == (column, row)
    assert words in str(error) and "bad.parquet" in str(error) and error.remedy


def test_options_that_contradict_each_other(tmp_path):
    fault({"x": X, "y": X}, tmp_path, UsageError, target=None)
    error = fault({"x": X, "y": X}, tmp_path, UsageError, ignore=("x",), text=("x",))
    assert "'x'" in str(error)
    fault({"x": X, "y": X}, tmp_path, UsageError, ignore=("y",))


def test_row_of_an_infinite_value_far_into_the_table(tmp_path, small_buckets):
    """Wrong: the row is counted within its batch."""
    x = np.zeros(3000)
    x[2345] = -np.inf
    assert fault({"x": x, "y": np.arange(3000.0)}, tmp_path).row == 2346


def test_an_error_in_the_middle_of_a_file(tmp_path):
    (tmp_path / "bad.parquet.csv").write_text("x,y\n" + "1,2\n" * 200_000 + "1\n")
    with pytest.raises(DataError) as caught:
        convert(open_table(tmp_path / "bad.parquet.csv"), TableOptions(target="y"),
                tmp_path / "out")  # fmt: skip
    assert caught.value.row == 200_001
    assert os.listdir(tmp_path) == ["bad.parquet.csv"]


# --- what may happen to the machine ---------------------------------------------------


def _run(tmp_path, body):
    path = tmp_path / "t.parquet"
    rng = np.random.default_rng(0)
    if not path.exists():
        pq.write_table(pa.table({"x": rng.random(60_000), "y": rng.random(60_000)}), path)
    code = f"""
        import resource, signal, sys, time
        from downslope.config import TableOptions
        from downslope.data.ingest.convert import convert
        from downslope.data.ingest.tabular import open_table
        from downslope.data.output import write_parquet
        from downslope.errors import CapacityError
        table, options = open_table({str(path)!r}), TableOptions(target="y")
        folder = {str(tmp_path / "out")!r}
    """
    code = textwrap.dedent(code) + textwrap.dedent(body)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)


def _close(process):
    assert process.stdout is not None
    process.stdout.close()
    return process.wait(60)


@pytest.mark.parametrize(
    "what",
    [
        "convert(table, options, folder)",
        "write_parquet(folder, next(table.batches()).schema, table.batches())",
    ],
)
def test_full_disk(tmp_path, what):
    """Wrong: half a file is left, or the error is an OSError with a traceback."""
    process = _run(tmp_path, f"""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            {what}
        except CapacityError as error:
            sys.exit(0 if "full" in str(error) else 1)
        sys.exit(2)
    """)  # fmt: skip
    assert _close(process) == 0
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_killed_conversion_is_cleared_away(tmp_path):
    """Wrong: the folder is visible before it is whole; what a dead process left stays for ever."""
    process = _run(tmp_path, """
        import downslope.data.ingest.convert as module
        def halt(*_):
            print("halfway", flush=True)
            time.sleep(60)
        module.write_json = halt
        convert(table, options, folder)
    """)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"halfway\n"
    process.send_signal(signal.SIGKILL)
    _close(process)
    assert not (tmp_path / "out").exists()
    (left,) = (p for p in os.listdir(tmp_path) if p != "t.parquet")
    assert (tmp_path / left / "train.rows").exists()
    stored = convert(open_table(tmp_path / "t.parquet"), TableOptions(target="y"), tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["out", "t.parquet"]
    assert stored.num_train + stored.num_held_out == 60_000


def test_full_disk_is_told_from_other_faults(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("downslope.data.ingest.buckets.os.pwrite", refuse)
    fault({"x": X, "y": X}, tmp_path, CapacityError)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(tmp_path, small_buckets, monkeypatch):
    """Wrong: rows on the disk stay in memory too (peak of Python's and NumPy's allocations)."""
    monkeypatch.setattr("downslope.data.ingest.convert.BUCKET_BYTES", 1 << 16)
    monkeypatch.setattr(buckets_module, "BUDGET_BYTES", 1 << 18)
    peaks = []
    for count in (50_000, 200_000):
        x = np.random.default_rng(0).random(count)
        pq.write_table(pa.table({"x": x, "y": x}), tmp_path / "t.parquet")
        table = open_table(tmp_path / "t.parquet")
        tracemalloc.start()
        convert(table, TableOptions(target="y", validation=0.5), tmp_path / f"o{count}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_conversion_is_quick_enough_for_small_tables(tmp_path):
    start = time.perf_counter()
    converted(numbered(100), tmp_path)
    assert time.perf_counter() - start < 2
