"""Memory of the moving averages inside an optimizer, and stalls of AdaGrad."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from downslope.arguments import number, whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.intervals import as_estimate


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of an exponential moving average a <- rho a + (1 - rho) x, by four measures.

    Attributes:
        decay: rho.
        time_constant: M = 1/(1 - rho) steps.
        mean_age: rho/(1 - rho) = M - 1 steps, of the weight.
        half_life: ln(1/2)/ln(rho) steps until a value weighs half.
        equivalent_samples: (1 + rho)/(1 - rho): independent values whose plain mean has the same
            variance.
        half_life_epochs: the half-life in epochs, where their length is known.
    """

    decay: float
    time_constant: float
    mean_age: float
    half_life: float
    equivalent_samples: float
    half_life_epochs: float | None

    def __str__(self) -> str:
        epochs = "" if self.half_life_epochs is None else f" ({self.half_life_epochs:.3g} epochs)"
        return (
            f"half-life {self.half_life:.3g} steps{epochs}, equivalent to a mean of "
            f"{self.equivalent_samples:.3g} independent steps"
        )


def memory(decay: float, steps_per_epoch: float | None = None) -> Memory:
    """Memory of one moving average.

    Args:
        decay: rho, 0 or more and below 1.
        steps_per_epoch: for the half-life in epochs.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> print(memory(0.99, steps_per_epoch=50))
        half-life 69 steps (1.38 epochs), equivalent to a mean of 199 independent steps
    """
    rho = number("decay", decay, least=0, below=1)
    if steps_per_epoch is not None:
        number("steps_per_epoch", steps_per_epoch, above=0)
    half_life = math.log(0.5) / math.log(rho) if rho > 0 else 0.0
    return Memory(
        decay=rho,
        time_constant=1 / (1 - rho),
        mean_age=rho / (1 - rho),
        half_life=half_life,
        equivalent_samples=(1 + rho) / (1 - rho),
        half_life_epochs=None if steps_per_epoch is None else half_life / steps_per_epoch,
    )


def stall_ratio(accumulator: float, gradient_square: float | Estimate, steps_left: int) -> Estimate:
    """Steps until AdaGrad's accumulator doubles over steps left, A/(g^2 T_left): above 1 it stalls.

    Above 1 the step size falls by less than sqrt(2) over the rest of the run, and old gradients
    determine it.

    Args:
        accumulator: A, AdaGrad's sum of squared gradients.
        gradient_square: g^2 at present, in the accumulator's unit. The interval of an estimate
            is kept; where that holds 0, only a lower bound is returned.
        steps_left: T_left.

    Raises:
        UsageError: a negative accumulator, gradient square given as a float, or number of steps.

    Example:
        >>> stall = stall_ratio(10_019, 0.01, 5000)
        >>> print(stall, stall.flags)
        200 ('stalled: old gradients rule the step size to the end of the run',)
    """
    number("accumulator", accumulator, least=0)
    left = whole("steps_left", steps_left, least=0)
    if not isinstance(gradient_square, Estimate) and gradient_square < 0:
        raise UsageError(f"gradient_square must be 0 or more; got {gradient_square}")
    square = as_estimate(gradient_square, unit="")
    method = "accumulator / (squared gradient * steps left)"

    def ratio(value: float | None) -> float | None:
        quotient = accumulator / value / left if value is not None and value > 0 else math.inf
        return quotient if math.isfinite(quotient) else None

    if left == 0:
        return not_estimable("no steps are left", unit="")
    if square.value is None and square.hi is None:
        return not_estimable(f"squared gradient: {square.reason}", unit="")
    value, lo, hi = ratio(square.value), ratio(square.hi), ratio(square.lo)
    if value is None or (square.lo or 1.0) <= 0:
        reason = "the squared gradient cannot be told from 0"
        if lo is None:
            return not_estimable(reason, unit="")
        return Estimate(value=None, lo=lo, unit="", method=method, reason=reason)
    found = dataclasses.replace(square, value=value, lo=lo, hi=hi, unit="", method=method)
    stalled = "stalled: old gradients rule the step size to the end of the run"
    return found.flagged(stalled) if value > 1 else found
