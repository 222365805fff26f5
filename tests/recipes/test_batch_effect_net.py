"""The net with a normalisation of each laboratory's own."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from sklearn.base import clone

from downslope import DataError, StopReason, UsageError
from downslope.recipes.batch_effect import BatchNet
from downslope.recipes.batch_effect.design import labels_of
from downslope.recipes.batch_norm import OneLab, balanced


def planted(share=(0.5, 0.5)):
    """Two kinds of cells in two labs, whose effects differ from gene to gene."""
    rng = np.random.default_rng(0)
    lab = np.repeat([0, 1], 300)
    kind = (rng.random(600) < np.array(share)[lab]).astype(int)
    level = rng.normal(0, 2, (2, 12))
    y = rng.normal(size=(600, 12)) + level[kind]
    return np.where(lab[:, None] == 1, 1.7 * y + rng.normal(0, 5, 12), y), lab, kind


SMALL = dict(dimensions=3, hidden=16, steps=300, learning_rate=3e-3, batch_size=64, random_state=0)


@pytest.fixture(scope="module")
def trained(quick_compilation):
    y, lab, kind = planted()
    return BatchNet(**SMALL).fit(y, batch=lab), y, lab, kind


@pytest.mark.slow
def test_laboratories_meet_and_kinds_stay_apart(trained):
    """Catches statistics of all laboratories together, and a code that is noise."""
    net, y, lab, kind = trained
    z = net.transform(y, batch=lab)
    spread = z.std(0)[0]
    for each in (0, 1):
        means = [z[(lab == b) & (kind == each)].mean(0) for b in (0, 1)]
        assert np.abs(means[0] - means[1]).max() < 0.25 * spread
    assert np.abs(z[kind == 1].mean(0) - z[kind == 0].mean(0)).max() > spread
    assert z.shape == (600, 3) and np.all(np.diff(z.var(0)) <= 0)


def test_statistics_are_those_of_all_cells(trained):
    """Catches running averages: each layer's input has mean 0, spread 1 in each laboratory."""
    net, y, lab, _ = trained
    rows = net._scaled(y, labels_of(lab, "batch"))
    hidden = np.maximum(rows @ net._model["into"] + net._model["into_shift"], 0)
    for each in (0, 1):
        np.testing.assert_allclose(net.statistics_[0][0][each], hidden[lab == each].mean(0), 1e-4)
        np.testing.assert_allclose(net.statistics_[0][1][each], hidden[lab == each].std(0), 1e-4)


def test_new_cells_take_their_laboratory_s_statistics(trained):
    """Catches statistics of what is given: one cell alone must land where it did."""
    net, y, lab, _ = trained
    z = net.transform(y, batch=lab)
    np.testing.assert_allclose(net.transform(y[7:8], batch=lab[7:8]), z[7:8], atol=1e-4)
    assert np.abs(net.transform(y[7:8], batch=[1]) - z[7:8]).max() > 0.1


def test_a_mini_batch_is_of_one_laboratory():
    """Catches mixed mini-batches, whose common statistics leave the gap untouched."""
    lab = planted()[1]
    labs = labels_of(lab, "batch")
    draw = OneLab(np.stack([lab, np.arange(600)], 1), labs.codes, balanced(lab))
    seen = []
    for seed in range(40):
        rows, codes = draw(np.random.default_rng(seed), 32)
        assert len(set(codes)) == 1 and (rows[:, 0] == codes[0]).all()
        seen.append(codes[0])
    assert 8 < sum(seen) < 32


def test_balanced_draws_weigh_kinds_alike():
    """Catches weights by cells: kinds that are 90 : 10 and 10 : 90 are drawn 50 : 50."""
    _, lab, kind = planted((0.9, 0.1))
    weight = balanced(lab, kind)
    pooled = kind.mean()
    for each in (0, 1):
        assert weight[lab == each].sum() == pytest.approx(1)
        assert weight[(lab == each) & (kind == 1)].sum() == pytest.approx(pooled)
    rows, _ = OneLab(kind[:, None], lab, weight)(np.random.default_rng(0), 4000)
    assert rows.mean() == pytest.approx(pooled, abs=0.04)
    with pytest.raises(UsageError, match="every laboratory has"):
        balanced(lab, lab)


@pytest.mark.parametrize(
    ("settings", "given", "error"),
    [
        ({}, dict(batch=None), UsageError),
        ({}, dict(batch=np.zeros(600)), UsageError),
        ({}, dict(batch=np.zeros(3)), UsageError),
        ({}, dict(batch=np.r_[np.zeros(10), np.ones(590)]), DataError),
        ({}, dict(X=np.ones((600, 3))), DataError),
        ({}, dict(X=np.full((600, 3), np.inf)), DataError),
        (dict(dimensions=0), {}, UsageError),
        (dict(dimensions=200), {}, UsageError),
        (dict(hidden=True), {}, UsageError),
        ({}, dict(labels=np.zeros(3)), UsageError),
        ({}, dict(batch=np.array([1, "a"] * 300, object)), UsageError),
    ],
)
def test_wrong_usage_is_told(settings, given, error):
    y, lab, _ = planted()
    given = {"X": y, "batch": lab, **given}
    with pytest.raises(error):
        BatchNet(**{**SMALL, **settings}).fit(given.pop("X"), **given)


def test_it_is_an_estimator(trained):
    assert clone(BatchNet(**SMALL)).get_params()["hidden"] == 16
    net, y, lab, _ = trained
    with pytest.raises(UsageError, match="12 genes"):
        net.transform(y[:, :3], batch=lab)
    with pytest.raises(UsageError, match="seen in fit"):
        net.transform(y, batch=lab + 1)


@pytest.mark.slow
def test_types_weigh_alike_in_draws_and_statistics(quick_compilation):
    """Catches labels that are not used, and draws without weights.

    A type that one laboratory lacks weighs nothing, so what its cells hold changes no number; the
    others count by their share of all cells.
    """
    y, lab, kind = planted((0.8, 0.2))
    kind[:40] = 2
    other = y.copy()
    other[:40] += 50 * np.random.default_rng(1).normal(size=(40, 12))
    few = {**SMALL, "steps": 20}
    first, second = (BatchNet(**few).fit(x, batch=lab, labels=kind) for x in (y, other))
    for name, value in first._model.items():
        np.testing.assert_array_equal(value, second._model[name])
    rows = first._scaled(y, labels_of(lab, "batch"))
    hidden = np.maximum(rows @ first._model["into"] + first._model["into_shift"], 0)
    share = (kind == 1).sum() / (kind < 2).sum()
    for each in (0, 1):
        mean = [hidden[(lab == each) & (kind == k)].mean(0) for k in (0, 1)]
        expected = (1 - share) * mean[0] + share * mean[1]
        np.testing.assert_allclose(first.statistics_[0][0][each], expected, rtol=1e-4)


def test_an_interrupt_is_passed_on(monkeypatch, quick_compilation):
    """Catches a fit that swallows it; the model as it stood is kept."""
    y, lab, _ = planted()
    draw, calls = OneLab.__call__, []

    def interrupted(self, rng, num_rows):
        calls.append(num_rows)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return draw(self, rng, num_rows)

    monkeypatch.setattr(OneLab, "__call__", interrupted)
    net = BatchNet(**SMALL)
    with pytest.raises(KeyboardInterrupt):
        net.fit(y, batch=lab)
    assert net.result_.stop_reason is StopReason.INTERRUPTED
    assert net.transform(y, batch=lab).shape == (600, 3)
