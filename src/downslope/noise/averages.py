"""How long the moving averages inside an optimizer remember, and when AdaGrad stalls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.ranges import (
    as_measurement,
    count,
    not_negative,
    positive,
    share_below_one,
)

ZETA_HALF = -1.4603545088095868  # Riemann's zeta at 1/2


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Five lengths of an exponential moving average a <- rho a + (1 - rho) x; none is the other.

    Attributes:
        decay: rho.
        time_constant: M = 1/(1 - rho) steps.
        mean_age: rho/(1 - rho) = M - 1 steps, of the weight.
        half_life: ln(1/2)/ln(rho) steps until a value weighs half.
        weight_inside: share of the weight on the last M steps, 1 - rho^M, near 1 - 1/e.
        equivalent_samples: (1 + rho)/(1 - rho): independent values whose plain mean has the same
            variance.
        half_life_epochs: the half-life in epochs, where their length is known.
    """

    decay: float
    time_constant: float
    mean_age: float
    half_life: float
    weight_inside: float
    equivalent_samples: float
    half_life_epochs: float | None

    def __str__(self) -> str:
        epochs = "" if self.half_life_epochs is None else f" ({self.half_life_epochs:.3g} epochs)"
        return (
            f"half-life {self.half_life:.3g} steps{epochs}, worth "
            f"{self.equivalent_samples:.3g} independent samples"
        )


def memory(decay: float, steps_per_epoch: float | None = None) -> Memory:
    """The five lengths of one moving average.

    Args:
        decay: rho, 0 or more and below 1.
        steps_per_epoch: for the half-life in epochs.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> print(memory(0.99, steps_per_epoch=50))
        half-life 69 steps (1.38 epochs), worth 199 independent samples
    """
    rho = share_below_one("decay", decay)
    if steps_per_epoch is not None:
        positive("steps_per_epoch", steps_per_epoch)
    constant = 1 / (1 - rho)
    half_life = math.log(0.5) / math.log(rho) if rho > 0 else 0.0
    return Memory(
        decay=rho,
        time_constant=constant,
        mean_age=rho / (1 - rho),
        half_life=half_life,
        weight_inside=-math.expm1(constant * math.log(rho)) if rho > 0 else 1.0,
        equivalent_samples=(1 + rho) / (1 - rho),
        half_life_epochs=None if steps_per_epoch is None else half_life / steps_per_epoch,
    )


def memories(
    decays: Mapping[str, float], steps_per_epoch: float | None = None
) -> dict[str, Memory]:
    """The lengths of every moving average in an optimizer, by name.

    Example:
        >>> for name, length in memories({"b1": 0.9, "b2": 0.999}, steps_per_epoch=100).items():
        ...     print(name, length)
        b1 half-life 6.58 steps (0.0658 epochs), worth 19 independent samples
        b2 half-life 693 steps (6.93 epochs), worth 2e+03 independent samples
    """
    found = {}
    for name, decay in decays.items():
        share_below_one(f"decays[{name!r}]", decay)
        found[name] = memory(decay, steps_per_epoch)
    return found


def bias_correction(decay: float, num_steps: int) -> float:
    """What an average that began at 0 must be divided by after t steps: 1 - rho^t.

    Example:
        >>> round(bias_correction(0.9, 1), 12)
        0.1
    """
    rho, steps = share_below_one("decay", decay), count("num_steps", num_steps)
    return -math.expm1(steps * math.log(rho)) if rho > 0 else 1.0


def uncorrected_first_step(b1: float, b2: float) -> float:
    """Length of Adam's first step without bias correction, in steps with it: (1-b1)/sqrt(1-b2).

    Example:
        >>> round(uncorrected_first_step(0.9, 0.999), 2)
        3.16

    Source: Kingma and Ba 2015.
    """
    return (1 - share_below_one("b1", b1)) / math.sqrt(1 - share_below_one("b2", b2))


def warmup_steps(b2: float) -> float:
    """Steps of a linear warm-up for Adam that needs no tuning: 2/(1 - b2).

    Example:
        >>> round(warmup_steps(0.999))
        2000

    Source: Ma and Yarats 2021.
    """
    return 2 / (1 - share_below_one("b2", b2))


def adagrad_path_length(learning_rate: float, num_steps: int) -> float:
    """How far AdaGrad travels under a gradient of constant size: eta sum of k^(-1/2), k <= t.

    Close to 2 eta sqrt(t): it slows down without bound to the distance, it does not stop.

    Args:
        learning_rate: eta > 0, here in units of the parameter.
        num_steps: t.

    Example:
        >>> round(adagrad_path_length(1.0, 10_000), 1)
        198.5

    Source: Duchi, Hazan and Singer 2011; the sum by Euler and Maclaurin.
    """
    rate, t = positive("learning_rate", learning_rate), count("num_steps", num_steps)
    if t <= 100:
        return rate * math.fsum(k**-0.5 for k in range(1, t + 1))
    return rate * (2 * math.sqrt(t) + ZETA_HALF + 0.5 / math.sqrt(t) - t**-1.5 / 24)


def adagrad_accumulator(phases: Sequence[tuple[int, float]]) -> float:
    """AdaGrad's sum of squared gradients after phases of (number of steps, size of gradient).

    Example:
        >>> round(adagrad_accumulator([(100, 10.0), (1900, 0.1)]), 9)
        10019.0
    """
    return math.fsum(steps * size**2 for steps, size in _phases(phases))


def rmsprop_accumulator(phases: Sequence[tuple[int, float]], decay: float) -> float:
    """RMSProp's mean of squared gradients after such phases, from 0 and not bias-corrected.

    Example:
        >>> round(rmsprop_accumulator([(100, 10.0), (921, 0.1)], 0.99), 3)
        0.016
    """
    rho, total = share_below_one("decay", decay), 0.0
    for steps, size in _phases(phases):
        total = size**2 + (total - size**2) * rho**steps
    return total


def steps_to_double(accumulator: float, gradient_square: float) -> float:
    """Steps until AdaGrad's accumulator has doubled at the present squared gradient: A / g^2.

    Infinite for a gradient of 0.

    Example:
        >>> round(steps_to_double(100 * 10.0**2, 0.1**2))
        1000000
    """
    not_negative("accumulator", accumulator)
    not_negative("gradient_square", gradient_square)
    return accumulator / gradient_square if gradient_square > 0 else math.inf


def rmsprop_forgetting_steps(drop: float, decay: float) -> float:
    """Steps until RMSProp has forgotten gradients `drop` times larger: M ln(drop^2).

    Then what is left of the old square equals the new one.

    Args:
        drop: old size of the gradient over the new, 1 or more.
        decay: rho.

    Example:
        >>> round(rmsprop_forgetting_steps(100, 0.99))
        921
    """
    if not (math.isfinite(drop) and drop >= 1):
        raise UsageError(f"drop must be finite and 1 or more; got {drop}")
    return 2 * math.log(drop) / (1 - share_below_one("decay", decay))


def stall_ratio(accumulator: float, gradient_square: float | Estimate, steps_left: int) -> Estimate:
    """Whether AdaGrad stalls: steps to double the accumulator over steps left, A/(g^2 T_left).

    Above 1 the step size falls by less than sqrt(2) in all that is left of the run: the
    optimizer still lives on the gradients of the past.

    Args:
        accumulator: A, AdaGrad's sum of squared gradients.
        gradient_square: g^2 at present, in the accumulator's unit; a measurement keeps its
            interval, and where that holds 0 only a lower bound comes back.
        steps_left: T_left.

    Raises:
        UsageError: a negative accumulator, gradient square given as a float, or number of steps.

    Example:
        >>> stall = stall_ratio(10_019, 0.01, 5000)
        >>> print(stall, stall.flags)
        200 ('stalled: old gradients rule the step size to the end of the run',)
    """
    not_negative("accumulator", accumulator)
    left = count("steps_left", steps_left, 0)
    if not isinstance(gradient_square, Estimate) and gradient_square < 0:
        raise UsageError(f"gradient_square must be 0 or more; got {gradient_square}")
    square = as_measurement(gradient_square, unit="")
    method = "accumulator / (squared gradient * steps left)"

    def ratio(value: float | None) -> float | None:
        quotient = accumulator / value / left if value is not None and value > 0 else math.inf
        return quotient if math.isfinite(quotient) else None

    if left == 0:
        return not_estimable("no steps are left", unit="")
    if square.value is None and square.hi is None:
        return not_estimable(f"squared gradient: {square.reason}", unit="")
    lo, hi = ratio(square.hi), ratio(square.lo)
    if square.value is None or ratio(square.value) is None or (square.lo or 1.0) <= 0:
        reason = "the squared gradient is not told from 0"
        if lo is None:
            return not_estimable(reason, unit="")
        return Estimate(value=None, lo=lo, unit="", method=method, reason=reason)
    value = ratio(square.value)
    assert value is not None  # checked above
    flags = tuple(square.flags)
    if value > 1:
        flags += ("stalled: old gradients rule the step size to the end of the run",)
    return Estimate(
        value=value, lo=lo, hi=hi, unit="", num_examples=square.num_examples,
        num_steps=square.num_steps, method=method, flags=flags,
    )  # fmt: skip


def _phases(phases: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [
        (count("number of steps in phases", steps, 0), not_negative("gradient in phases", size))
        for steps, size in phases
    ]
