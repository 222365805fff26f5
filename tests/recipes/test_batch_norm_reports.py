"""Condition numbers before and after, and what normalising does to rows that one would not wish."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import UsageError
from downslope.recipes import batch_norm as bn

pytestmark = pytest.mark.usefixtures("quick_compilation")
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(4096, 2))
Z = ((Z - Z.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(Z.T)).T)).astype("f4")  # white


def one_layer(model, x, norm):
    return norm("map", x @ model)


def look(matrix, x=Z, **given):
    matrix = np.float32(matrix)
    found = bn.population_statistics(one_layer, matrix, x, lab=given.get("lab"))
    return bn.conditioning(one_layer, matrix, x, found, **given)


TURN = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
STRETCH = np.diag([10.0, 1.0])
CORRELATED = np.linalg.cholesky([[1, 0.9], [0.9, 1]]).T


@pytest.mark.parametrize(
    ("matrix", "before", "after"),
    [(STRETCH, 100, 1), (STRETCH @ TURN, 100, 100), (CORRELATED, 19, 19)],
    ids=["aligned", "turned", "correlated"],
)
def test_condition_numbers_of_known_maps(matrix, before, after):
    """On white inputs: 100 becomes 1 along the axes, stays 100 at 45 degrees, and correlations of
    0.9 keep (1 + .9) / (1 - .9); the Jacobian's are the roots of these.
    """
    (found,) = look(matrix).layers
    assert found.before.value == pytest.approx(before, rel=1e-3)
    assert found.after.value == pytest.approx(after, rel=1e-3)
    assert found.jacobian_before.value == pytest.approx(np.sqrt(before), rel=1e-3)
    assert found.jacobian_after.value == pytest.approx(np.sqrt(after), rel=1e-3)
    for each in (found.before, found.after):
        assert each.lo <= each.value <= each.hi
    assert found.before.lo < before < found.before.hi


@pytest.mark.slow
def test_intervals_hold_the_truth():
    """Catches an interval for nothing: samples of 300 rows, 30 times, of 19."""
    held = 0
    for seed in range(30):
        x = np.random.default_rng(seed).normal(size=(300, 2)).astype("f4")
        (found,) = look(CORRELATED, x).layers
        held += found.after.lo < 19 < found.after.hi
    assert held >= 26


def test_whitening_is_named():
    assert "only whitening" in str(look(STRETCH))


def test_each_laboratory_is_scaled_by_itself():
    """Catches the statistics of all rows: spreads of 10 : 1 and 1 : 10, and means far apart."""
    lab = np.repeat(["a", "b"], 2048)
    x = Z * np.where(lab == "a", [[10.0], [1.0]], [[1.0], [10.0]]).T.astype("f4")
    x += np.float32(50) * (lab == "b")[:, None]
    (found,) = look(np.eye(2), x, lab=lab).layers
    assert found.after.value == pytest.approx(1, abs=0.1)
    assert found.jacobian_before.value == pytest.approx(1)
    assert found.jacobian_after.value == pytest.approx(10, rel=0.1)


@pytest.mark.slow
def test_what_cannot_be_told_says_why():
    dead = np.float32([[1, 0, 0], [0, 1, 0]])  # the third feature is 0
    (found,) = look(dead).layers
    assert found.constant == (2,) and found.before.value == pytest.approx(1, abs=1e-3)
    (found,) = look([[1, 1, 2], [0, 1, 1]]).layers  # the third is the sum of the others
    assert "rank 2 of 3" in found.before.reason and found.before.value is None
    assert found.jacobian_before.value is not None  # of 2 inputs, both reach the layer
    (found,) = look([[1, 2], [1, 2]]).layers
    assert "rank 1 of 2" in found.jacobian_before.reason
    (found,) = look(np.zeros((2, 2))).layers
    assert "constant" in found.before.reason
    few = look(np.eye(2), Z[:2]).layers[0]
    assert few.before.value is None or few.before.flags

    def of_two(model, x, norm):
        return norm("h", x[0] + x[1])

    known = bn.population_statistics(of_two, {}, (Z, Z))
    (found,) = bn.conditioning(of_two, {}, (Z, Z), known).layers
    assert "one array" in found.jacobian_before.reason and found.before.value is not None


def test_the_jacobian_of_a_net_is_that_of_its_layers():
    """Catches the Jacobian of the layer before instead of the whole way to the net's inputs."""
    model = {"a": np.float32([[3, 1], [0, 1]]), "b": np.float32([[1, 2], [0, 5]])}

    def net(model, x, norm):
        return norm("second", jnp.tanh(norm("first", x @ model["a"])) @ model["b"])

    known = bn.population_statistics(net, model, Z)
    first, second = bn.conditioning(net, model, Z[:64], known).layers
    mean, variance = known.layers["first"][:2]
    spread = np.sqrt(variance + 1e-5)
    slopes = [
        (model["a"] / spread * (1 - np.tanh((row @ model["a"] - mean) / spread) ** 2)) @ model["b"]
        for row in Z[:64].astype("f8")
    ]
    assert first.jacobian_before.value == pytest.approx(np.linalg.cond(model["a"]), rel=1e-4)
    values = np.sort([np.linalg.cond(slope) for slope in slopes])
    assert second.jacobian_before.value == pytest.approx(values[31], rel=1e-3)
    assert second.jacobian_before.lo <= np.median(values) <= second.jacobian_before.hi


# Findings ----------------------------------------------------------------------------------


def raw(model, x, norm):
    return norm("x", x)


def named(found, name):
    return next(each for each in found if each.name == name)


def labs(gap, n=4000, width=3):
    rng = np.random.default_rng(1)
    lab = np.repeat(["Bern", "Oslo"], n // 2)
    x = rng.normal(size=(n, width))
    x[lab == "Oslo", 1] += gap
    return x.astype("f4"), lab


def test_mixed_mini_batches_leave_the_gap_untouched():
    """The finding's numbers are those of mini-batches that are in fact normalised."""
    x, lab = labs(1.78)
    found = named(bn.findings(raw, {}, x, lab=lab, batch_size=128), "mixed")
    assert found.severity == "warning" and found.values["feature"] == 1
    order = np.random.default_rng(2).permutation(len(x))[:3968].reshape(-1, 128)
    z = np.asarray(jax.vmap(lambda x: bn.by_batch()("x", x))(jnp.asarray(x[order])))[..., 1]
    oslo = lab[order] == "Oslo"
    gap = z[oslo].mean() - z[~oslo].mean()
    within = np.sqrt((z[oslo].var() + z[~oslo].var()) / 2)
    for value in (found.values["before"], found.values["after"], gap / within):
        assert value == pytest.approx(1.78, abs=0.06)
    assert found.values["lo"] < 1.78 < found.values["hi"]
    apart = named(bn.findings(raw, {}, x, lab=lab, batch_size=128, by="one_lab"), "mixed")
    assert apart.severity == "fine" and apart.values["after"] == 0
    none = named(bn.findings(raw, {}, *[labs(0)[0]], lab=lab, batch_size=128), "mixed")
    assert none.severity == "fine"


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.5, 0.5)])
def test_unequal_composition_removes_biology(shares):
    """m (p_B - p_A): -2.40 for 3 sd and shares of .9 and .1, and none where they are equal."""
    rng = np.random.default_rng(0)
    lab = np.repeat(["A", "B"], 10_000)
    kind = rng.random(20_000) < np.where(lab == "A", *shares)
    x = rng.normal(size=(20_000, 2))
    x[:, 0] += 3.0 * kind + 5.0 * (lab == "B")
    x = x.astype("f4")
    found = bn.findings(raw, {}, x, lab=lab, types=kind, batch_size=64, by="one_lab")
    found = named(found, "composition")
    expected = 3 * (kind[lab == "B"].mean() - kind[lab == "A"].mean())
    assert found.values["lo"] < expected < found.values["hi"]
    z = x[:, 0] - np.where(lab == "A", x[lab == "A", 0].mean(), x[lab == "B", 0].mean())
    seen = [z[kind & (lab == "A")].mean() - z[kind & (lab == "B")].mean(),
            z[~kind & (lab == "A")].mean() - z[~kind & (lab == "B")].mean()]  # fmt: skip
    if shares[0] != shares[1]:
        assert found.severity == "warning" and expected == pytest.approx(-2.4, abs=0.02)
        assert found.values["in_units"] == pytest.approx(np.mean(seen), abs=0.05)
        assert found.values["feature"] == 0
    else:
        assert found.severity == "fine"


def test_confounded_and_unknown_compositions():
    x, lab = labs(1.0)
    found = bn.findings(raw, {}, x, lab=lab, types=lab, batch_size=64, by="lab")
    assert found[0].severity == "error" and "told apart" in found[0].sentence
    found = bn.findings(raw, {}, x, lab=lab, batch_size=64, by="lab")
    assert "not known" in named(found, "composition").sentence


def test_later_layers_are_looked_at_behind_laboratories_frozen():
    """Catches layers frozen at the types of a laboratory where the laboratory is meant."""
    x, lab = labs(2.0)
    types = RNG.integers(0, 3, len(x))

    def net(model, x, norm):
        return norm("second", jnp.tanh(norm("first", x)) ** 2)

    given = {"lab": lab, "batch_size": 64, "by": "one_lab"}
    both = [bn.findings(net, {}, x, **given), bn.findings(net, {}, x, types=types, **given)]
    gaps = [[f.values["before"] for f in found if f.name == "mixed"] for found in both]
    assert len(gaps[0]) == 2 and gaps[0][0] > 1.9 > 0.2 > gaps[0][1]
    np.testing.assert_allclose(gaps[0], gaps[1], rtol=1e-4)


def test_rows_that_are_left_out_are_counted():
    """Against drawn mini-batches, which `enough_rows` looks at."""
    lab = np.repeat([0, 1, 2], [800, 150, 50])
    x = RNG.normal(size=(1000, 2)).astype("f4")
    found = named(bn.findings(raw, {}, x, lab=lab, batch_size=64, by="lab"), "few rows")
    draws = lab[RNG.integers(0, 1000, (4000, 64))]
    left = 1 - np.asarray(jax.vmap(lambda lab: bn.enough_rows(lab, 3))(draws))
    assert found.values["left_out"] == pytest.approx(left.mean(), abs=0.003)
    assert found.severity == "warning"
    many = named(bn.findings(raw, {}, x, lab=lab, batch_size=2048, by="lab"), "few rows")
    assert many.severity == "fine"


def test_how_rough_a_mini_batch_is():
    """Against drawn mini-batches of normal features."""
    x = RNG.normal(size=(1000, 2)).astype("f4")
    for size, severity in ((4, "warning"), (32, "fine"), (1, "error")):
        found = named(bn.findings(raw, {}, x, batch_size=size), "few rows")
        assert found.severity == severity
        if size == 32:
            rows = RNG.normal(size=(20_000, size))
            assert found.values["mean_error"] == pytest.approx(rows.mean(1).std(), rel=0.03)
            spread = rows.std(1)
            assert found.values["spread_error"] == pytest.approx(spread.std(), rel=0.05)


def test_constant_features_are_counted():
    x, lab = labs(0.0)
    x[:, 0] = 1e4
    x[lab == "Bern", 1] = 3.0
    found = named(bn.findings(raw, {}, x, lab=lab, batch_size=64), "constant")
    assert found.values["features"] == [0] and found.severity == "note"
    found = named(bn.findings(raw, {}, x, lab=lab, batch_size=64, by="lab"), "constant")
    assert found.values["features"] == [0, 1] and found.severity == "warning"
    x, _ = labs(0.0)
    assert named(bn.findings(raw, {}, x, batch_size=64), "constant").severity == "fine"


@pytest.mark.parametrize(
    "given",
    [
        {"by": "site"},
        {"by": "lab"},
        {"batch_size": 0},
        {"lab": ["a"]},
        {"fewest": 0},
        {"fewest": "a"},
    ],
)
def test_wrong_usage_is_told(given):
    with pytest.raises(UsageError):
        bn.findings(raw, {}, Z, **{"batch_size": 64, **given})


def test_percentages_are_readable():
    """Catches 1e+02 % and 8.2e-10 %."""
    x, lab = labs(0.0)
    for given in ({"batch_size": 1}, {"batch_size": 64}, {"batch_size": 512, "by": "lab"}):
        found = named(bn.findings(raw, {}, x, lab=lab, **given), "few rows")
        assert not re.search(r"\de[+-]", found.sentence), found.sentence


@pytest.mark.parametrize("given", [{"num_rows": -1}, {"num_rows": "a"}, {"seed": "a"}])
def test_wrong_samples_are_told(given):
    population = bn.population_statistics(raw, {}, Z)
    with pytest.raises(UsageError, match=f"{next(iter(given))} must be a whole number"):
        bn.conditioning(raw, {}, Z, population, **given)
