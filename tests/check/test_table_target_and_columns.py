"""The target, columns by themselves, and columns that say the same."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from downslope import UsageError
from downslope.check import (
    Category,
    Finding,
    Sample,
    by_severity,
    class_balance,
    constant_columns,
    duplicate_columns,
    many_categories,
    missing_values,
    number_spread,
)

HOSTILE = ["", "a\nb", "--json", "'; rm -rf /", "\u202eevil", "x" * 300, "ünï", "a\tb\x00"]


def sample(x, names=None, **more):
    x = np.asarray(x, np.float32)
    names = [f"c{j}" for j in range(x.shape[1])] if names is None else names
    fields = {"y": np.zeros(len(x)), "target": "y", "num_rows": len(x), **more}
    return Sample(x=x, names=names, **fields)


def categories(*columns, num_values=None, **more):
    codes = np.stack(columns, axis=1).astype(np.int32)
    counts = num_values or [len(np.unique(column)) for column in columns]
    kinds = [Category(f"k{j}", count) for j, count in enumerate(counts)]
    n = len(codes)
    fields = {"y": np.zeros(n), "target": "y", "num_rows": n, **more}
    return Sample(x=np.zeros((n, 0), np.float32), names=[], codes=codes, categories=kinds, **fields)


# --- the record ----------------------------------------------------------------------------


def test_a_severity_is_one_of_four():
    with pytest.raises(UsageError, match="severity must be one of"):
        Finding(name="x", severity="bad", sentence="-")  # type: ignore[arg-type]


def test_the_worst_comes_first_and_equals_keep_their_order():
    kinds = ["fine", "error", "note", "warning", "note"]
    found = by_severity(
        Finding(name=str(i), severity=kind, sentence="-")  # type: ignore[arg-type]
        for i, kind in enumerate(kinds)
    )
    assert [f.name for f in found] == ["1", "3", "2", "4", "0"]


def test_a_finding_is_one_line_and_json_whatever_the_columns_are_called():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4))
    x[:, 2], x[:, 3] = x[:, 0], x[:, 1]
    for at in range(0, len(HOSTILE), 4):
        found = duplicate_columns(sample(x, HOSTILE[at : at + 4]))
        assert found.severity == "warning"
        assert str(found).isprintable()
        json.loads(json.dumps(found.to_json(), allow_nan=False))


# --- target --------------------------------------------------------------------------------


def test_one_in_a_thousand_is_a_warning_with_what_a_trivial_model_scores():
    found = class_balance([999_000, 1000], ["no", "yes"])
    assert found.severity == "warning"
    assert found.values["trivial_accuracy"].value == 0.999
    entropy = -(0.999 * math.log(0.999) + 0.001 * math.log(0.001))
    assert found.values["trivial_log_loss"] == pytest.approx(entropy)
    assert (
        "is right in 99.9 %" in found.sentence and "'yes' with 1,000 rows (0.1 %)" in found.sentence
    )


def test_a_sample_has_an_interval_and_all_rows_have_none():
    whole = class_balance([90, 10], "ab").values["smallest_share"]
    part = class_balance([90, 10], "ab", num_rows=10**6).values["smallest_share"]
    assert whole.lo == whole.hi == 0.1
    # Wilson by hand: (0.1 + z2/2n -+ z sqrt(0.1 0.9/n + z2/4n2)) / (1 + z2/n)
    assert (part.lo, part.hi) == (pytest.approx(0.0552, abs=1e-4), pytest.approx(0.1744, abs=1e-4))


@pytest.mark.parametrize(
    ("counts", "severity"),
    [
        ([50, 50], "fine"),
        ([320, 193], "fine"),
        ([850, 150], "fine"),
        ([950, 50], "note"),
        ([9950, 50], "warning"),
        ([100, 100, 0], "warning"),  # a class that training never sees
        ([30, 30, 9], "warning"),  # too few rows to learn from
        ([100, 0], "error"),
        ([1000] * 20, "fine"),  # each 5 %, and as even as can be
    ],
)
def test_how_bad_an_imbalance_is(counts, severity):
    assert class_balance(counts, list(range(len(counts)))).severity == severity


@pytest.mark.parametrize("counts", [[1], [0, 0], [-1, 2], []])
def test_counts_must_fit_the_classes(counts):
    with pytest.raises(UsageError, match="counts must be"):
        class_balance(counts, "ab" if counts else "")


def test_a_constant_number_cannot_be_learned():
    assert number_spread(np.full(100, 1e9), "y").severity == "error"
    assert number_spread(1e9 + np.arange(100), "y").severity == "fine"


def test_outliers_and_a_common_value_of_a_target():
    rng = np.random.default_rng(0)
    assert number_spread(rng.normal(size=1000), "y").severity == "fine"
    assert number_spread(
        rng.normal(size=5000) * np.exp(4 * rng.normal(size=5000)), "y"
    ).severity == ("warning")
    zeros = np.where(rng.random(1000) < 0.8, 0, rng.exponential(size=1000))
    found = number_spread(zeros, "y", scale=10)
    assert found.severity == "note"
    assert found.values["most_common_share"] == pytest.approx(0.8, abs=0.04)
    assert found.values["standard_deviation"] == pytest.approx(10 * zeros.std())


@pytest.mark.parametrize("y", [[], [np.nan, 1.0], np.zeros((2, 2))])
def test_a_target_is_finite_numbers(y):
    with pytest.raises(UsageError, match="y must be finite"):
        number_spread(y, "y")


# --- columns -------------------------------------------------------------------------------


def test_columns_left_out_and_nearly_constant_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 3))
    x[:, 1] = 0
    x[[5, 15_000], 1] = 3  # beyond the first rows too
    found = constant_columns(sample(x), {"unit": "is constant"})
    assert found.severity == "note"
    assert found.values["left_out"] == {"unit": "is constant"}
    assert found.values["share_off_the_most_common_value"] == {"c1": 1e-4}
    assert constant_columns(sample(x[:, [0, 2]])).severity == "fine"


def test_a_flag_of_one_in_a_hundred_varies():
    flags = np.zeros((20_000, 2))
    flags[::100, 0] = 1
    flags[::2, 1] = 1
    assert constant_columns(sample(flags)).severity == "fine"


def test_missing_shares_of_numbers_and_categories():
    x = np.zeros((1000, 3))
    x[:300, 2] = 1
    codes = np.full((1000, 1), 2, np.int32)
    codes[:500] = 1  # the code of a missing category
    found = missing_values(
        sample(x, ["a", "b", "b is missing"], missing={2: "b"}, codes=codes,
               categories=[Category("k", 1)])
    )  # fmt: skip
    shares = {name: share.value for name, share in found.values["shares"].items()}
    assert shares == {"b": 0.3, "k": 0.5}
    assert found.severity == "note" and "2 columns of 3 lack" in found.sentence
    assert missing_values(sample(x[:, :2])).severity == "fine"
    x[100:, 2] = 0  # 10 %
    assert missing_values(sample(x, missing={2: "b"})).severity == "fine"


def test_identifiers_and_thin_categories():
    ids, rare, common = np.arange(2, 1002), np.arange(1000) % 200 + 2, np.arange(1000) % 5 + 2
    found = many_categories(categories(ids, rare, common))
    assert found.severity == "warning"
    assert found.values["identifiers"] == ["k0"] and found.values["thin"] == ["k1"]
    assert many_categories(categories(rare, common)).severity == "note"
    assert many_categories(categories(common)).severity == "fine"
    # 1,000 values in a sample of 1,000 rows are few in a table of a million
    assert many_categories(categories(ids, num_rows=10**6)).severity == "fine"


# --- duplicates ----------------------------------------------------------------------------


def test_equal_affine_and_mirrored_columns_are_found_and_others_are_not():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(3000, 6)) * [1, 5, 1, 1, 1, 1] + [0, 100, 0, 0, 0, 0]
    raw[:, 3] = raw[:, 0]  # equal
    raw[:, 4] = -7 * raw[:, 1] + 30  # scale and shift
    raw[:, 5] = raw[:, 2] + 0.01 * rng.normal(size=3000)  # r = 0.99995: another column
    means, scales = raw.mean(axis=0), raw.std(axis=0)
    found = duplicate_columns(sample((raw - means) / scales, means=means, scales=scales))
    pairs = {(p["first"], p["second"], p["how"]) for p in found.values["pairs"]}
    assert pairs == {("c0", "c3", "equal"), ("c1", "c4", "scaled")}
    assert found.severity == "warning"


def test_a_third_copy_is_named_once():
    x = np.random.default_rng(0).normal(size=(100, 1))
    found = duplicate_columns(sample(np.repeat(x, 3, axis=1)))
    assert [(p["first"], p["second"]) for p in found.values["pairs"]] == [
        ("c0", "c1"),
        ("c0", "c2"),
    ]


def test_rare_flags_that_happen_to_agree_are_not_judged():
    x = np.zeros((5000, 2))
    x[[7, 4000], :] = 1
    assert duplicate_columns(sample(x)).severity == "fine"
    x[:20] = 1
    assert duplicate_columns(sample(x)).severity == "warning"


def test_columns_that_part_after_the_first_look():
    """Only the first rows agree: the whole sample decides."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(50_000, 1)), 2, axis=1)
    x[45_000:, 1] = rng.normal(size=5000)
    assert duplicate_columns(sample(x)).severity == "fine"


def test_many_columns_are_compared_across_blocks():
    x = np.random.default_rng(0).normal(size=(300, 1100))
    x[:, 1090] = 2 * x[:, 3] + 1
    x[:, 1099] = -x[:, 700]
    found = duplicate_columns(sample(x))
    pairs = [(p["first"], p["second"]) for p in found.values["pairs"]]
    assert pairs == [("c3", "c1090"), ("c700", "c1099")]


def test_renamed_categories_are_the_same_and_a_finer_one_is_not():
    rng = np.random.default_rng(0)
    a = rng.integers(2, 8, 1000)
    renamed = np.random.default_rng(1).permutation(20)[a]
    finer = a * 2 + rng.integers(0, 2, 1000)
    found = duplicate_columns(categories(a, finer, renamed))
    assert [tuple(p.values()) for p in found.values["pairs"]] == [("k0", "k2", "renamed")]
    same_sizes = np.roll(a, 1)
    assert duplicate_columns(categories(a, same_sizes)).severity == "fine"
    assert duplicate_columns(categories(np.arange(500), np.arange(500)[::-1])).severity == "fine"


def test_values_missing_together_are_a_note():
    marks = np.zeros((100, 2))
    marks[:30] = 1
    names = ["a is missing", "b is missing"]
    found = duplicate_columns(sample(marks, names, missing={0: "a", 1: "b"}))
    assert found.severity == "note" and not found.values["pairs"]


@pytest.mark.parametrize("num_rows", [0, 1, 2])
def test_hardly_any_rows_and_no_columns(num_rows):
    for width in (0, 2):
        tiny = sample(np.zeros((num_rows, width)))
        for check in (constant_columns, missing_values, many_categories, duplicate_columns):
            assert check(tiny).severity in ("fine", "note")


def test_a_sample_is_consistent():
    with pytest.raises(UsageError, match="names, y"):
        sample(np.zeros((3, 2)), ["only one"])
    with pytest.raises(UsageError, match="codes must have shape"):
        sample(np.zeros((3, 1)), codes=np.zeros((2, 1), np.int32), categories=[Category("k", 1)])
    with pytest.raises(UsageError, match="codes must have shape"):
        sample(np.zeros((3, 1)), categories=[Category("k", 1)])
