"""The check of a design, and the linear model with batch and condition together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from downslope import DataError, UsageError
from downslope.recipes.batch_effect import BatchEffect, check_design, effects


def eighty_twenty(cells: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Two labs, two conditions, 80 % of either in its own lab: phi = .6."""
    lab = np.repeat(["A", "B"], cells)
    few = cells // 5
    treated = np.r_[np.ones(cells - few), np.zeros(few), np.ones(few), np.zeros(cells - few)]
    return lab, treated.astype(int)


def test_closed_forms_of_the_80_20_design():
    """Catches R for R2 in either number. Truth: phi = .6, VIF = 1/(1 - .36), 1 - .36 kept."""
    found = check_design(*eighty_twenty())
    (contrast,) = found.contrasts
    assert contrast.vif == pytest.approx(1.5625)
    assert contrast.kept_by_centring == pytest.approx(0.64)
    assert found.raw_cramers_v == pytest.approx(0.6)
    assert found.cramers_v.value == pytest.approx(0.6, abs=0.01)
    assert (found.rank, found.num_columns, found.estimable) == (3, 3, True)


@pytest.mark.parametrize("pairs", [("x", "y"), ("x", "y", "z", "w")])
def test_a_fully_confounded_design_is_refused(pairs):
    """Catches a pseudo-inverse that answers all the same. Rank: one short for each condition."""
    lab = np.repeat([f"lab {p}" for p in pairs], 10)
    condition = np.repeat(pairs, 10)
    found = check_design(lab, condition)
    assert not found.estimable and found.vif is None
    assert found.rank == len(pairs) and found.num_columns == 2 * len(pairs) - 1
    assert {c.kept_by_centring for c in found.contrasts} == {0.0 if len(pairs) == 2 else None}
    assert "no method can" in str(found)
    y = np.random.default_rng(0).normal(size=(len(lab), 3))
    with pytest.raises(UsageError, match="no method can"):
        effects(y, lab, condition, of=pairs[1], against=pairs[0])
    with pytest.raises(UsageError, match="'condition' is told by the batch"):
        BatchEffect().fit(y, batch=lab, covariates={"condition": condition})


def test_conditions_that_meet_through_a_third_are_estimable():
    """Catches a test for shared batches: x and z never meet, but both meet y."""
    lab = np.repeat(["A", "B"], 20)
    chain = np.repeat(["x", "y", "y", "z"], 10)
    assert all(c.estimable for c in check_design(lab, chain).contrasts)
    apart = np.repeat(["x", "y", "z", "w"], 10)
    by_pair = {
        frozenset((c.of, c.against)): c.estimable for c in check_design(lab, apart).contrasts
    }
    assert by_pair[frozenset("xy")] and by_pair[frozenset("zw")]
    assert sum(by_pair.values()) == 2


def test_what_centring_leaves_is_what_centring_leaves():
    """Catches a formula that holds for even designs only. Truth: noise-free data, centred."""
    rng = np.random.default_rng(1)
    lab = rng.integers(0, 4, 300)
    condition = (rng.random(300) < np.array([0.9, 0.5, 0.3, 0.05])[lab]).astype(int)
    y = 2.5 * condition + np.array([5.0, -3, 8, 0])[lab]
    for each in range(4):
        y[lab == each] -= y[lab == each].mean()
    left = y[condition == 1].mean() - y[condition == 0].mean()
    (contrast,) = check_design(lab, condition).contrasts
    assert 2.5 * contrast.kept_by_centring == pytest.approx(left)
    # for two conditions variance inflation is its reciprocal
    assert contrast.vif == pytest.approx(1 / contrast.kept_by_centring)


def test_cramers_v_is_corrected_for_few_cells():
    """Catches the raw V, which 50 cells in 5 x 5 put at .28 on average though nothing is there."""
    rng = np.random.default_rng(0)
    found = [check_design(rng.integers(0, 5, 50), rng.integers(0, 5, 50)) for _ in range(40)]
    assert np.mean([f.raw_cramers_v for f in found]) == pytest.approx(0.28, abs=0.02)
    assert np.mean([f.cramers_v.value for f in found]) == pytest.approx(0.07, abs=0.04)


@pytest.mark.parametrize("v", [0.0, 0.3, 0.8])
def test_the_interval_of_v_holds_the_truth(v):
    """Catches intervals of the uncorrected V. Nominal 95 %; the bootstrap of a bound gives more."""
    rng = np.random.default_rng(2)
    table = np.array([[1 + v, 1 - v], [1 - v, 1 + v]]) / 4
    held = 0
    for _ in range(100):
        cells = rng.choice(4, 150, p=table.ravel())
        found = check_design(cells % 2, cells // 2).cramers_v
        held += found.lo - 1e-9 <= v <= found.hi + 1e-9
    assert held >= 88


def test_a_number_as_a_covariate_may_confound():
    """Catches covariates that are left out of the design."""
    lab, treated = eighty_twenty()
    found = check_design(lab, treated, covariates={"dose": 3.0 * treated + (lab == "B")})
    assert not found.estimable
    age = np.random.default_rng(0).normal(size=200)
    assert check_design(lab, treated, covariates={"age": age}).estimable


@pytest.mark.parametrize(
    ("batch", "condition", "error"),
    [
        (["a"] * 4, [0, 1, 0, 1], UsageError),
        (["a", "b"], [0, 1, 1], UsageError),
        (["a", "b", None], [0, 1, 1], DataError),
        (["a", "b", "b"], [0, 1, np.nan], DataError),
        ([["a", "b"]], [0, 1], UsageError),
    ],
)
def test_labels_that_cannot_be_used(batch, condition, error):
    with pytest.raises(error):
        check_design(batch, condition)


def test_two_cells():
    """Catches a division by zero: there V has no value, and says why."""
    found = check_design([0, 1], [0, 1])
    assert found.cramers_v.value is None and "2 cells" in str(found)


# -- the linear model -------------------------------------------------------------------------


def test_effects_against_a_dense_regression():
    """Catches a wrong degree of freedom or centring. Oracle: least squares on dummy columns."""
    rng = np.random.default_rng(3)
    lab, treated = eighty_twenty(40)
    age = rng.normal(size=80)
    y = rng.normal(size=(80, 4)) + np.outer(treated, [1, 0, 2, 3]) + 5.0 * (lab == "B")[:, None]
    y += 1e4  # raw sums of squares would lose half of the digits
    found = effects(y, lab, treated, covariates={"age": age})
    design = np.stack([np.ones(80), treated, lab == "B", age], axis=1).astype(float)
    beta, squares, _, _ = np.linalg.lstsq(design, y, rcond=None)
    error = np.sqrt(squares / 76 * np.linalg.inv(design.T @ design)[1, 1])
    np.testing.assert_allclose(found.effect, beta[1], atol=1e-8)
    np.testing.assert_allclose(found.hi - found.effect, stats.t.ppf(0.975, 76) * error, rtol=1e-6)
    np.testing.assert_allclose(
        found.p_value, 2 * stats.t.sf(np.abs(beta[1] / error), 76), rtol=1e-6, atol=1e-12
    )
    assert found.degrees_of_freedom == 76


def test_effects_before_after_and_centred_have_their_closed_forms():
    """Truth: with batch delta, in 95 % of intervals; without, delta + phi gap; centred (1 - phi2).

    Catches intervals that forget the batches' degrees of freedom or their share of the variance.
    """
    rng = np.random.default_rng(4)
    lab, treated = eighty_twenty(50)
    y = rng.normal(size=(100, 4000)) + 1.0 * treated[:, None] - 4.0 * (lab == "B")[:, None]
    found = effects(y, lab, treated)
    assert found.effect.mean() == pytest.approx(1.0, abs=0.02)
    assert found.before.mean() == pytest.approx(1 + 0.6 * 4, abs=0.02)
    np.testing.assert_allclose(found.centred, 0.64 * found.effect, rtol=1e-9)
    assert ((found.lo < 1) & (found.hi > 1)).mean() == pytest.approx(0.95, abs=0.015)
    assert ((found.before_lo < 1) & (found.before_hi > 1)).mean() < 0.01
    assert found.effect.var() == pytest.approx(1 / (100 * 0.25 * 0.64), rel=0.1)


def test_a_pair_of_several_conditions():
    """Catches a contrast of the wrong sign or place. Truth: the planted levels."""
    rng = np.random.default_rng(5)
    lab, condition = rng.integers(0, 3, 600), rng.choice(["a", "b", "c"], 600)
    level = {"a": 0.0, "b": 1.0, "c": 5.0}
    y = np.array([level[c] for c in condition])[:, None] + 0.01 * rng.normal(size=(600, 1))
    for of, against in (("c", "b"), ("b", "c"), ("a", "c"), ("b", "a")):
        found = effects(y + lab[:, None], lab, condition, of=of, against=against)
        assert found.effect[0] == pytest.approx(level[of] - level[against], abs=0.01)
    with pytest.raises(UsageError, match="of must be one of the 3 conditions"):
        effects(y, lab, condition)


def test_a_constant_gene_and_too_few_rows():
    lab, treated = eighty_twenty(10)
    found = effects(np.full((20, 1), 7.0), lab, treated)
    assert (found.effect, found.lo, found.hi, found.p_value) == (0, 0, 0, 1)
    with pytest.raises(DataError, match="3 rows for 3 parameters"):
        effects(np.eye(3), ["A", "A", "B"], [0, 1, 1])


def test_a_third_condition_leaves_no_share_to_tell():
    """Catches a share that forgets the third condition: it said .925 where centring leaves -.5."""
    lab = np.r_[np.zeros(300), np.ones(300)]
    condition = np.repeat(["a", "b", "c", "a", "b", "c"], [200, 50, 50, 50, 50, 200])
    y = np.array([{"a": 0.0, "b": 1.0, "c": 10.0}[c] for c in condition])[:, None]
    found = effects(y, lab, condition, of="b", against="a")
    assert found.effect[0] == pytest.approx(1)
    centred = y[:, 0] - np.array([y[lab == each].mean() for each in (0, 1)])[lab.astype(int)]
    left = centred[condition == "b"].mean() - centred[condition == "a"].mean()
    assert found.centred[0] == pytest.approx(left) == pytest.approx(-0.5)
    assert found.kept_by_centring is None
    assert "centring" not in str(found) + str(check_design(lab, condition))


def test_a_covariate_leaves_no_share_to_tell():
    """Catches a share beside a covariate, whose own effect centring moves as well."""
    lab, treated = eighty_twenty()
    age = 2.0 * (lab == "B") + treated + np.random.default_rng(0).normal(size=200)
    found = effects(treated[:, None] + 5 * age[:, None], lab, treated, covariates={"age": age})
    assert found.effect[0] == pytest.approx(1) and abs(found.centred[0] - 0.64) > 0.2
    assert found.kept_by_centring is None


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (None, "condition must be .* got None"),
        (np.random.default_rng(0).normal(size=200), r"the 200 conditions \(.*, \.\.\.\)"),
        (np.array([1, "a"] * 100, object), "labels of one kind; got int and str"),
    ],
)
def test_conditions_that_are_none(condition, says):
    """Catches an assertion, a line of 200 numbers, and a bare TypeError."""
    with pytest.raises(UsageError, match=says) as told:
        effects(np.eye(200), eighty_twenty()[0], condition)
    assert len(str(told.value)) < 250


def test_missing_labels_of_pandas():
    """Catches the truth value of NA, which is none."""
    pd = pytest.importorskip("pandas")
    lab = pd.Series(["a", "b", pd.NA, "b"], dtype="string")
    with pytest.raises(DataError, match="column 'batch', row 3: missing label"):
        check_design(lab, [0, 1, 0, 1])
    y, lab, dose = np.eye(4), [0, 0, 1, 1], pd.Series([1, 2, pd.NA, 4], dtype="Int64")
    with pytest.raises(DataError, match="column 'dose', row 3: missing"):
        BatchEffect().fit(y, batch=lab, covariates={"dose": dose})
    found = BatchEffect().fit(np.r_[y, y], batch=lab * 2, covariates={"dose": [1.0, 2, 1, 2] * 2})
    with pytest.raises(DataError, match="column 'dose', row 3: missing"):
        found.transform(y, batch=lab, covariates={"dose": dose})
    with pytest.raises(UsageError, match="'dose' must be numbers"):
        found.transform(y, batch=lab, covariates={"dose": list("abcd")})
