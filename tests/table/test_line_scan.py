"""The loss along a line, against parabolas whose curvature is known."""

from __future__ import annotations

import numpy as np
import pytest

from downslope.estimate import Estimate
from downslope.table.evidence.line_scan import (
    STRAIGHT,
    hessian_program,
    random_direction,
    scan_line,
)
from downslope.table.evidence.line_scan import sharpest_direction as sharpest


def estimate(values):
    return Estimate(value=values.mean(), lo=values.min(), hi=values.max(), unit="")


def test_the_product_of_a_quartic():
    """Catches a product with the gradient, and one that is scaled. Truth: H = 12 diag(c p^2)."""
    c = np.array([1.0, 2.0, 3.0], np.float32)
    point = np.array([1.0, -1.0, 2.0], np.float32)
    product = hessian_program(lambda p, c: (c * p**4).sum(), point, c)
    assert np.asarray(product([1.0, 1.0, 1.0])).tolist() == [12.0, 24.0, 144.0]
    assert np.asarray(product([0.0, 2.0, 0.0])).tolist() == [0.0, 48.0, 0.0]


def test_the_sharpest_of_a_turned_bowl():
    """Catches the smallest eigenvalue, the largest by size, and a vector of another length."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    values = np.linspace(-9.0, 1.0, 30)
    values[3] = 5.0
    matrix = turn @ np.diag(values) @ turn.T
    direction, curvature = sharpest(lambda v: matrix @ v, 30, num_products=30)
    assert curvature == pytest.approx(5.0, rel=1e-9)
    assert abs(direction @ turn[:, 3]) == pytest.approx(1.0, abs=1e-9)
    assert np.linalg.norm(direction) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        (lambda v: 0.0 * v, STRAIGHT),
        (lambda v: -2.0 * v, "bends down"),
        (lambda v: np.nan * v, "not finite"),
    ],
)
def test_where_there_is_no_sharpest(product, reason):
    """Catches a direction drawn from rounding."""
    found = sharpest(product, 5, num_products=5)
    assert isinstance(found, str)
    assert reason in found


def test_a_random_direction():
    one, other = (random_direction(1000, seed=seed) for seed in (0, 1))
    assert np.linalg.norm(one) == pytest.approx(1.0)
    assert abs(one @ other) < 0.15
    assert abs(one.mean()) < 0.005  # of both signs


def bowl(x):
    """Losses of rows x: 3 + (p_0 - 3)^2 + 4 x (p_1 - 4)^2."""
    return lambda p: 3.0 + (p[0] - 3) ** 2 + 4 * x * (p[1] - 4) ** 2


def test_a_parabola():
    """Catches positions in the wrong unit, a reach or a curvature off by a factor."""
    x, point = np.array([0.5, 1.5]), np.array([3.0, 4.0])  # norm 5; curvatures 2 and 8
    found = scan_line(bowl(x), point, np.array([0.0, 1.0]), estimate=estimate, curvature=8.0)
    reach = np.sqrt(2 * 3 / 8)  # there a parabola has risen by the loss at the point, 3
    assert found["positions"][0] == pytest.approx(-reach / 5)
    assert found["positions"][10] == 0
    assert found["losses"][0] == pytest.approx(6.0)
    assert found["losses"][-1] == pytest.approx(6.0)
    assert found["losses"][10] == pytest.approx(3.0)
    np.testing.assert_allclose(found["losses"], 3 + 4 * (5 * np.array(found["positions"])) ** 2)
    # the rows' own curvatures are 4 and 12, and so are the ends of this estimate
    assert list(found["curvature"].values()) == pytest.approx([8.0, 4.0, 12.0])
    assert found["lo"][0] == pytest.approx(3 + 2 * reach**2)
    other = scan_line(bowl(x), point, np.array([1.0, 0.0]), estimate=estimate, curvature=8.0)
    assert other["positions"] == found["positions"]  # so that both can be drawn together
    assert other["curvature"]["value"] == pytest.approx(2.0)


def test_the_reach_is_bounded():
    """Catches a line of no length, and one that leaves all sense behind."""
    x, point = np.ones(2), np.array([3.0, 4.0])
    for curvature, reach in ((1e-9, 1.0), (1e9, 1e-3), (None, 0.5)):
        found = scan_line(
            bowl(x), point, np.array([0.0, 1.0]), estimate=estimate, curvature=curvature
        )
        assert found["positions"][-1] == pytest.approx(reach)
    nowhere = scan_line(bowl(x), np.zeros(2), np.array([0.0, 1.0]), estimate=estimate)
    assert nowhere["positions"][-1] == 0.5  # in parameters, where their norm is 0
    assert len(nowhere["losses"]) == 21
