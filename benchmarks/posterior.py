"""Samples of posteriors beside exact ones and NUTS: `python -m benchmarks.posterior`.

NUTS (blackjax, 1,000 updates of window adaptation) is the truth where no formula is: it sees all
rows in every gradient. Costs are counted in gradients of all rows.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import load, machine
from downslope.recipes.posterior import Posterior, sample

SAMPLES = 4000
TRUTH_SAMPLES, WARM_UP = 20_000, 1000
HEADINGS = (
    "\n| posterior | method | mean, off by at most (sd) | sd over the true one | effective samples "
    "| R-hat | gradients of all rows | seconds | noise's share of the temperature "
    "| within 0.1 sd and 10 % |\n"
)
MEAN_BAR, SD_BAR = 0.1, 0.1  # sd of the posterior; relative
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sghmc", {"method": "sghmc"}),
    ("sghmc, no control variate", {"method": "sghmc", "control_variate": False}),
    ("sgld", {"method": "sgld"}),
    ("sgld, no control variate", {"method": "sgld", "control_variate": False}),
    ("sgld, diagonal", {"method": "sgld", "scaling": "diagonal"}),
    ("cyclical", {"method": "cyclical"}),
    ("constant_sgd", {"method": "constant_sgd"}),
    ("constant_sgd, diagonal", {"method": "constant_sgd", "scaling": "diagonal"}),
    ("constant_sgd, isotropic", {"method": "constant_sgd", "scaling": "isotropic"}),
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A posterior with its mean and standard deviations.

    Attributes:
        cost: gradients of all rows that the truth took; 0 for a formula.
        seconds: that it took.
    """

    name: str
    loss: Callable[..., Any]
    model: np.ndarray
    rows: tuple[np.ndarray, np.ndarray]
    prior_scale: float
    mean: np.ndarray
    sd: np.ndarray
    cost: float = 0.0
    seconds: float = 0.0


def regression(seed: int) -> Problem:
    """2,000 rows of four correlated columns, whose posterior is exact."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2000, 4)) * [1, 0.5, 0.25, 0.125]
    x[:, 1] += 0.8 * x[:, 0]
    y = x @ [1.0, -1.0, 0.5, 2.0] + 0.5 * rng.normal(size=2000)
    covariance = np.linalg.inv(x.T @ x / 0.25)

    def loss(model: Any, batch: Any, key: Any) -> Any:
        x, y = batch
        return 2 * (x @ model - y) ** 2

    return Problem(
        name="linear regression", loss=loss, model=np.zeros(4, np.float32),
        rows=(x.astype(np.float32), y.astype(np.float32)), prior_scale=math.inf,
        mean=covariance @ (x.T @ y) / 0.25, sd=np.sqrt(np.diag(covariance)),
    )  # fmt: skip


def logistic(model: Any, batch: Any, key: Any) -> Any:
    """Negative log likelihood, nats; the last parameter is the intercept."""
    x, y = batch
    return jax.nn.softplus((1 - 2 * y) * (x @ model[:-1] + model[-1]))


def tumours(seed: int) -> Problem:
    """Logistic regression of 569 biopsies on 30 columns, many of them collinear."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import scale

    x, y = load_breast_cancer(return_X_y=True)
    rows = scale(x).astype(np.float32), (1 - y).astype(np.float32)
    return by_nuts("logistic, biopsies", logistic, np.zeros(31, np.float32), rows, seed)


def by_nuts(name: str, loss: Any, model: np.ndarray, rows: Any, seed: int) -> Problem:
    """A problem with a standard normal prior, whose truth is from NUTS."""
    import blackjax

    def log_density(theta: Any) -> Any:
        return -loss(theta, rows, None).sum() - jnp.square(theta).sum() / 2

    key = jax.random.key(seed)
    begin = time.perf_counter()
    adaptation: Any = blackjax.window_adaptation(blackjax.nuts, log_density)
    (state, known), trace = adaptation.run(key, jnp.asarray(model), WARM_UP)
    kernel = blackjax.nuts(log_density, **known)

    def step(state: Any, key: Any) -> Any:
        state, info = kernel.step(key, state)
        return state, (state.position, info.num_integration_steps)

    keys = jax.random.split(key, TRUTH_SAMPLES)
    _, (truth, steps) = jax.jit(lambda s: jax.lax.scan(step, s, keys))(state)
    truth = np.asarray(truth, np.float64)
    spent = float(np.sum(steps) + np.sum(trace.info.num_integration_steps))
    return Problem(
        name=name, loss=loss, model=model, rows=rows, prior_scale=1.0, mean=truth.mean(0),
        sd=truth.std(0), cost=spent, seconds=time.perf_counter() - begin,
    )  # fmt: skip


def line(problem: Problem, name: str, found: Posterior, seconds: float) -> str:
    """A row of the table."""
    off = float(np.abs((found.mean() - problem.mean) / problem.sd).max())
    ratios = found.sd() / problem.sd
    met = off <= MEAN_BAR and float(np.abs(ratios - 1).max()) <= SD_BAR
    share = found.noise_share
    return (
        f"| {problem.name} | {name} | {off:.2f} | {ratios.min():.2f} to {ratios.max():.2f} "
        f"| {found.effective_samples:,.0f} | {found.r_hat:.3f} "
        f"| {found.num_gradients / len(problem.rows[0]):,.0f} | {seconds:.1f} "
        f"| {'' if share is None else f'{share.value:.0%}'} | {'yes' if met else '**no**'} |"
    )


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.posterior", description=main.__doc__
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    options = parser.parse_args(argv)
    print(json.dumps(machine(), indent=1), flush=True)
    print(HEADINGS + "|---" * (HEADINGS.count("|") - 1) + "|", flush=True)
    for problem in (regression(options.seed), tumours(options.seed)):
        for name, settings in VARIANTS:
            begin = time.perf_counter()
            found = sample(
                problem.loss, problem.model, problem.rows, prior_scale=problem.prior_scale,
                num_samples=SAMPLES, seed=options.seed, **settings,
            )  # fmt: skip
            print(line(problem, name, found, time.perf_counter() - begin), flush=True)
        if problem.cost:
            print(
                f"| {problem.name} | NUTS, {TRUTH_SAMPLES:,} samples | | | | | {problem.cost:,.0f} "
                f"| {problem.seconds:.1f} | | |"
            )
    print(f"\n- {load()} at the end")


if __name__ == "__main__":
    main()
