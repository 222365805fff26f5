"""Retrieval, collapse, comparisons, sampler, views."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from downslope import DataError, Training, UsageError
from downslope.recipes.embedding import (
    Units,
    above_chance,
    draw_units,
    health,
    information_bound,
    loss_difference,
    mask,
    members_of,
    nearest,
    noise,
    retrieval,
    shift,
)
from downslope.recipes.embedding.holdout import held_out
from downslope.train.defaults import begin_with


def test_map_at_r_by_hand():
    """Query 0 has 3 partners; its order is wrong, right, right, right: (0 + 1/2 + 2/3) / 3."""
    z = np.array([[0.0], [1.1], [2.0], [3.0], [0.5]])
    found = retrieval(
        np.repeat(z[:1], 2, 0), ["a", "a"],
        reference=z[1:], reference_labels=["a", "a", "a", "b"], ks=(1, 2),
    )  # fmt: skip
    assert found["recall@1"].value == 0
    assert found["recall@2"].value == 1
    np.testing.assert_allclose(found["map@r"].value, (1 / 2 + 2 / 3) / 3)


def test_measures_are_the_peers():
    """Against pytorch-metric-learning 2.9.0, AccuracyCalculator(k="max_bin_count")."""
    rng = np.random.default_rng(7)
    z, y = rng.normal(size=(60, 4)).astype("f4"), rng.integers(0, 4, 60)
    z[:, 0] += y
    found = retrieval(z, y)
    np.testing.assert_allclose(found["map@r"].value, 0.24432766627111863, rtol=1e-9)
    np.testing.assert_allclose(found["recall@1"].value, 0.4666666666666667)
    assert found["recall@1"].lo < 0.4666 < found["recall@1"].hi
    assert found["map@r"].lo < 0.2443 < found["map@r"].hi


def test_the_bootstrap_interval_covers():
    """Catches a spread of single queries in place of that of their mean."""
    draw, covered = np.random.default_rng(0), 0
    centres = draw.normal(size=(10, 3)) * 1.2

    def some(num):
        labels = draw.integers(0, 10, num)
        return centres[labels] + draw.normal(size=(num, 3)), labels

    reference = some(200)
    truth = retrieval(*some(20_000), reference=reference[0], reference_labels=reference[1])
    for seed in range(40):
        found = retrieval(
            *some(100), reference=reference[0], reference_labels=reference[1], seed=seed
        )["map@r"]
        covered += found.lo < truth["map@r"].value < found.hi
    assert 33 <= covered < 40 or covered == 40
    assert found.hi - found.lo < 0.2


def test_a_row_is_not_its_own_neighbour_among_duplicates():
    """Catches the first neighbour dropped, whichever of the equal rows it was."""
    z = np.zeros((6, 2))
    _, places = nearest(z, 5)
    assert all(i not in row for i, row in enumerate(places.tolist()))
    assert retrieval(z, [0, 0, 0, 1, 1, 1], ks=(5,))["recall@5"].value == 1


def test_what_cannot_be_found_is_said():
    found = retrieval(np.arange(3.0)[:, None], [0, 1, 2])
    assert not found
    assert "class to find" in found.reasons["map@r"]
    found = retrieval(np.arange(4.0)[:, None], [0, 0, 1, 2], ks=(1, 9))
    assert found["recall@1"].num_examples == 2
    assert "2 queries" in found["recall@1"].flags[0]
    assert "only 3 rows" in found.reasons["recall@9"]


@pytest.mark.parametrize(
    ("z", "y"),
    [(np.zeros((3, 2)), [0, 1]), (np.full((3, 2), np.nan), [0, 1, 1]), (np.zeros(3), [0, 1, 1])],
)
def test_bad_arrays_are_refused(z, y):
    with pytest.raises(UsageError):
        retrieval(z, y)


def test_health_of_known_clouds():
    """Catches a rank by counting, and a spread that depends on the unit."""
    draw = np.random.default_rng(0)
    ball = draw.normal(size=(4000, 8))
    for scale in (1.0, 1e-3):
        found = health(ball * scale)
        assert not found.is_collapsed
        np.testing.assert_allclose(found.entropy_rank, 8, rtol=0.02)
        np.testing.assert_allclose(found.spread, 1, atol=0.01)
    line = np.outer(draw.normal(size=500), np.ones(8)) + 1e-3 * draw.normal(size=(500, 8))
    assert "one line" in health(line).because[0]
    assert health(line, np.arange(500) % 9).is_collapsed
    assert not health(line, np.arange(500) % 2).is_collapsed  # the best place for two classes
    point = 1 + 1e-4 * draw.normal(size=(500, 8))
    assert "coincide" in health(point).because[0]
    assert health(np.zeros((5, 3))).is_collapsed


def test_an_unlearned_loss_is_told_apart_from_collapse():
    """A soft triplet at ln 2 with a wide spread: no collapse, yet nothing was learned."""
    ball = np.random.default_rng(0).normal(size=(400, 8))
    found = health(ball, loss=0.694, loss_at_collapse=math.log(2))
    assert not found.is_collapsed
    assert "nothing was learned" in found.because[0]
    assert health(ball, loss=0.5, loss_at_collapse=math.log(2)).because == ()


def test_alignment_and_uniformity_by_pairs():
    """Against loops over pairs."""
    z = np.random.default_rng(0).normal(size=(30, 3))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    y = np.arange(30) % 4
    squares = {(i, j): ((z[i] - z[j]) ** 2).sum() for i in range(30) for j in range(i)}
    found = health(z, y)
    same = [d for (i, j), d in squares.items() if y[i] == y[j]]
    np.testing.assert_allclose(found.alignment, np.mean(same), rtol=1e-9)
    every = np.array(list(squares.values()))
    np.testing.assert_allclose(found.uniformity, np.log(np.exp(-2 * every).mean()), rtol=1e-9)
    np.testing.assert_allclose(found.mean_cosine, (1 - every / 2).mean(), rtol=1e-9)


def test_losses_of_other_batches_are_refused_or_corrected():
    """Catches a silent comparison: one encoder may have .41, 1.31, 2.54 at 4, 16, 64 pairs."""
    with pytest.raises(UsageError, match="correct=True"):
        loss_difference(1.31, 0.41, num_rows=32, other_num_rows=8)
    with pytest.raises(UsageError, match="triplet"):
        loss_difference(0.2, 0.1, num_rows=32, other_num_rows=8, name="triplet", correct=True)
    assert loss_difference(1.5, 1.0, num_rows=8, other_num_rows=8, name="triplet") == 0.5
    corrected = loss_difference(1.31, 0.41, num_rows=32, other_num_rows=8, correct=True)
    np.testing.assert_allclose(corrected, (1.31 - math.log(31)) - (0.41 - math.log(7)))
    assert above_chance(math.log(127), 128) == 0


def test_information_bound_of_correlated_normals():
    """Closed form: rho = .99, I = 1.959; bounds 1.03, 1.64, 1.87, 1.93 for K = 4, 16, 64, 256."""
    draw, rho, found = np.random.default_rng(0), 0.99, []
    for K in (4, 16, 64, 256):
        losses = []
        for _ in range(400 if K < 64 else 60):
            x = draw.normal(size=K)
            y = rho * x + math.sqrt(1 - rho**2) * draw.normal(size=K)
            # ln p(y|x) / p(y), the best critic there is
            s = -((y[None] - rho * x[:, None]) ** 2) / (2 * (1 - rho**2)) + y[None] ** 2 / 2
            losses += list(np.log(np.exp(s - np.diag(s)[:, None]).sum(1)))
        found.append(information_bound(float(np.mean(losses)), K))
    np.testing.assert_allclose([b.value for b in found], [1.03, 1.64, 1.87, 1.93], atol=0.06)
    assert [b.is_saturated for b in found] == [False, False, False, False]
    assert information_bound(0.1, 4).is_saturated


def test_units_hold_p_classes_of_k_rows():
    """Catches a class drawn twice, a row drawn twice, and rows that are never drawn."""
    labels = np.random.default_rng(0).integers(0, 7, 200)
    members, classes, alone = members_of(labels)
    assert len(classes) == 7 and not alone
    places = draw_units(members, num_classes=4, rows_per_class=3, num_units=60, seed=1)
    for unit in places:
        drawn = labels[unit].reshape(4, 3)
        assert (drawn == drawn[:, :1]).all()
        assert len(set(drawn[:, 0])) == 4
        assert len(set(unit)) == 12
    counts = np.bincount(places.ravel(), minlength=200)
    assert counts.min() >= 1
    again = draw_units(members, num_classes=4, rows_per_class=3, num_units=60, seed=1)
    assert (places == again).all()


def test_small_classes_are_filled_up():
    members = [np.array([0, 1]), np.arange(2, 30)]
    places = draw_units(members, num_classes=2, rows_per_class=5, num_units=20, seed=0)
    for unit in places:
        first = unit[unit < 2]
        assert len(first) == 5 and min(np.bincount(first)) == 2  # as evenly as can be


@pytest.mark.parametrize(
    ("labels", "error", "text"),
    [
        ([0, 1, 2, 3], DataError, "2 classes with 2 rows"),
        ([0, 0, 0, 1], DataError, "2 classes with 2 rows"),
        (["a", None, "a", "b"], DataError, "row 2: missing label"),
        ([0.0, np.nan, 0.0], DataError, "row 2: missing label"),
        (pd.array(["a", pd.NA, "a"], "string"), DataError, "row 2: missing label"),
        (np.array([1, "a", 1, "a"], dtype=object), UsageError, "int and str"),
        ([[0, 1], [0, 1]], UsageError, "one label a row"),
    ],
)
def test_labels_that_teach_nothing_are_refused(labels, error, text):
    with pytest.raises(error, match=text):
        members_of(labels)


def test_too_many_classes_a_batch_are_refused():
    members = [np.arange(2), np.arange(2, 4)]
    with pytest.raises(UsageError, match=r"num_classes .* at most 2"):
        draw_units(members, num_classes=3, rows_per_class=2, num_units=1, seed=0)


def test_a_source_of_units():
    rows = np.arange(20, dtype="f4").reshape(10, 2)
    source = Units(rows, np.array([[0, 1, 2], [9, 8, 7]]))
    assert source.row_bytes == 24
    out = np.empty((1, 3, 2), "f4")
    assert source.read(1, 2, out) is out
    assert (out[0] == rows[[9, 8, 7]]).all()
    assert source.fingerprint != Units(rows + 1, np.array([[0, 1, 2], [9, 8, 7]])).fingerprint


@pytest.mark.parametrize(("examples", "expected"), [(1, 16), (8, 8), (100, 1), (5000, 1)])
def test_a_run_begins_with_as_many_examples_whatever_a_row_holds(examples, expected):
    """Catches an update of 16 logical batches where a batch of one is as large as others'."""
    source = Units(np.zeros((9, 1), "f4"), np.zeros((256, examples), int))
    assert begin_with(Training(), source).batch_size == expected


def test_what_is_held_out_was_never_trained_on():
    """Catches rows of a group on both sides, and held-out classes of too few rows."""
    members = [np.arange(10 * i, 10 * i + 10) for i in range(12)]
    sizes = {"num_classes": 3, "rows_per_class": 4, "seed": 0}
    for relation in ("labels", "groups"):
        part = held_out(members, relation, share=0.2, **sizes)
        train, held = np.concatenate(part.train), np.concatenate(part.held_out)
        assert not set(train) & set(held)
        assert sorted([*train, *held]) == list(range(120))
        assert len(part.held_out) >= 3 and min(map(len, part.held_out)) >= 4
        if relation == "groups":
            assert not set(train // 10) & set(held // 10)
    few = held_out(members[:4], "groups", share=0.2, **sizes)
    assert few.held_out == [] and len(few.train) == 4
    assert held_out(members, "labels", share=0, **sizes).held_out == []


@pytest.mark.slow
def test_noise_and_mask_change_what_they_say():
    x, key = jnp.ones((4000, 3)), jax.random.key(0)
    wide = noise(np.array([0.0, 0.5, 2.0]))(key, x).std(0)
    np.testing.assert_allclose(wide, [0, 0.5, 2], atol=0.06)
    hidden = mask(0.3, fill=np.array([0.0, 5.0, 7.0]))(key, x)
    np.testing.assert_allclose((hidden != x).mean(0), 0.3, atol=0.03)
    assert set(np.unique(hidden[:, 2])) == {1, 7}


@pytest.mark.slow
def test_shift_moves_whole_images():
    """Catches axes exchanged, and pixels that come in at the other edge."""
    image = np.zeros((3, 4), "f4")
    image[1, 2] = 1
    x = jnp.asarray(np.repeat(image.reshape(1, -1), 300, 0))
    moved = np.asarray(shift(1, (3, 4))(jax.random.key(0), x)).reshape(300, 3, 4)
    assert (moved.sum((1, 2)) == 1).all()
    places = {tuple(int(k) for k in np.argwhere(m)[0]) for m in moved}
    assert places == {(r, c) for r in (0, 1, 2) for c in (1, 2, 3)}


@pytest.mark.parametrize(
    "make",
    [lambda: noise(-1), lambda: mask(1.5), lambda: mask(np.nan), lambda: shift(-1)],
)
def test_views_out_of_range_are_refused(make):
    with pytest.raises(UsageError):
        make()
