"""What columns become: against NumPy's own statistics, at the edges of every type."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from downslope.data.ingest.columns import Center, center_of, centered, phases
from downslope.data.ingest.encoding import Encoding, Lookup
from downslope.data.ingest.learn import (
    CategoryLearner,
    NumericLearner,
    Placement,
    Vocabulary,
    looks_like_text,
)
from downslope.data.ingest.moments import Moments
from downslope.data.ingest.records import CategoryColumn
from downslope.data.ingest.target import TargetLearner, WeightLearner
from downslope.data.ingest.words import hash_strings, hashed_words
from downslope.errors import DataError, MismatchError

TYPES = [pa.int8(), pa.uint8(), pa.int16(), pa.uint32(), pa.int64(), pa.uint64(),
         pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.decimal128(9, 2),
         pa.decimal256(40, 2)]  # fmt: skip


def in_order(count, first_row=1, num_train=None):
    num_train = count if num_train is None else num_train
    return Placement(np.arange(count), num_train, first_row)


def learned(learner, *arrays):
    """The raw vectors of all batches, and what the column became."""
    raw = []
    for array in arrays:
        out = np.empty((learner.num_raw, len(array)), np.float32)
        learner.read(array, in_order(len(array)), out)
        raw.append(out)
    notes: list[str] = []
    return np.concatenate(raw, axis=1), learner.result(0, notes), notes


# --- numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_numbers_of_every_type(dtype):
    """Wrong: values behind nulls (anything may lie there) are used as numbers."""
    values = [1, None, 0, 1, 1, 0, None]
    make = decimal.Decimal if pa.types.is_decimal(dtype) else bool if dtype == pa.bool_() else float
    if pa.types.is_integer(dtype):
        make = int
    array = pa.array([None if v is None else make(v) for v in [0, *values, 1]], dtype)
    found = centered(array.slice(1, len(values)), Center(1, 0), "x")  # a slice starts inside bytes
    np.testing.assert_array_equal(found, [0, np.nan, -1, 0, 0, -1, np.nan])


@pytest.mark.parametrize("dtype", [pa.int64(), pa.uint64()], ids=str)
@given(base=st.integers(0, 2**63 - 2000), steps=st.lists(st.integers(0, 1999), min_size=1))
def test_large_integers_keep_their_last_digits(dtype, base, steps):
    """Wrong: conversion to float64 before centring rounds 2**62 + 1 to 2**62."""
    array = pa.array([base + step for step in steps], dtype)
    center = center_of(array)
    assert center is not None and base <= center.value < base + 2000
    expected = np.array([base + step - center.value for step in steps], np.float64)
    np.testing.assert_array_equal(centered(array, center, "x"), expected)


def test_full_range_of_integers():
    """Wrong: differences in int64 wrap around."""
    for dtype, low, high in [(pa.int64(), -(2**63), 2**63 - 1), (pa.uint64(), 0, 2**64 - 1)]:
        array = pa.array([low, high, None], dtype)
        center = center_of(array)
        assert center is not None
        found = centered(array, center, "x") * 2.0**center.exponent
        np.testing.assert_allclose(found[1] - found[0], 2.0**64, rtol=1e-6)
        assert abs(found[0] + found[1]) < 2.0**42


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=30))
def test_floats_of_any_size(values):
    """Wrong: squares of 1e200 overflow, or 1e-300 vanishes in float32."""
    array = pa.array(values, pa.float64())
    center = center_of(array)
    x = np.array(values)
    if center is None:
        assert np.isnan(x).all()
        return
    found = centered(array, center, "x")
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
    # In units of the spread, so that nothing overflows here.
    unit = np.nanmax(np.abs(x / 2 - center.value / 2)) or 1.0
    expected = (x / 2 - center.value / 2) / unit
    back = np.ldexp(found.astype(np.float64) / 2, center.exponent) / unit
    assert np.nanmax(np.abs(back - expected)) <= max(2**-23, 1e-44 / unit)


def test_infinite_value_is_named():
    """Wrong: infinity behind a null counts, or rows count from 0 or from the batch."""
    masked = pa.array(np.array([1.0, np.inf, 2.0]), mask=np.array([False, True, False]))
    assert np.isnan(centered(masked, Center(), "x")[1])
    bad = pa.array([1.0, None, np.nan, -np.inf])
    error = pytest.raises(DataError, centered, bad, Center(), "x", 101).value
    assert (error.column, error.row) == ("x", 104) and "infinite" in str(error)
    far = pytest.raises(DataError, centered, pa.array([1.0, 1e300]), Center(), "x").value
    assert far.row == 2 and "1e+300" in str(far)


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), max_size=40), min_size=1, max_size=5),
    st.sampled_from([0.0, 1e4]),
)
def test_moments_are_numpys(parts, shift):
    """Wrong: sums of squares are subtracted, or parts are merged with equal weight."""
    moments = Moments()
    for part in parts:
        moments.add(np.array([*part, np.nan]) + shift)
    x = np.array([v for part in parts for v in part]) + shift
    assert moments.count == len(x)
    if len(x):
        assert moments.constant == (x.min() == x.max())
        np.testing.assert_allclose(moments.mean, x.mean(), rtol=1e-9, atol=1e-9)
        expected = x.std() or 1.0
        np.testing.assert_allclose(moments.scale, expected, rtol=1e-6, atol=1e-7)


def test_moments_in_float32_are_exact_enough():
    x = np.random.default_rng(0).normal(3, 1, 200_000).astype(np.float32)
    moments = Moments()
    moments.add(x)
    np.testing.assert_allclose(moments.mean, x.mean(dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(moments.scale, x.std(dtype=np.float64), rtol=1e-6)


def test_number_column_whose_first_batch_is_null():
    """Wrong: a center is taken from a batch without values."""
    values = [5.0, None, 7.0, 9.0]
    raw, found, _ = learned(
        NumericLearner("x", pa.float64(), "number"), pa.nulls(2), pa.array(values)
    )
    column = found.column
    assert column.indicator and np.isnan(raw[0, [0, 1, 3]]).all()
    assert column.center + column.mean == pytest.approx(7) and column.scale == pytest.approx(
        np.std([5, 7, 9])
    )


@pytest.mark.parametrize("values", [[3.0, 3.0], [None, None], [0.1, 0.1, 0.1], [3.0, None]])
def test_number_columns_without_information(values):
    """Wrong: rounding gives a constant a spread of 1e-17, and 1e17 as its inverse."""
    _, found, notes = learned(
        NumericLearner("x", pa.float64(), "number"), pa.array(values, pa.float64())
    )
    assert found is None and "'x'" in notes[0] and "left out" in notes[0]


# --- dates ----------------------------------------------------------------------------


def test_phases_of_dates():
    """Wrong: floor division by truncation before 1970; the week off by some days; UTC hours."""
    when = [datetime.datetime(1969, 12, 29), datetime.datetime(2024, 7, 1, 6), None]
    array = pa.array(when, pa.timestamp("us"))
    year_sin, year_cos, week_sin, week_cos, day_sin, day_cos = phases(
        array, "timestamp", "us", None
    )
    np.testing.assert_allclose(week_sin[:2], [0, math.sin(2 * math.pi / 28)], atol=1e-6)
    np.testing.assert_allclose(week_cos[0], 1, atol=1e-6)  # 1969-12-29 was a Monday
    np.testing.assert_allclose(day_sin[:2], [0, 1], atol=1e-6)
    np.testing.assert_allclose(day_cos[:2], [1, 0], atol=1e-6)
    assert year_cos[0] > 0.99 and year_cos[1] < -0.99 and abs(year_sin[0]) < 0.1
    assert all(np.isnan(v[2]) for v in (year_sin, week_cos, day_sin))


@pytest.mark.parametrize(
    "dtype",
    [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns", tz="Asia/Tokyo"),
     pa.time32("s"), pa.time64("ns"), pa.duration("ms")],
    ids=str,
)  # fmt: skip
def test_time_columns(dtype):
    """Wrong: one unit for all; a time zone's day that starts at midnight in UTC."""
    days = pa.array([0, 10, None, 400], pa.int64())
    if pa.types.is_date(dtype) or pa.types.is_timestamp(dtype):
        array = pc.multiply(days, 86400).cast(pa.timestamp("s")).cast(dtype)
    elif pa.types.is_time(dtype):
        wide = pa.time32("s") if dtype == pa.time32("s") else pa.time64("us")
        array = days.cast(pa.int32() if dtype == pa.time32("s") else pa.int64()).cast(wide)
        array = array.cast(dtype)
    else:
        array = days.cast(dtype)
    learner = NumericLearner("t", dtype, _kind(dtype))
    raw, found, _ = learned(learner, array)
    assert found.column.indicator and found.kept[0] == 0
    known = raw[0, [0, 1, 3]].astype(np.float64)
    scaled = (known - found.column.mean) / found.column.scale
    expected = np.array([0, 10, 400.0])
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
    if dtype == pa.timestamp("ns", tz="Asia/Tokyo"):  # midnight in UTC is nine in the morning
        np.testing.assert_allclose(raw[5, [0, 1, 3]], math.sin(2 * math.pi * 9 / 24), atol=1e-6)
    if pa.types.is_date(dtype):  # no time of day
        assert "day sin" not in found.column.parts


def _kind(dtype):
    if pa.types.is_timestamp(dtype) or pa.types.is_date(dtype):
        return "timestamp"
    return "time" if pa.types.is_time(dtype) else "duration"


# --- categories and text --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_categories_by_falling_frequency(dtype):
    """Wrong: codes in order of first sight, which depends on the order of the rows."""
    words = ["b", None, "c", "a", "a", "c", "a", ""]
    raw, found, _ = learned(CategoryLearner("c", dtype), pa.array(words, dtype))
    assert found.column.values == ("a", "c", "", "b")
    assert found.column.num_codes == 6
    codes = found.codes.renumber[raw[0].astype(int)]
    assert codes.tolist() == [5, 1, 3, 2, 2, 3, 2, 4]
    assert Lookup(found.column)(pa.array(words, dtype)).tolist() == codes.tolist()


def test_dictionaries_that_differ_and_hold_nulls():
    """Wrong: an index is taken for a code, or a value that no row uses gets a code."""
    first = pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), pa.array(["a", "b", "unused"]))
    second = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, 2]), pa.array(["b", None, "a"]))
    raw, found, _ = learned(CategoryLearner("c", first.type), first, second)
    codes = found.codes.renumber[raw[0].astype(int)]
    assert found.column.values == ("a", "b")
    assert codes.tolist() == [3, 2, 1, 3, 1, 1, 2]
    assert Lookup(found.column)(second).tolist() == [3, 1, 1, 2]


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array([3, 3, 10]), ("3", "10")),
        (pa.array([1.0, 1.0, 2.5, np.nan]), ("1", "2.5")),
        (pa.array([True, True, False]), ("true", "false")),
        (pa.array([3, 3, 10]).dictionary_encode(), ("3", "10")),
        (pa.array([0, 0, 1], pa.date32()), ("1970-01-01", "1970-01-02")),
    ],
)
def test_other_types_as_categories(array, values):
    """Wrong: the integer 3, the float 3.0 of another file and "3" are three categories."""
    assert learned(CategoryLearner("c", array.type), array)[1].column.values == values


def test_more_categories_than_are_told_apart(monkeypatch):
    """Wrong: Python's hash() gives other codes in the next process; counts of code 0 grow."""
    monkeypatch.setattr("downslope.data.ingest.learn.MAX_VALUES", 100)
    words = pa.array([f"v{i % 300}" for i in range(900)])
    raw, found, notes = learned(CategoryLearner("c", pa.string()), words)
    codes = found.codes.renumber[raw[0].astype(int)]
    assert found.column.hashed and len(found.column.values) == 100 and "hashed" in notes[0]
    np.testing.assert_array_equal(Lookup(found.column)(words), codes)
    assert codes.min() >= 2 and codes.max() < found.column.num_codes
    assert len(set(codes)) > 295  # nearly all of 200 values fall into different buckets


def test_held_out_values_of_a_hashed_column(monkeypatch):
    """Wrong: a value of held-out rows alone is "unknown" when stored and hashed when predicted."""
    monkeypatch.setattr("downslope.data.ingest.learn.MAX_VALUES", 2)
    words = pa.array(["late", "a", "b", "c", "c"])
    learner = CategoryLearner("c", pa.string())
    out = np.empty((1, 5), np.float32)
    learner.read(words, Placement(np.array([1, 2, 3, 4, 0]), 4, 1), out)
    found = learner.result(0, [])
    assert found.column.values == ("a",) and found.column.hashed
    codes = found.codes.renumber[out[0].astype(int)]
    np.testing.assert_array_equal(codes, Lookup(found.column)(words)[[1, 2, 3, 4, 0]])


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8), max_size=6), st.integers(0, 5))
def test_vocabulary(batches, limit):
    """Wrong: a value gets another id in a later batch, or the limit is overstepped."""
    vocabulary = Vocabulary(pa.large_string(), limit)
    known: dict[str, int] = {}
    for batch in batches:
        distinct = sorted(set(batch))
        ids = vocabulary.ids(pa.array(distinct, pa.large_string()))
        for value, found in zip(distinct, ids, strict=True):
            if value not in known and len(known) < limit:
                known[value] = len(known)
            assert found == known.get(value, -1)
    assert vocabulary.full == (len({v for batch in batches for v in batch}) > limit)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=12))
def test_hashed_words_depend_on_words_alone(texts):
    """Wrong: the hash depends on the place in the batch, or words run on into the next text."""
    array = pa.array(texts, pa.large_string())
    codes, counts = hashed_words(array, 4)
    for text, row, count in zip(texts, codes, counts, strict=True):
        alone, alone_count = hashed_words(pa.array([text], pa.large_string()), 4)
        assert count == alone_count[0]
        np.testing.assert_array_equal(row, alone[0])
    assert ((codes > 0).sum(1) == np.minimum(counts, 4)).all()


def test_words():
    texts = ["Hello, world!", "hello", None, "", "one two three", "“hello”—WORLD", "Éa éa"]
    codes, counts = hashed_words(pa.array(texts, pa.large_string()), 2)
    assert counts.tolist() == [2, 1, 0, 0, 3, 2, 2]
    assert codes[0, 0] == codes[1, 0] == codes[5, 0] and codes[0, 1] == codes[5, 1]
    assert codes[6, 0] == codes[6, 1] and codes[1, 1] == 0 and not codes[2:4].any()
    # Frozen: models that were saved depend on these numbers.
    assert codes[0].tolist() == [63504, 50806]


def test_hash_of_strings_spreads_and_crosses_chunks(monkeypatch):
    """Wrong: positions of a chunk enter the hash; low bits alone decide the bucket."""
    words = pa.array([f"category {i}" for i in range(20_000)], pa.large_string())
    found = hash_strings(words, 1 << 16)
    monkeypatch.setattr("downslope.data.ingest.words._CHUNK_BYTES", 1000)
    np.testing.assert_array_equal(hash_strings(words, 1 << 16), found)
    expected = 65_536 * -math.expm1(-20_000 / 65_536)  # buckets hit by uniform hashes: 17,236
    assert abs(len(set(found)) - expected) < 200


def test_text_is_told_from_categories():
    sentences = pa.array([f"the {i} quick brown foxes" for i in range(50)])
    assert looks_like_text(sentences)
    assert not looks_like_text(pa.array(["New York City", "San Luis Obispo"] * 25))
    assert not looks_like_text(pa.array([f"id{i}" for i in range(50)]))
    assert not looks_like_text(pa.array([None, None], pa.string()))


# --- target and weight ----------------------------------------------------------------


def finished_target(array, task=None):
    learner = TargetLearner("y", array.type, task)
    raw = learner.values(array, 1)
    known = np.flatnonzero(~np.isnan(raw))
    learner.learn(raw, Placement(known, len(known), 1))
    found, target, finish = learner.result([])
    return found, target, finish(raw[known])


@pytest.mark.parametrize(
    ("array", "task", "classes", "indices"),
    [
        (pa.array(["no", "yes", None, "no"]), None, ("no", "yes"), [0, 1, 0]),
        (pa.array([True, False]), None, (False, True), [1, 0]),
        (pa.array([10, 9, 9, 100]), None, (9, 10, 100), [1, 0, 0, 2]),
        (pa.array([1.5, -0.0, 0.0, np.nan]), "classify", (0.0, 1.5), [1, 0, 0]),
        (pa.array([2**60 + 1, 2**60, 2**60]), "classify", (2**60, 2**60 + 1), [1, 0, 0]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), None, ("a", "b"), [1, 0, 1]),
        (pa.array([2, 1, 2]).dictionary_encode(), None, (1, 2), [1, 0, 1]),
        (pa.array(range(25)), "classify", tuple(range(25)), list(range(25))),
    ],
)
def test_classes(array, task, classes, indices):
    """Wrong: 10 sorts before 9 as a string; -0.0 is a class; 2**60 + 1 rounds to 2**60."""
    found, target, stored = finished_target(array, task)
    assert found == "classify" and target.classes == classes
    assert [type(c) for c in target.classes] == [type(c) for c in classes]
    assert stored.tolist() == indices


@pytest.mark.parametrize(
    "array",
    [pa.array(range(21)), pa.array([1.0, 2.0]), pa.array([1, 2]).cast(pa.decimal128(20, 1))],
)
def test_regression_targets(array):
    found, target, stored = finished_target(array)
    y = np.array([float(v) for v in array.to_pylist()])
    assert found == "regress" and target.classes == ()
    np.testing.assert_allclose(stored * target.scale + target.mean, y, rtol=1e-12)
    np.testing.assert_allclose([stored.mean(), stored.std()], [0, 1], atol=1e-9)


def test_integers_that_become_floats_are_regressed_on():
    """Wrong: the classes noted before a CSV file showed its first fraction are kept."""
    learner = TargetLearner("y", pa.int64(), None)
    for array in (pa.array([1, 2, 3]), pa.array([1.5])):
        raw = learner.values(array, 1)
        learner.learn(raw, in_order(len(raw)))
    assert learner.result([])[0] == "regress"


@pytest.mark.parametrize(
    ("array", "task", "words"),
    [
        (pa.array(["a", "a", None]), None, "one class"),
        (pa.array([3, 3]), None, "one class"),
        (pa.array([2.5, 2.5]), None, "constant"),
        (pa.array([f"c{i}" for i in range(1001)]), None, "1,000 classes"),
        (pa.array(["a", "b"]), "regress", "strings"),
        (pa.array([b"a"]), None, "binary"),
        (pa.array([0, 1], pa.date32()), None, "date32"),
        (pa.array([1.0, np.inf]), None, "row 2"),
    ],
)
def test_targets_that_cannot_be_used(array, task, words):
    error = pytest.raises(DataError, finished_target, array, task).value
    assert error.column == "y" and words in str(error) and error.remedy


@pytest.mark.parametrize("bad", [-1.0, None, np.nan, np.inf])
def test_bad_weights_are_named(bad):
    learner = WeightLearner("w", pa.float64())
    error = pytest.raises(DataError, learner.values, pa.array([1.0, 0.0, bad]), 11).value
    assert (error.column, error.row) == ("w", 13)


def test_weights_of_zero():
    learner = WeightLearner("w", pa.int64())
    learner.learn(learner.values(pa.array([0, 0]), 1), in_order(2))
    assert "zero" in str(pytest.raises(DataError, learner.scale).value)


# --- the encoding itself --------------------------------------------------------------


def _encoding(values=("a",), **fields) -> Encoding:
    number = {"kind": "number", "name": "x", "type": "int64", "center": 2**62 + 1, "exponent": 0,
              "mean": 0.1, "scale": 2.0, "indicator": False}  # fmt: skip
    category = {"kind": "category", "name": "c", "type": "string", "values": list(values),
                "hashed": False}  # fmt: skip
    time = {"kind": "timestamp", "name": "t", "type": "date32[day]", "unit": "s", "zone": None,
            "center": 0, "exponent": 0, "mean": 0.0, "scale": 1.0, "indicator": True,
            "parts": ["elapsed", "week sin"]}  # fmt: skip
    text = {"kind": "text", "name": "w", "type": "string", "slots": 3}
    record = {"task": "classify", "ignored": ["id"], "columns": [number, time, category, text],
              "target": {"name": "y", "type": "bool", "classes": [False, True], "mean": 0.0,
                         "scale": 1.0}}  # fmt: skip
    return Encoding.from_json({**record, **fields})


@given(st.lists(st.text(), unique=True, max_size=5))
def test_json_round_trip(values):
    """Wrong: tuples come back as lists, big integers as floats, `False` as 0."""
    encoding = _encoding(values)
    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
    assert again == encoding
    assert repr(again) == repr(encoding)


def test_names_and_tables():
    encoding = _encoding()
    assert encoding.feature_names == ("x", "t elapsed", "t week sin", "t is missing")
    assert [tuple(t) for t in encoding.tables] == [("c", 3, 0, 1), ("w", 65_537, 1, 3)]
    assert encoding.num_numeric == 4 and encoding.num_codes_columns == 4
    assert encoding.width == 10 and encoding.string_columns == ("c", "w")


def test_json_that_is_not_ours():
    for record in ({}, {"columns": 3}, {**_encoding().to_json(), "columns": [{"kind": "?"}]}):
        pytest.raises(DataError, Encoding.from_json, record)


def _batch(**columns):
    base = {"x": pa.array([2**62, None]), "t": pa.array([0, None], pa.date32()),
            "c": pa.array(["a", "z"]), "w": pa.array(["one two", None])}  # fmt: skip
    return pa.record_batch({**base, **columns})


def test_unseen_values_are_counted():
    """Wrong: a missing category counts as unseen; an unseen one takes the code of another."""
    rows, unseen = _encoding().encode(_batch(c=pa.array(["z", None])))
    assert unseen.categories == Counter(c=1) and unseen.missing == Counter(x=1)
    assert rows[:, 4].tolist() == [0, 1]
    np.testing.assert_allclose(rows[:, 0], [-1.1 / 2, 0], rtol=1e-6)
    assert rows[:, 3].tolist() == [0, 1] and rows[1, 1] == 0
    rows, unseen = _encoding().encode(_batch().slice(0, 0))
    assert rows.shape == (0, 8) and not unseen.categories


class _Table:
    path = "t.parquet"

    def __init__(self, **types):
        self.types = types


def test_columns_that_do_not_match():
    encoding = _encoding()
    fits = {"x": pa.float32(), "t": pa.timestamp("ns"), "c": pa.int64(), "w": pa.string()}
    encoding.check_columns(_Table(**fits, more=pa.binary()))
    encoding.check_columns(_Table(**{name: pa.null() for name in fits}))
    with pytest.raises(MismatchError, match=r"'x', 't'.*does not have"):
        encoding.check_columns(_Table(c=pa.string(), w=pa.string()))
    encoding.check_columns(_Table(**{**fits, "x": pa.string()}))  # its cells may be numbers
    with pytest.raises(MismatchError, match=r"'x' is timestamp\[s\], was int64"):
        encoding.check_columns(_Table(**{**fits, "x": pa.timestamp("s")}))


def test_infinite_value_when_predicting():
    bad = _batch(x=pa.array([1.0, np.inf]))
    error = pytest.raises(DataError, _encoding().encode, bad, 1001).value
    assert (error.column, error.row) == ("x", 1002)


def test_category_column_counts_its_codes():
    column = CategoryColumn(name="c", type="string", values=("a", "b"), hashed=True)
    assert column.num_codes == 4 + 65_536
