"""Columns that give the target away, and rows that stand on both sides of the split."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from downslope import UsageError
from downslope.check import (
    Category,
    Sample,
    chance_of_equal_rows,
    hash_rows,
    joined_hashes,
    leaking_columns,
    repeated_rows,
)
from downslope.check.column_scores import average_ranks, rank_area

N = 4000


def classes(n=N, width=4, seed=0, share=0.5):
    """Honest columns of which the first is some use."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width))
    y = (norm.cdf((x[:, 0] + rng.normal(size=n)) / 2**0.5) < share).astype(int)
    return rng, x, y


def sample(x, y, num_classes=0, codes=None, **more):
    names = [f"c{j}" for j in range(x.shape[1])]
    kinds = () if codes is None else [Category(f"k{j}", 9) for j in range(codes.shape[1])]
    return Sample(
        x=x.astype(np.float32), names=names, y=y, target="y", num_rows=len(y), codes=codes,
        categories=kinds, classes=tuple(range(num_classes)), **more,
    )  # fmt: skip


def suspects(found):
    return found.values.get("suspects", [])


# --- columns -------------------------------------------------------------------------------


def test_no_column_of_honest_data_is_suspected():
    for load, kinds in (
        (load_breast_cancer, 2),
        (load_iris, 3),
        (load_wine, 3),
        (load_diabetes, 0),
    ):
        data = load()
        order = np.random.default_rng(0).permutation(len(data.target))
        found = leaking_columns(sample(data.data[order], data.target[order], kinds))
        assert found.severity in ("fine", "note"), found


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_a_class_copied_with_noise(share):
    rng, x, y = classes(n=8000, share=share)
    x[:, 2] = 3 * y + 0.3 * rng.normal(size=len(y))
    found = leaking_columns(sample(x, y, 2))
    assert found.severity == "warning" and suspects(found) == ["c2"]
    assert found.values["scores"]["c2"].value > 0.99
    assert "--ignore c2" in found.remedy


def test_the_noise_decides_at_the_threshold():
    """AUC of a copy y + s e is Phi(1/(s sqrt 2)): 0.99 at s = 0.304."""
    for noise, suspected in ((0.27, True), (0.34, False)):
        rng, x, y = classes(n=20_000)
        x[:, 2] = y + noise * rng.normal(size=len(y))
        found = leaking_columns(sample(x, y, 2))
        told = found.values["scores"]["c2"]
        assert told.lo <= norm.cdf(1 / (noise * 2**0.5)) <= told.hi
        assert (suspects(found) == ["c2"]) is suspected


def test_a_class_in_the_middle_of_a_number():
    """Neither end of the column tells the class: its bins do."""
    rng, x, y = classes()
    x[:, 3] = np.where(y == 1, 0.1, 1) * rng.choice([-1, 1], N) * rng.uniform(1, 2, N)
    assert suspects(leaking_columns(sample(x, y, 2))) == ["c3"]


def test_a_class_encoded_as_a_category():
    rng, x, y = classes()
    codes = np.stack([rng.integers(2, 5, N), 2 + (3 * y + rng.integers(0, 3, N)) % 7], axis=1)
    codes[:40, 1] = 2 + rng.integers(0, 6, 40)  # a few wrong ones
    found = leaking_columns(sample(x, y, 2, codes=codes.astype(np.int32)))
    assert suspects(found) == ["k1"] and found.severity == "warning"


def test_an_identifier_tells_nothing_of_new_rows():
    """Scored on the rows it was fitted to, it would look perfect."""
    _, x, y = classes()
    ids = np.arange(2, N + 2, dtype=np.int32)[:, None]
    found = leaking_columns(sample(x, y, 2, codes=ids))
    assert not suspects(found)
    assert found.values["scores"]["k0"].value == pytest.approx(0.5)


def test_a_copy_of_three_classes():
    rng, x, _ = classes()
    y = rng.integers(0, 3, N)
    x[:, 1] = np.array([5.0, -2.0, 1.0])[y] + 0.1 * rng.normal(size=N)
    found = leaking_columns(sample(x, y, 3))
    assert suspects(found) == ["c1"]
    # a column that gives only one class away does not give the target away
    x[:, 1] = (y == 0) + 0.01 * rng.normal(size=N)
    assert not suspects(leaking_columns(sample(x, y, 3)))


@pytest.mark.parametrize(
    "shape", [lambda y: 3 * y + 1, np.exp, lambda y: -(y**3), lambda y: y.astype(np.float32) * 1e6]
)
def test_a_number_copied_in_any_monotone_form(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 4))
    y = x[:, 0] + rng.normal(size=N)
    x[:, 3] = shape(y)
    found = leaking_columns(sample(x, y))
    assert suspects(found) == ["c3"] and found.severity == "warning"


def test_a_number_copied_with_noise_and_one_rounded_to_a_category():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3))
    y = x[:, 0] + 2 * rng.normal(size=N)
    x[:, 1] = y + 0.1 * y.std() * rng.normal(size=N)  # R2 = 0.99
    codes = (2 + np.digitize(y, np.quantile(y, np.linspace(0, 1, 41)[1:-1])))[:, None]
    found = leaking_columns(sample(x, y, codes=codes.astype(np.int32)))
    assert set(suspects(found)) == {"c1", "k0"}


def test_a_smooth_relation_is_not_lost_between_bins():
    """Steps of 64 bins alone would leave 1/64^2 of the variance; lines between them far less."""
    y = np.random.default_rng(0).uniform(size=N)
    told = leaking_columns(sample(np.stack([y, y**2], axis=1), y)).values["scores"]["c0"]
    assert told.value > 1 - 0.1 / 64**2


def test_heavy_tails_do_not_hide_a_copy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3))
    y = np.exp(3 * rng.normal(size=N))
    x[:, 2] = y
    assert suspects(leaking_columns(sample(x, y))) == ["c2"]


def test_two_copies_do_not_hide_each_other():
    rng, x, y = classes()
    x[:, 2] = y + 0.01 * rng.normal(size=N)
    x[:, 3] = -y + 0.01 * rng.normal(size=N)
    found = leaking_columns(sample(x, y, 2))
    assert set(suspects(found)) == {"c2", "c3"} and found.severity == "warning"


def test_an_easy_target_with_a_column_close_behind_is_a_note():
    rng, x, y = classes()
    x[:, 2] = y + 0.29 * rng.normal(size=N)  # AUC 0.9926
    x[:, 3] = y + 0.33 * rng.normal(size=N)  # AUC 0.984
    found = leaking_columns(sample(x, y, 2))
    assert suspects(found) == ["c2"] and found.severity == "note"


def test_values_that_lack_where_the_class_is_known():
    rng, x, y = classes()
    x[:, 3] = (y == 1) | (rng.random(N) < 0.001)
    found = leaking_columns(sample(x, y, 2, missing={3: "date of death"}))
    assert suspects(found) == ["c3"]


@pytest.mark.parametrize("kinds", [0, 2])
@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_too_few_rows_are_not_judged(n, kinds):
    x = np.arange(n * 2, dtype=float).reshape(n, 2)
    found = leaking_columns(sample(x, (np.arange(n) % 2).astype(float), kinds))
    assert found.severity == "fine" and "cannot be judged" in found.sentence


def test_a_constant_target_and_constant_columns():
    x = np.zeros((200, 2))
    assert "cannot be judged" in leaking_columns(sample(x, np.ones(200))).sentence
    found = leaking_columns(sample(x, np.arange(200) // 2 % 2, 2))
    assert found.values["scores"]["c0"].value == 0.5


def test_areas_agree_with_the_rank_test():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 20, 300), rng.random(300) < 0.3
    told = mannwhitneyu(score[positive], score[~positive]).statistic
    expected = told / (positive.sum() * (~positive).sum())
    assert rank_area(average_ranks(score), positive) == pytest.approx(expected)


# --- rows ----------------------------------------------------------------------------------


def table(n, width=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)).astype(np.float32), rng.normal(size=n).astype(np.float32)


def split(x, y, at):
    return hash_rows(x[:at], y[:at]), hash_rows(x[at:], y[at:])


def test_hashes_are_equal_exactly_where_rows_are():
    x, y = table(5000)
    x[100] = x[0]
    x[200] = x[0][::-1]
    x[300] = -x[0]
    h = hash_rows(x, y)
    assert len(np.unique(h.features)) == 4999 and h.features[100] == h.features[0]
    assert len(np.unique(h.whole)) == 5000
    y[100] = y[0]
    assert hash_rows(x, y).whole[100] == h.whole[0]


def test_hashes_of_small_integers_and_signs_do_not_collide():
    """float32 of small integers share their low bits; a plain sum of products would collide."""
    grid = np.stack(np.meshgrid(*[np.arange(-5.0, 6)] * 5), axis=-1).reshape(-1, 5)
    h = hash_rows(grid.astype(np.float32), np.zeros(len(grid), np.float32))
    assert len(np.unique(h.features)) == len(grid) == 11**5
    zeros = np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32)
    assert len(np.unique(hash_rows(zeros, np.zeros(2, np.float32)).features)) == 1


def test_hashes_do_not_depend_on_how_rows_are_read():
    x, y = table(40_000)
    parts = [hash_rows(x[a : a + 9999], y[a : a + 9999]) for a in range(0, 40_000, 9999)]
    assert np.array_equal(joined_hashes(parts).whole, hash_rows(x, y).whole)


def test_planted_copies_across_the_split_are_counted():
    x, y = table(2000)
    x[1800:1850], y[1800:1840] = x[:50], y[:40]
    found = repeated_rows(*split(x, y, 1800))
    assert found.severity == "warning"
    assert found.values["in_training"].value == 50 / 200
    assert found.values["in_training_with_target"].value == 40 / 200
    assert found.values["inside_training"].value == 0
    assert "across the split" in found.remedy


def test_copies_everywhere_are_said_to_be_everywhere():
    x, y = table(2000)
    x[1000:], y[1000:] = x[:1000], y[:1000]
    order = np.random.default_rng(1).permutation(2000)
    found = repeated_rows(*split(x[order], y[order], 1800))
    assert found.severity == "warning" and "repeats its rows" in found.remedy
    # a row's twin stands in training with probability 1800/1999 and 1799/1999
    assert found.values["inside_training"].value == pytest.approx(0.9, abs=0.02)
    assert found.values["in_training"].lo < 1800 / 1999 < found.values["in_training"].hi


def test_few_possible_rows_are_expected_to_repeat():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, size=(3000, 4)).astype(np.float32), rng.random(3000)
    told = Sample(x=x, names=list("abcd"), y=y, target="y", num_rows=3000)
    chance = chance_of_equal_rows(told)
    assert chance == pytest.approx(4**-4, rel=0.05)
    found = repeated_rows(*split(x, y.astype(np.float32), 2700), chance=chance)
    assert found.severity == "note" and "few different rows" in found.remedy
    # 1 - (1 - 1/256)^2700
    assert found.values["by_chance"] == pytest.approx(1 - (255 / 256) ** 2700, abs=1e-3)


def test_dependent_columns_with_few_different_rows_are_no_copies():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 50, 3000)
    x = rng.normal(size=(50, 12)).astype(np.float32)[kind]  # chance would say 50^-12
    y = rng.random(3000).astype(np.float32)
    assert repeated_rows(*split(x, y, 2700), chance=50.0**-12).severity == "note"


def test_equal_features_with_other_targets_are_no_copies():
    x, y = table(2000)
    x[1000:] = x[:1000]
    order = np.random.default_rng(1).permutation(2000)
    found = repeated_rows(*split(x[order], y[order], 1800))
    assert found.severity == "note" and "targets differ" in found.remedy


def test_few_different_rows_whose_targets_agree_are_no_copies_either():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 50, 3000)
    x = rng.normal(size=(50, 12)).astype(np.float32)[kind]
    found = repeated_rows(*split(x, (kind % 2).astype(np.float32), 2700), chance=50.0**-12)
    assert found.severity == "note" and "few different rows" in found.remedy


def test_two_copies_in_a_hundred_rows_could_be_chance():
    x, y = table(1100)
    x[1000:1002], y[1000:1002] = x[:2], y[:2]  # 2 %, but 0.6 to 7
    assert repeated_rows(*split(x, y, 1000)).severity == "fine"


def test_no_copies_and_a_single_one():
    x, y = table(2000)
    assert repeated_rows(*split(x, y, 1800)).severity == "fine"
    x[1900] = x[5]
    assert repeated_rows(*split(x, y, 1800)).severity == "fine"  # below 1 % of the rows


def test_without_held_out_rows_training_alone_is_looked_at():
    x, y = table(1000)
    assert repeated_rows(hash_rows(x, y), None).severity == "fine"
    x[500:] = x[:500]
    assert repeated_rows(hash_rows(x, y), None).severity == "note"
    with pytest.raises(UsageError, match="at least one row"):
        repeated_rows(hash_rows(x[:0], y[:0]), None)


def test_hashes_of_a_part_give_a_lower_bound_in_words():
    x, y = table(100)
    assert "lower bounds" in (repeated_rows(hash_rows(x, y), None, num_training=10**9).rows or "")
