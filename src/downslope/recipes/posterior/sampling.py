"""Samples of a posterior by mini-batches, from its mode on."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import downslope
from downslope import CapacityError, StopReason, UsageError
from downslope.arguments import number, one_of, whole
from downslope.choose import Decision
from downslope.recipes.posterior.density import Density, check_finite, controlled
from downslope.recipes.posterior.kernels import check_installed, first_walker, make_update
from downslope.recipes.posterior.result import Posterior, summarised
from downslope.recipes.posterior.scales import MOST_FULL, Scales, Scaling, laplace, steepest
from downslope.recipes.posterior.tuning import (
    Noise,
    choose_batch,
    choose_step,
    measure_noise,
    noise_share,
    relaxation,
)

Method = Literal["sghmc", "sgld", "cyclical", "constant_sgd"]
METHODS = ("sghmc", "sgld", "cyclical", "constant_sgd")
BURN_IN = 10  # relaxations
THIN = 2.0  # relaxations between two samples
MOST_BYTES = 1 << 30  # of all samples
MOST_HESSIAN = 4096  # parameters, above which a Hessian is not made even if asked for
AT_ONCE = 20  # samples of each chain in a call of the device: the second half of a cycle
NEWTON_STEPS = 5
CONTROL_PAYS = 0.5  # noise with the control over that without it, below which it is taken


def sample(
    loss: Callable[..., Any],
    model: Any,
    data: Any,
    *,
    method: Method = "sghmc",
    prior_scale: float = 1.0,
    temperature: float = 1.0,
    num_samples: int = 1000,
    num_chains: int = 4,
    batch_size: int | None = None,
    step_size: float | None = None,
    control_variate: bool | None = None,
    scaling: Scaling | None = None,
    trains: bool = True,
    seconds: float | None = None,
    seed: int = 0,
) -> Posterior:
    """Samples of the posterior of a model's parameters.

    `downslope.fit` finds the mode; the curvature there scales the coordinates; the noise of single
    rows' gradients in these gives batch size and step. All chains begin at draws from the Laplace
    approximation.

    Args:
        loss: `loss(model, batch, key) -> [B]`, negative log likelihood of each row, in nats, with
            all factors that depend on parameters; it must not use the key.
        model: parameters to begin with, a pytree of floating-point arrays.
        data: arrays with the same number of rows, in memory.
        method: "sghmc" (Langevin dynamics with momentum), "sgld", "cyclical" (the steps of sgld
            in cycles, for several modes), or "constant_sgd" (constant steps, whose own noise is the
            temperature).
        prior_scale: standard deviation of independent normal priors around 0; `math.inf` for a
            flat prior.
        temperature: T of the density p^(1/T).
        num_samples: to keep, of all chains, rounded up to a multiple of their number.
        num_chains: that run side by side; two or more tell whether they agree.
        batch_size, step_size: chosen from the noise if None; the step is in scaled coordinates.
        control_variate: subtract the noise at the mode, for twice the gradients; if None, where
            that halves the noise.
        scaling: "full" (Hessian), "diagonal" (empirical Fisher information) or "isotropic"
            (its mean); if None, full up to 512 parameters.
        trains: find the mode first; False if the model is trained.
        seconds: time limit of the sampling, looked at after burn-in and after every 20 samples of
            a chain; what was kept by then is returned.
        seed: random seed.

    Raises:
        UsageError: an argument out of range, or blackjax or arviz-stats are missing.
        CapacityError: the samples would take more than 1 GiB.

    Example:
        >>> def loss(mean, batch, key):  # unit variance; the mean's posterior is N(0.99, 0.01)
        ...     return 0.5 * (batch - mean) ** 2
        >>> rows = np.random.default_rng(0).normal(1.0, size=100).astype("float32")
        >>> found = sample(loss, np.zeros((), "float32"), rows, prior_scale=math.inf)
        >>> bool(abs(found.mean() - rows.mean()) < 0.01), round(float(found.sd()), 2)
        (True, 0.1)

    Source: Welling and Teh (2011); Chen, Fox and Guestrin (2014); Baker et al. (2019).
    """
    one_of("method", method, METHODS)
    number("temperature", temperature, above=0)
    whole("num_samples", num_samples)
    whole("num_chains", num_chains)
    whole("seed", seed, least=0)
    if seconds is not None:
        number("seconds", seconds, above=0)
    density = Density(loss, model, data, prior_scale)
    if scaling is not None:
        one_of("scaling", scaling, ("full", "diagonal", "isotropic"))
    draws = -(-num_samples // num_chains)
    if num_chains * max(draws, AT_ONCE) * density.dim * 4 > MOST_BYTES:
        raise CapacityError(
            f"{num_chains} chains of {max(draws, AT_ONCE):,} samples of {density.dim:,} parameters "
            "take more than 1 GiB: keep fewer samples, or fewer chains"
        )
    if scaling == "full" and density.dim > MOST_HESSIAN:
        raise UsageError(
            f"scaling must not be full above {MOST_HESSIAN:,} parameters; the model has "
            f"{density.dim:,}"
        )
    if method == "constant_sgd" and control_variate:
        raise UsageError("control_variate would cool constant_sgd, whose noise is its temperature")
    if batch_size is not None:
        batch_size = min(whole("batch_size", batch_size), density.num_rows)
    if step_size is not None:
        number("step_size", step_size, above=0)
    check_installed(method)
    if trains:
        model = find_mode(density, model, seed)
    center = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), model))[0]
    check_finite(density, center)
    kind: Scaling = scaling or ("full" if density.dim <= MOST_FULL else "diagonal")
    scales = laplace(density, center, kind, temperature, seed)
    if trains and kind == "full":
        scales = _polished(density, scales, temperature, seed)
    curvature = 1.0 if kind == "full" else steepest(density, scales, temperature, seed)
    if method == "constant_sgd":
        control_variate = False
    has_control, noise = _noise(density, scales, control_variate, temperature, seed)
    if noise.basis is not None:
        scales = scales.rotated(noise.basis)
    decisions = _decisions(method, noise, density.num_rows, batch_size, step_size, curvature)
    size, step = (int(decisions[0].new), float(decisions[1].new))  # type: ignore[arg-type]
    chains = _Chains(
        density, scales, noise, method=method, batch_size=size, step=step,
        has_control=has_control, temperature=temperature, curvature=curvature,
        num_chains=num_chains, seed=seed,
    )  # fmt: skip
    begin = time.perf_counter()
    z = chains.run(draws, None if seconds is None else begin + seconds)
    theta = np.asarray(jax.jit(jax.vmap(jax.vmap(scales.theta)))(z))
    share = noise_share(method, step, noise.mean, size)
    scale = share / noise.mean if noise.mean else 0.0
    ends = {
        end: None if (value := getattr(noise.total, end)) is None else value * scale / density.dim
        for end in ("lo", "hi")
    }
    return summarised(
        theta,
        z,
        density.unravel,
        method=method,
        temperature=temperature,
        noise_share=dataclasses.replace(noise.total, value=share, unit="", **ends),
        decisions=tuple(decisions),
        num_gradients=chains.num_updates * num_chains * size * (2 if has_control else 1),
        seconds=time.perf_counter() - begin,
        is_complete=z.shape[1] >= draws,
        remarks=_remarks(method, step, noise.variances / size),
    )


def find_mode(density: Density, model: Any, seed: int, seconds: float | None = None) -> Any:
    """Model of the highest posterior density that training finds.

    Args:
        model: parameters to begin with.
        seconds: of the training; None ends it by its own convergence.
    """
    l2 = density.precision / density.num_rows
    found = downslope.fit(density.loss, model, density.rows, l2=l2, seed=seed, seconds=seconds)
    if found.stop_reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
    return found.params


def _polished(density: Density, scales: Scales, temperature: float, seed: int) -> Scales:
    """Scales around the mode, which a few steps of Newton's method approach."""
    key = jax.random.key(seed)
    for _ in range(NEWTON_STEPS):
        z = -scales.pulled_back(density.full_gradient(scales.center, key)) / temperature
        if not bool(jnp.isfinite(z).all()):
            return scales
        length = float(jnp.linalg.norm(z)) / math.sqrt(density.dim)
        if length < 0.05:
            return scales
        moved = scales.theta(z / max(1.0, length))
        scales = laplace(density, moved, "full", temperature, seed)
    return scales


def _noise(
    density: Density, scales: Scales, control_variate: bool | None, temperature: float, seed: int
) -> tuple[bool, Noise]:
    """True if the control variate is taken, and the noise with that choice."""

    def measured(has_control: bool) -> Noise:
        return measure_noise(
            density, scales, has_control=has_control, temperature=temperature, seed=seed
        )

    if control_variate is not None:
        return control_variate, measured(control_variate)
    plain, controlled = measured(False), measured(True)
    pays = controlled.mean < CONTROL_PAYS * plain.mean
    return pays, controlled if pays else plain


def _decisions(
    method: str, noise: Noise, num_rows: int, batch_size: int | None, step_size: float | None,
    curvature: float,
) -> list[Decision]:  # fmt: skip
    """Batch size and step, with reasons."""
    if batch_size is None:
        batch = choose_batch(
            method=method, most_noise=noise.most, mean_noise=noise.mean, num_rows=num_rows
        )
    else:
        batch = Decision(knob="batch_size", old=None, new=batch_size, because="given")
    if step_size is None:
        step = choose_step(
            method=method, most_noise=noise.most, mean_noise=noise.mean,
            batch_size=int(batch.new), curvature=curvature,  # type: ignore[arg-type]
        )  # fmt: skip
    else:
        step = Decision(knob="step_size", old=None, new=step_size, because="given")
    assert batch is not None and step is not None
    return [batch, step]


def _remarks(method: str, step: float, variances: np.ndarray) -> tuple[str, ...]:
    """A warning where the gradients' noise is hotter than any correction can cool."""
    most = noise_share(method, step, float(variances.max()), 1)
    if method == "constant_sgd" or most <= 1:
        return ()
    return (
        f"the noise alone is up to {most:.3g} times as hot as the posterior: take a shorter step "
        "or a larger batch",
    )


class _Chains:
    """Chains side by side, advanced sample by sample."""

    def __init__(
        self, density: Density, scales: Scales, noise: Noise, *, method: str, batch_size: int,
        step: float, has_control: bool, temperature: float, curvature: float, num_chains: int,
        seed: int,
    ):  # fmt: skip
        update = make_update(method, step, noise.variances / batch_size, curvature)
        key = jax.random.key(seed)
        gradient = controlled(density, scales.center, key) if has_control else density.gradient
        self._method, self._relaxation = method, relaxation(method, step)
        self._thin = max(1, math.ceil(THIN * self._relaxation))
        self._cycle = 2 * AT_ONCE * self._thin
        self.num_updates = 0
        start, momentum, self._key = jax.random.split(key, 3)
        z = jax.random.normal(start, (num_chains, density.dim))
        self._walkers = jax.vmap(first_walker)(z, jax.random.split(momentum, num_chains))
        cycle = self._cycle

        def one(walker: Any, key: Any, number: Any) -> Any:
            drawn, own, noise = jax.random.split(jax.random.fold_in(key, number), 3)
            rows = density.take(jax.random.randint(drawn, (batch_size,), 0, density.num_rows))
            pulled = scales.pulled_back(gradient(scales.theta(walker.z), rows, own)) / temperature
            return update(noise, walker, pulled, (number % cycle) / cycle)

        def advance(walker: Any, key: Any, first: Any, count: Any) -> Any:
            return jax.lax.fori_loop(first, first + count, lambda i, w: one(w, key, i), walker)

        def chain(walker: Any, key: Any, first: Any, thin: Any) -> Any:
            def next_sample(walker: Any, place: Any) -> Any:
                walker = advance(walker, key, first + place * thin, thin)
                return walker, walker.z

            return jax.lax.scan(next_sample, walker, jnp.arange(AT_ONCE))

        self._chain = jax.jit(jax.vmap(chain, (0, 0, None, None)))
        self._keys = jax.random.split(self._key, num_chains)

    def run(self, draws: int, until: float | None) -> np.ndarray:
        """Coordinates of the samples [chains, draws, d], fewer if the time is over."""
        self._pass(BURN_IN * self._relaxation)
        kept: list[np.ndarray] = []
        found = 0
        while found < draws and not (found and until is not None and time.perf_counter() > until):
            if self._method == "cyclical" and self.num_updates % self._cycle < self._cycle // 2:
                self._pass(self._cycle // 2 - self.num_updates % self._cycle)
            part = self._advance(self._thin)
            if not np.isfinite(part).all():
                raise UsageError(
                    "a chain diverged: give a shorter step_size, or scaling='diagonal'"
                )
            kept.append(part)
            found += part.shape[1]
        return np.concatenate(kept, axis=1)[:, :draws]

    def _pass(self, num_updates: float) -> None:
        """Make that many updates or a few more, and keep nothing."""
        self._advance(max(1, math.ceil(num_updates / AT_ONCE)))

    def _advance(self, thin: int) -> np.ndarray:
        """Samples [chains, `AT_ONCE`, d], each after so many updates."""
        self._walkers, z = self._chain(self._walkers, self._keys, self.num_updates, thin)
        self.num_updates += thin * AT_ONCE
        return np.asarray(z)
