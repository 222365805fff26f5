"""How long SGD takes from one minimum to another along a measured path.

The answer hangs on the noise: constant noise gives exp(barrier / temperature), noise in
proportion to the loss only a power of the loss ratio. So the noise model is part of the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.escape.first_passage import (
    Landscape,
    checked_ends,
    kramers_time,
    landscape,
    log_passage_time,
)
from downslope.noise.statistics.ranges import Floats, array, one_of, positive
from downslope.noise.temperature.dynamics import Sampling, population_factor

NoiseModel = Literal["constant", "proportional to loss", "measured"]
MODELS = ("constant", "proportional to loss", "measured")
LOW_BARRIER = 4.0  # barriers over temperature below which Kramers' formula fails
COARSE = 0.1  # relative change of the time from dropping every second point of the path
ONE_LINE = "one dimension: the motion off the path is not counted"
HALF_WELL = (
    "the path has no rise behind the start: a wall there may make the time 2 times too short"
)


@dataclass(frozen=True, kw_only=True)
class EscapeTime:
    """Mean time to the target, the model behind it and the shape of the path.

    Attributes:
        time: in units of learning rate * steps.
        steps: time / learning_rate.
        noise_model: "constant", "proportional to loss" or "measured".
        barrier: highest loss between start and target, minus the loss at the start.
        barrier_over_temperature: integral of V'/D up to there: the exponent of the time for
            constant noise.
        kramers_steps: Kramers' formula, for constant noise between two wells.
    """

    time: Estimate
    steps: Estimate
    noise_model: NoiseModel
    barrier: float | None
    barrier_over_temperature: float | None
    kramers_steps: Estimate

    def __str__(self) -> str:
        return f"{self.steps}, noise model: {self.noise_model}"


def path_diffusion(
    noise_variance: ArrayLike,
    *,
    learning_rate: float,
    batch_size: int,
    num_rows: int | None = None,
    sampling: Sampling = "streaming",
) -> Floats:
    """Diffusion D = eta u' Sigma u phi / (2 B) along a path.

    Args:
        noise_variance: u' Sigma u, variance of per-example gradients along the path, [n] or one.
        learning_rate, batch_size, num_rows, sampling: of the run; with momentum the learning
            rate is eta / (1 - beta).

    Example:
        >>> path_diffusion([4.0, 8.0], learning_rate=0.1, batch_size=10).round(6).tolist()
        [0.02, 0.04]
    """
    factor = population_factor(batch_size, num_rows, sampling) / batch_size
    values = np.asarray(noise_variance, np.float64)
    if (values < 0).any():
        raise UsageError(f"noise_variance must be 0 or more; got {values.min()}")
    return values * (positive("learning_rate", learning_rate) * factor / 2)


def escape_time(
    positions: ArrayLike,
    losses: ArrayLike,
    diffusion: ArrayLike,
    *,
    learning_rate: float,
    noise_model: NoiseModel = "measured",
    start: float | None = None,
    target: float | None = None,
) -> EscapeTime:
    """Mean steps from start to target along a measured path, by the exact one-dimensional integral.

    The path is a line between two parameter vectors, better drawn out beyond both; losses and
    diffusion are measured on a grid and interpolated.

    Args:
        positions: distance along the path in parameter units, [n >= 3], increasing.
        losses: mean loss there, [n].
        diffusion: D there, [n], from `path_diffusion`; or one number, D at the start.
        learning_rate: eta > 0.
        noise_model: "measured" uses diffusion as it is; "constant" takes its value at the start
            everywhere; "proportional to loss" takes a * loss with the best a for [n] values, or
            the a that gives the one number at the start; losses must then be positive.
        start, target: positions on the path; by default its ends.

    Returns:
        Time and steps (not estimable where a loss is not finite or the noise vanishes on the
        path), with flags on coarse paths, walls and low barriers.

    Raises:
        UsageError: shapes that do not fit, or one number with "measured".

    Example:
        >>> x = np.linspace(-2, 2, 81)
        >>> told = escape_time(x, x**4 / 4 - x**2 / 2, 0.05, noise_model="constant",
        ...                    learning_rate=0.02, start=-1, target=1)
        >>> print(told, "- Kramers:", told.kramers_steps)
        36,484 steps, noise model: constant - Kramers: 32,959 steps

    Source: Gardiner, Handbook of Stochastic Methods; for noise in proportion to
    the loss, Mori, Ziyin, Liu and Ueda 2022.
    """
    x, v = array("positions", positions, 1), array("losses", losses, 1)
    positive("learning_rate", learning_rate)
    one_of("noise_model", noise_model, MODELS)
    if len(x) < 3:
        raise UsageError(f"positions must hold at least 3 values; got {len(x)}")
    known = np.asarray(diffusion, np.float64)
    if known.ndim == 0 and noise_model == "measured":
        raise UsageError("diffusion must be given at every position for 'measured'; got one number")
    if x.shape != v.shape or known.shape not in ((), x.shape):
        raise UsageError(
            f"positions, losses and diffusion must have one shape; got {x.shape}, {v.shape} and "
            f"{known.shape}"
        )
    if (known < 0).any():
        raise UsageError(f"diffusion must be 0 or more; got {known.min()}")
    if not (np.isfinite(v).all() and np.isfinite(known).all()):
        return _nothing("a loss or diffusion on the path is not finite", noise_model)
    at = float(x[0] if start is None else start)
    along = _modelled(x, v, known, noise_model, at)
    if isinstance(along, str):
        return _nothing(along, noise_model)
    path = landscape(x, v, along)
    return _escape(path, *checked_ends(path, start, target), learning_rate, noise_model)


def _escape(
    path: Landscape, start: float, target: float, learning_rate: float, model: NoiseModel
) -> EscapeTime:
    log_time = log_passage_time(path, start, target)
    barrier, exponent, top = _barrier(path, start, target)
    flags = [ONE_LINE, *_shape_flags(path, start, target, log_time, exponent)]
    kramers = _kramers(path, start, top, barrier, learning_rate, model)
    method = f"exact integral along the path, noise model: {model}"

    def measurement(log: float, unit: str) -> Estimate:
        if log > 700:
            reason = f"longer than e^{log:.4g}: never, for all practical purposes"
            return Estimate(value=None, lo=math.exp(700), unit=unit, reason=reason)
        return Estimate(value=math.exp(log), unit=unit, method=method, flags=tuple(flags))

    return EscapeTime(
        time=measurement(log_time, "learning rate * steps"),
        steps=measurement(log_time - math.log(learning_rate), "steps"),
        noise_model=model, barrier=barrier, barrier_over_temperature=exponent,
        kramers_steps=kramers,
    )  # fmt: skip


def _modelled(
    x: Floats, losses: Floats, diffusion: Floats, model: NoiseModel, start: float
) -> Floats | str:
    """Diffusion at every position under the model, or why there is none."""
    at_start = float(diffusion if diffusion.ndim == 0 else np.interp(start, x, diffusion))
    if model == "constant":
        found = np.full(x.shape, at_start)
    elif model == "measured":
        found = diffusion
    else:
        if not (losses > 0).all():
            return "noise in proportion to the loss needs losses above 0"
        if diffusion.ndim:
            slope = float(diffusion @ losses) / float(losses @ losses)
        else:
            slope = at_start / float(np.interp(start, x, losses))
        found = slope * losses
    if (found <= 0).any():
        return "the noise vanishes on the path: it is never crossed by noise alone"
    return found


def _barrier(path: Landscape, start: float, target: float) -> tuple[float, float, float]:
    """Height over the start, the integral of V'/D up to the top, and where the top is."""
    x = np.linspace(start, target, 4001)
    v = path.loss(x)
    top = int(np.argmax(v))
    force = path.loss(x[: top + 1], 1) / path.diffusion(x[: top + 1])
    exponent = float(np.trapezoid(force, x[: top + 1]))
    return float(v[top] - v[0]), exponent, float(x[top])


def _shape_flags(
    path: Landscape, start: float, target: float, log_time: float, exponent: float
) -> list[str]:
    flags = []
    behind = path.positions < start if target > start else path.positions > start
    spread = float(path.diffusion(np.array([start]))[0])
    rise = path.losses[behind].max() - path.loss(np.array([start]))[0] if behind.any() else 0.0
    if rise < 3 * spread:
        flags.append(HALF_WELL)
    if exponent < LOW_BARRIER:
        flags.append(f"low barrier ({exponent:.2g} temperatures): Kramers' formula does not hold")
    keep = np.unique(
        np.concatenate([np.arange(0, len(path.positions), 2), [-1]]) % len(path.positions)
    )
    if len(keep) >= 3:
        half = Landscape(
            positions=path.positions[keep], losses=path.losses[keep],
            log_diffusion=path.log_diffusion[keep],
        )  # fmt: skip
        change = abs(log_passage_time(half, start, target) - log_time)
        if change > COARSE:
            flags.append(
                f"coarse path: without every second point the time changes by a factor "
                f"{math.exp(min(change, 99.0)):.2g}"
            )
    return flags


def _kramers(
    path: Landscape, start: float, top: float, barrier: float, rate: float, model: NoiseModel
) -> Estimate:
    if model != "constant":
        return not_estimable("Kramers' formula is for constant noise", unit="steps")
    low, high = (float(path.loss(np.array([at]), 2)[0]) for at in (start, top))
    slope = abs(float(path.loss(np.array([top]), 1)[0]))
    if low <= 0 or high >= 0 or barrier <= 0:
        return not_estimable("no minimum at the start, or no top on the path", unit="steps")
    temperature = float(path.diffusion(np.array([start]))[0])
    if slope > 0.05 * math.sqrt(-high * temperature):
        return not_estimable("the top lies at the end of the path", unit="steps")
    time = kramers_time(barrier, low, -high, temperature)
    if not math.isfinite(time):
        return not_estimable("longer than doubles hold", unit="steps")
    flags = (
        () if barrier >= LOW_BARRIER * temperature else ("barrier below 4 temperatures: too short",)
    )
    return Estimate(value=time / rate, unit="steps", method="Kramers' formula", flags=flags)


def _nothing(reason: str, model: NoiseModel) -> EscapeTime:
    return EscapeTime(
        time=not_estimable(reason, unit="learning rate * steps"),
        steps=not_estimable(reason, unit="steps"), noise_model=model, barrier=None,
        barrier_over_temperature=None, kramers_steps=not_estimable(reason, unit="steps"),
    )  # fmt: skip
