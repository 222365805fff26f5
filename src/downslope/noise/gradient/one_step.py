"""Change of the full loss over one step of SGD, on its local quadratic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import number, whole
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.scale.examples import with_products
from downslope.noise.statistics.arrays import HessianProduct
from downslope.noise.statistics.sample import Sample, read_sample

NUM_PAIRS = 4000  # draws and their mirror images: the chance is then good to about 0.006
NUM_GROUPS = 10  # of the jackknife over groups of examples


@dataclass(frozen=True, kw_only=True)
class OneStep:
    """Change of the full loss over one step.

    Attributes:
        change: its expectation, in units of the loss; negative if the step helps.
        probability_up: chance that this one step raises the full loss.
    """

    change: Estimate
    probability_up: Estimate


def one_step_change(
    gradients: ArrayLike,
    hessian_product: HessianProduct,
    *,
    learning_rate: float,
    batch_size: int,
    batched: bool = False,
    seed: int = 0,
) -> OneStep:
    """Expected change of the full loss over one step of plain SGD, and the chance of a rise.

    E change = -eta |G|^2 + (eta^2/2)(G^T H G + tr(H Sigma)/B), each term unbiased. The chance is
    that of change > 0 for a Gaussian batch gradient of covariance Sigma/B, drawn in the span of
    the examples: it counts how the noise's directions and the curvature's lie to each other, so
    it holds at any effective rank. Its interval is from a jackknife over 10 groups of examples.

    Valid while the step stays where the loss is quadratic, for batches drawn independently of a
    data set much larger than B, and with n well above the noise scale over B.

    Args:
        gradients: [n, d], n >= 20, independent draws of one example's gradient.
        hessian_product: maps v [d] to H v [d], H the Hessian of the mean loss; n + 1 products.
        learning_rate: eta, above 0.
        batch_size: B, at least 1.
        batched: hessian_product maps [k, d] to [k, d] instead.
        seed: of the draws behind the chance.

    Example:
        >>> rng = np.random.default_rng(0)  # H = 1, |G| = 1, variance 4 at B = 1: a rise if
        >>> g = 1 + 2 * rng.normal(size=(400, 1))  # |1 - 0.5 g| > 1, which is g < 0 or g > 4
        >>> step = one_step_change(g, lambda v: v, learning_rate=0.5, batch_size=1)
        >>> print(step.change, "|", step.probability_up)
        0.18 (0.02 to 0.33) loss | 0.41 (0.31 to 0.52) probability

    Source: Bottou, Curtis and Nocedal (2018), Optimization methods for large-scale machine
    learning, equation 4.4, with equality on a quadratic.
    """
    number("learning_rate", learning_rate, above=0)
    whole("batch_size", batch_size)
    found = read_sample(gradients)
    if not isinstance(found, str) and found.num < 2 * NUM_GROUPS:
        found = f"{found.num} examples: at least {2 * NUM_GROUPS} are needed"
    weighted = found
    if not isinstance(found, str):
        weighted = with_products(found, hessian_product, batched=batched)
    if isinstance(found, str) or isinstance(weighted, str):
        change, up = (not_estimable(str(weighted), unit=u) for u in ("loss", "probability"))
        return OneStep(change=change, probability_up=up)
    return OneStep(
        change=_change(found, weighted, learning_rate, batch_size),
        probability_up=_probability_up(found, weighted, learning_rate, batch_size, seed),
    )


def _change(plain: Sample, weighted: Sample, rate: float, batch: int) -> Estimate:
    half = rate**2 / 2
    value = -rate * plain.signal + half * (weighted.signal + weighted.trace / batch)
    influence = -2 * rate * plain.along + half * (2 * weighted.along + weighted.squares / batch)
    error = float(influence.std(ddof=1)) / plain.num**0.5
    reach = t_quantile(plain.num - 1) * error
    return Estimate(
        value=value, lo=value - reach, hi=value + reach, unit="loss", num_examples=plain.num,
        method="unbiased moments of per-example gradients; linearised",
    )  # fmt: skip


def _probability_up(
    plain: Sample, weighted: Sample, rate: float, batch: int, seed: int
) -> Estimate:
    n, is_tall = plain.num, plain.mean.size < plain.num
    num_directions = plain.mean.size if is_tall else n
    draws = np.random.default_rng(seed).standard_normal((NUM_PAIRS, num_directions))
    value = _share_up(plain, weighted, draws, rate, batch)
    group = np.random.default_rng(seed + 1).permutation(n) % NUM_GROUPS
    without = np.empty(NUM_GROUPS)
    for k in range(NUM_GROUPS):
        rows = np.flatnonzero(group != k)
        # the same draws, so that groups differ by their examples alone
        some = draws if is_tall else draws[:, rows]
        without[k] = _share_up(plain.kept(rows), weighted.kept(rows), some, rate, batch)
    named: dict[str, Any] = dict(
        unit="probability", num_examples=n,
        method="Gaussian batch gradients drawn on the local quadratic; jackknife over groups",
    )  # fmt: skip
    if not (0 < value < 1 and (without > 0).all() and (without < 1).all()):
        flag = f"no interval: of {2 * NUM_PAIRS} draws all or none went up"
        return Estimate(value=value, flags=(flag,), **named)
    odds = np.log(without / (1 - without))
    of_draws = 0.5 / (NUM_PAIRS * value * (1 - value))  # variance of the log odds, mirrored pairs
    error = math.sqrt((NUM_GROUPS - 1) * float(odds.var()) + of_draws)
    reach = t_quantile(NUM_GROUPS - 1) * error
    centre = math.log(value / (1 - value))
    lo, hi = (1 / (1 + math.exp(-min(max(x, -700), 700))) for x in (centre - reach, centre + reach))
    return Estimate(value=value, lo=lo, hi=hi, **named)


def _share_up(plain: Sample, weighted: Sample, draws: np.ndarray, rate: float, batch: int) -> float:
    """Share of the draws and their mirror images that raise the loss.

    With x = R z/sqrt(B), z standard normal and R R^T = S the sample covariance, the change is
    -eta |G|^2 + (eta^2/2) G^T H G + (-eta G + eta^2 H G)^T x + (eta^2/2) x^T H x.
    """
    line, bend = _rooted(plain, weighted, rate)
    linear = draws @ line / math.sqrt(batch)
    bent = np.einsum("ij,ij->i", draws @ bend, draws) / batch
    even = -rate * plain.signal + rate**2 / 2 * (weighted.signal + bent)
    return float(((even + linear > 0).mean() + (even - linear > 0).mean()) / 2)


def _rooted(plain: Sample, weighted: Sample, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """R^T(-eta G + eta^2 H G) and R^T H R for a root R of S that moves smoothly with the sample.

    With fewer parameters than examples the symmetric root, otherwise C^T/sqrt(n - 1), C the
    centred gradients.
    """
    along = -rate * plain.along + rate**2 * weighted.along
    if plain.mean.size >= plain.num:
        return along / math.sqrt(plain.num - 1), weighted.gram
    left, sizes, right = np.linalg.svd(plain.centred, full_matrices=False)
    turn = right.T @ left.T  # takes C to its symmetric root
    inner = (sizes[:, None] * right) @ weighted.products.T @ left / (plain.num - 1)
    return turn @ along / math.sqrt(plain.num - 1), right.T @ inner @ right
