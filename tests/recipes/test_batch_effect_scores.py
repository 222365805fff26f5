"""Scores of mixing, with their nulls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples

from downslope import DataError, UsageError
from downslope.recipes.batch_effect import mixing
from downslope.recipes.batch_effect.neighbourhoods import lisi, perplexity_weights, silhouettes


def shifted(size: float, seed: int = 0, cells: int = 900):
    rng = np.random.default_rng(seed)
    lab, kind = rng.integers(0, 3, cells), rng.integers(0, 2, cells)
    z = rng.normal(size=(cells, 5))
    z[:, 0] += size * lab
    z[:, 1] += 12.0 * kind
    return z, lab, kind


def test_mixed_laboratories_score_as_their_null():
    """Catches a null of another scale, and neighbours that hold the cell itself.

    Truth: kBET rejects at its level, iLISI is 1 / (s + (1 - s) / n_eff) with s = 1/3.
    """
    found = mixing(*shifted(0), shuffles=40)
    assert found.kbet.lo - 0.01 <= found.kbet.value <= found.kbet.hi + 0.01
    assert 0.01 < found.kbet.null < 0.09
    assert found.ilisi.lo - 0.02 <= found.ilisi.value <= found.ilisi.hi + 0.02
    distances = np.sort(cdist(shifted(0)[0], shifted(0)[0]), axis=1)[:, 1:91]
    n_eff = 1 / (perplexity_weights(distances, 30) ** 2).sum(1)
    assert found.ilisi.null == pytest.approx(np.mean(1 / (1 / 3 + 2 / 3 / n_eff)), abs=0.05)
    assert found.clisi is not None and found.clisi.value == pytest.approx(1, abs=0.01)
    assert found.clisi.null > 1.8


def test_scores_fall_with_the_shift():
    """Catches scores that go the wrong way, or saturate together."""
    found = [mixing(*shifted(size), shuffles=5) for size in (0, 0.5, 1, 8)]
    assert np.all(np.diff([f.kbet.value for f in found]) > 0)
    assert np.all(np.diff([f.ilisi.value for f in found]) < 0)
    assert np.all(np.diff([f.silhouette_batch.value for f in found]) < 0)
    assert found[-1].ilisi.value == pytest.approx(1, abs=0.01)
    assert found[-1].kbet.value == 1


def test_lost_cell_types_are_seen():
    """Catches the report of iLISI alone: noise mixes laboratories best of all."""
    z, lab, kind = shifted(3)
    noise = mixing(np.random.default_rng(1).normal(size=z.shape), lab, kind, shuffles=5)
    assert noise.ilisi.value == pytest.approx(noise.ilisi.null, abs=0.05)
    assert noise.clisi.value > 1.8
    assert noise.silhouette_label.value == pytest.approx(0, abs=0.02)


def test_unequal_types_have_a_null_within_types():
    """Catches shuffles across types: there, labs that share no type could never reach the null."""
    z, lab, kind = shifted(0)
    lab = np.where(kind == 0, 0, 1 + lab % 2)  # type 0 in one lab only
    found = mixing(z, lab, kind, shuffles=20)
    assert found.ilisi.value == pytest.approx(found.ilisi.null, abs=0.05)
    assert mixing(z, lab, shuffles=20).ilisi.null > found.ilisi.null + 0.5


def test_weights_have_the_perplexity():
    """Catches a search that stops early, also at huge and at equal distances."""
    rng = np.random.default_rng(0)
    for scale in (1e-8, 1, 1e8):
        w = perplexity_weights(np.sort(scale * rng.gamma(5, size=(20, 90)), axis=1), 30)
        np.testing.assert_allclose(np.exp(-(w * np.log(w + 1e-300)).sum(1)), 30, rtol=1e-4)
    np.testing.assert_allclose(perplexity_weights(np.ones((2, 90)), 30), 1 / 90)


def test_lisi_against_harmonypy():
    harmonypy = pytest.importorskip("harmonypy")
    import pandas as pd

    z, lab, _ = shifted(0.7)
    expected = harmonypy.compute_lisi(z, pd.DataFrame({"lab": lab.astype(str)}), ["lab"])[:, 0]
    order = np.argsort(cdist(z, z), axis=1)[:, 1:91]
    found = lisi(order, perplexity_weights(np.take_along_axis(cdist(z, z), order, 1), 30), lab, 3)
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_silhouettes_against_scikit_learn():
    z, lab, _ = shifted(1, cells=200)
    lab[0] = 7  # alone
    np.testing.assert_allclose(silhouettes(cdist(z, z), lab), silhouette_samples(z, lab))


def test_a_sample_is_drawn_and_told():
    z, lab, kind = shifted(0)
    assert mixing(z, lab, kind, sample=100, shuffles=2).num_cells == 100
    same = [mixing(z, lab, kind, sample=100, shuffles=2, seed=3) for _ in range(2)]
    assert same[0] == same[1]


def test_what_cannot_be_scored():
    z, lab, kind = shifted(0, cells=40)
    for arguments, error in (
        ((z[:10], lab[:10]), DataError),
        ((z * np.nan, lab), DataError),
        ((z * 1e200, lab), DataError),
        ((z[:, 0], lab), UsageError),
        ((z, np.zeros(40)), UsageError),
        ((z, lab[:-1]), UsageError),
        ((z, lab, kind[:-1]), UsageError),
    ):
        with pytest.raises(error):
            mixing(*arguments)
    for wrong in ({"sample": "a"}, {"sample": 5}, {"shuffles": 0.5}, {"seed": -1}):
        with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be a whole number"):
            mixing(z, lab, **wrong)
    equal = mixing(np.zeros((40, 2)), lab, shuffles=3)
    assert all(np.isfinite([equal.kbet.value, equal.ilisi.value, equal.silhouette_batch.value]))
