"""Samples of a posterior, with what they say of themselves."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope import UsageError
from downslope.arguments import number
from downslope.choose import Decision
from downslope.estimate import Estimate, t_quantile
from downslope.storage import (
    atomic_folder,
    read_json,
    read_tensors,
    verify,
    write_json,
    write_tensors,
)

AGREE = 1.01  # R-hat above which chains do not agree (Vehtari et al. 2021)
FEW = 100  # effective samples, below which intervals are rough
MOST_CHECKED = 1000  # parameters whose R-hat is computed
SAMPLES, ABOUT = "samples.safetensors", "posterior.json"


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Samples of the parameters.

    Attributes:
        samples: a pytree like the model, each leaf [chains, draws, ...].
        method: that drew them.
        temperature: of the density.
        noise_share: share of the temperature that is noise of the gradients, on average over the
            axes; subtracted from the injected noise, except for "constant_sgd", which injects none.
        r_hat: largest of the rank-normalised R-hat of the parameters; None if it cannot be told, as
            for one chain or fewer than four draws. Of swag, that of the iterates.
        effective_samples: smallest bulk effective sample size; None in the same cases.
        direction_variances: smallest and largest variance along an axis of the scaled coordinates,
            over that of the Laplace approximation.
        decisions: batch size and step, with reasons.
        num_gradients: gradients of single rows that it took, burn-in included; those of finding
            the mode and measuring the noise not.
        seconds: of the sampling.
        is_complete: False if the time limit ended it.
        remarks: reasons to doubt the samples that the sampler found.
    """

    samples: Any
    method: str
    temperature: float = 1.0
    noise_share: Estimate | None = None
    r_hat: float | None = None
    effective_samples: float | None = None
    direction_variances: tuple[float, float] | None = None
    decisions: tuple[Decision, ...] = ()
    num_gradients: int = 0
    seconds: float = 0.0
    is_complete: bool = True
    remarks: tuple[str, ...] = ()

    @property
    def flat(self) -> Any:
        """The samples of all chains in one row: each leaf [samples, ...]."""
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), self.samples)

    @property
    def num_samples(self) -> int:
        """Samples of all chains."""
        return int(np.prod(jax.tree.leaves(self.samples)[0].shape[:2]))

    def mean(self) -> Any:
        """Posterior mean of every parameter."""
        return jax.tree.map(lambda a: a.mean(0, dtype=np.float64), self.flat)

    def sd(self) -> Any:
        """Posterior standard deviation of every parameter."""
        return jax.tree.map(lambda a: a.std(0, ddof=1, dtype=np.float64), self.flat)

    def interval(self, level: float = 0.9) -> tuple[Any, Any]:
        """Ends of the central interval of every parameter that holds a share of the samples."""
        number("level", level, above=0, below=1)
        ends = (1 - level) / 2, (1 + level) / 2
        return tuple(  # type: ignore[return-value]
            jax.tree.map(lambda a, e=end: np.quantile(a, e, axis=0), self.flat) for end in ends
        )

    def predict(
        self, function: Callable[..., Any], *args: Any, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean of a prediction over the samples, and the ends of its interval.

        Args:
            function: `function(model, *args)`, an array.
            level: share of the samples in the interval.

        Returns:
            Three arrays like the function's.
        """
        number("level", level, above=0, below=1)
        found = self.evaluate(function, *args)
        lo, hi = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return found.mean(0), lo, hi

    def evaluate(self, function: Callable[..., Any], *args: Any) -> np.ndarray:
        """Values of `function(model, *args)` for every sample, [samples, ...]."""
        mapped = jax.jit(lambda flat: jax.lax.map(lambda model: function(model, *args), flat))
        return np.asarray(mapped(jax.tree.map(jnp.asarray, self.flat)))

    def log_predictive_density(self, loss: Callable[..., Any], data: Any) -> Estimate:
        """Mean over rows of the log of the likelihood averaged over the samples, nats a row.

        Args:
            loss: as for `sample`.
            data: held-out rows.
        """
        from scipy.special import logsumexp

        key = jax.random.key(0)
        losses = self.evaluate(lambda model: loss(model, data, key)).astype(np.float64)
        each = np.asarray(logsumexp(-losses, axis=0)) - math.log(len(losses))
        mean, count = float(each.mean()), len(each)
        half = None
        if count > 1:
            half = t_quantile(count - 1) * float(each.std(ddof=1)) / math.sqrt(count)
        return Estimate(
            value=mean, lo=None if half is None else mean - half,
            hi=None if half is None else mean + half, unit="nats/row", num_examples=count,
            method="likelihood averaged over the samples",
        )  # fmt: skip

    @property
    def flags(self) -> tuple[str, ...]:
        """Reasons to doubt the samples, a sentence each."""
        found = list(self.remarks)
        if self.r_hat is None and self.method != "ensemble":
            found.append("whether chains agree is unknown: take two or more, of four samples each")
        if not self.is_complete:
            found.append("out of time before all samples were drawn")
        if self.r_hat is not None and not self.r_hat <= AGREE:
            found.append(f"chains disagree: R-hat {self.r_hat:.3f} is above {AGREE:g}")
        if self.effective_samples is not None and self.effective_samples < FEW:
            found.append(f"only {self.effective_samples:.0f} effective samples")
        if self.method == "constant_sgd":
            found.append(
                "constant-step SGD has the posterior's temperature on average only: along axes its "
                "variance may be far off"
            )
        if self.method == "swag":
            found.append("a Gaussian of the iterates, whose spread is not the posterior's")
        if self.method == "ensemble":
            found.append("modes of several trainings, whose spread is not the posterior's")
        return tuple(found)

    def describe(self) -> str:
        """Samples, agreement, noise and choices, in lines for a person."""
        chains, draws = jax.tree.leaves(self.samples)[0].shape[:2]
        lines = [f"{self.num_samples:,} samples by {self.method}, {chains} chains of {draws:,}"]
        if self.effective_samples is not None:
            lines[0] += f", {self.effective_samples:,.0f} effective at least"
        if self.r_hat is not None:
            lines.append(f"R-hat at most {self.r_hat:.3f}")
        if self.noise_share is not None:
            lines.append(f"noise of the gradients, share of the temperature: {self.noise_share}")
        if self.direction_variances is not None:
            lo, hi = self.direction_variances
            lines.append(
                f"variance along the axes, over the Laplace approximation's: {lo:.2g} to {hi:.2g}"
            )
        if self.num_gradients:
            lines.append(f"{self.num_gradients:,} gradients of single rows, {self.seconds:.3g} s")
        lines += [str(decision) for decision in self.decisions]
        return "\n".join(lines + [f"flag: {flag}" for flag in self.flags])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the samples and what is known of them.

        Raises:
            DataError: the folder exists.
        """
        leaves = jax.tree.leaves(self.samples)
        about = {name: getattr(self, name) for name in PLAIN}
        about["noise_share"] = None if self.noise_share is None else self.noise_share.to_json()
        about["decisions"] = [decision.to_json() for decision in self.decisions]
        with atomic_folder(folder) as scratch:
            tensors = {f"{place:04d}": np.asarray(leaf) for place, leaf in enumerate(leaves)}
            write_tensors(scratch / SAMPLES, tensors)
            write_json(scratch / ABOUT, json.loads(json.dumps(about)))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], model: Any) -> Posterior:
        """Samples that `save` wrote.

        Args:
            model: a pytree like the one they are of.

        Raises:
            DataError: files are missing or damaged.
            UsageError: the model has other arrays.
        """
        verify(folder)
        tensors, about = read_tensors(Path(folder) / SAMPLES), read_json(Path(folder) / ABOUT)
        leaves, structure = jax.tree.flatten(model)
        found = [tensors.get(f"{place:04d}") for place in range(len(leaves))]
        shapes = [np.shape(leaf) for leaf in leaves]
        if len(tensors) != len(leaves) or any(
            a is None or a.shape[2:] != shape for a, shape in zip(found, shapes, strict=True)
        ):
            raise UsageError("model must have the arrays that the samples are of; it has others")
        share = about["noise_share"]
        return cls(
            samples=jax.tree.unflatten(structure, found),
            noise_share=None if share is None else Estimate.from_json(share),
            decisions=tuple(Decision.from_json(each) for each in about["decisions"]),
            **{name: _tupled(about[name]) for name in PLAIN},
        )


PLAIN = (
    "method", "temperature", "r_hat", "effective_samples", "direction_variances", "num_gradients",
    "seconds", "is_complete", "remarks",
)  # fmt: skip


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def summarised(theta: np.ndarray, z: np.ndarray, unravel: Any, **known: Any) -> Posterior:
    """A posterior of flat samples [chains, draws, d], with its diagnostics.

    Args:
        z: the samples in scaled coordinates.
        unravel: model of flat parameters.
        known: other attributes.
    """
    samples = jax.tree.map(np.asarray, jax.vmap(jax.vmap(unravel))(jnp.asarray(theta)))
    variances = z.reshape(-1, z.shape[-1]).var(0)
    r_hat, effective = agreement(theta)
    return Posterior(
        samples=samples, r_hat=r_hat, effective_samples=effective,
        direction_variances=(float(variances.min()), float(variances.max())), **known,
    )  # fmt: skip


def agreement(theta: np.ndarray) -> tuple[float | None, float | None]:
    """Largest R-hat and smallest effective sample size of samples [chains, draws, d].

    Of a thousand parameters at most, evenly chosen. None where they cannot be told.

    Source: Vehtari et al. (2021), by ArviZ.
    """
    if theta.shape[0] < 2 or theta.shape[1] < 4:
        return None, None
    from arviz_stats.base.array import array_stats

    chosen = theta[..., :: max(1, -(-theta.shape[-1] // MOST_CHECKED))].astype(np.float64)
    r_hat = float(np.max(array_stats.rhat(chosen, chain_axis=0, draw_axis=1)))
    effective = float(np.min(array_stats.ess(chosen, chain_axis=0, draw_axis=1)))
    if not (math.isfinite(r_hat) and math.isfinite(effective)):
        return None, None
    return r_hat, effective
