"""Whether the noise scale predicts the critical batch size, by branches: `make bench-critical`.

A run of nadam at a constant rate, batches of 64, is stopped at three moments. Its noise scale is
measured there, from the gradients of single examples. Then arms go on from the average of its
parameters, at four batch sizes, the rate tuned for each. Counted are the updates that the average
of an arm's parameters takes to a training loss; S_min (1 + B_crit/B) is fitted to them. Starting
from an average, and judging averages, leaves the noise floor out, which falls with the rate and
rises with 1/B and would count as progress.

Runs are counted in updates, so other work on the machine does no harm.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from benchmarks.selftuning.table import ends_text, lower_end, upper_end
from benchmarks.selftuning.targets import FILE as TARGETS
from benchmarks.selftuning.targets import Targets
from benchmarks.selftuning.workloads import WORKLOADS, Workload, load, missing
from benchmarks.selftuning.workloads.workload import num_rows, take
from benchmarks.timing import machine
from downslope.estimate import Estimate
from downslope.noise.scale import fit_critical_batch, from_examples

FILE = Path(__file__).parent / "critical.jsonl"
VERSION = 1
SEEDS = 2
TRUNK_SIZE = 64
MOMENTS = (0.03, 0.1, 0.3)  # of the examples that the hand-tuned run saw
WARM_UP = 0.01  # the same, at most a fifth of the way to the first moment
EXTENSION = 0.25  # an arm of the middle size goes on for this share of the updates so far
LEAST_UPDATES = 200  # of that arm: nadam averages squares over as many
SPREAD = (1 / 16, 1 / 4, 1, 4)  # sizes of the arms over the middle one
MIDDLES = (16, 64, 256, 1024)
EVALUATIONS = 32  # of an arm that reaches the level as late as is possible
BEYOND = 1.5  # an arm is given up at this many times the updates of the best rate so far
REACHED = 0.9  # of the fall of the middle size's best arm is the level
MOST_DOUBLINGS = 6  # of a rate
WINDOW = 8  # averages weigh the last of t updates as (t/n)^8: about the last ninth
LOSS_ROWS = 2048
MOST_GRADIENTS = 1024
MOST_NUMBERS = 1 << 27  # of single examples' gradients in memory
POOL = 1 << 16  # rows drawn from a generator
B1, B2, EPS = 0.9, 0.99, 1e-8  # those of `downslope.fit`
SCALES = (
    "preconditioned",
    "preconditioned at the average",
    "Euclidean",
    "Euclidean at the average",
)
NEAR = 2.0
NEAR_SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A moment of a run: what was predicted there and what its arms showed.

    Attributes:
        step: updates of 64 examples before it.
        loss: training loss of the averaged parameters there.
        level: loss that was counted to.
        predicted: value and ends of the interval by kind of noise scale.
        sizes, steps, rates: of the arms that reached the level.
        branched: critical batch size by the arms, with the ends of its interval.
        residual: largest relative distance of the counts from the fitted law.
    """

    workload: str
    seed: int
    share: float
    step: int
    loss: float
    level: float | None
    predicted: dict[str, list[float | None]]
    sizes: list[int]
    steps: list[float]
    rates: list[float]
    branched: list[float | None]
    residual: float | None
    version: int = VERSION


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class State:
    """Parameters, state of nadam, average of the parameters, updates in that average."""

    params: Any
    moments: Any
    average: Any
    count: Any

    def branch(self) -> State:
        """Start of an arm: the average, with the squares of the gradients but no momentum."""
        moments = self.moments._replace(mu=jax.tree.map(jnp.zeros_like, self.moments.mu))
        return State(params=self.average, moments=moments, average=self.average, count=jnp.int32(0))


class Trainer:
    """Training of a workload by nadam, each batch drawn with replacement.

    Args:
        workload: what is trained.
        seed: of the model and the batches.
    """

    def __init__(self, workload: Workload, seed: int):
        rows = workload.train
        if workload.num_rows is None:
            rows = rows.batch(seed=seed, number=0, num_rows=POOL)  # type: ignore[union-attr]
        self._rows = jax.tree.map(jnp.asarray, rows)
        self.num_rows = num_rows(rows)
        self._loss, self._key = workload.loss, jax.random.key(seed)
        self._rule = optax.scale_by_adam(b1=B1, b2=B2, eps=EPS, nesterov=True)
        places = np.random.default_rng(seed).permutation(self.num_rows)
        self._shown = take(self._rows, places[:LOSS_ROWS])
        self._places = places
        model = jax.tree.map(jnp.asarray, workload.model(seed))
        self.start = State(
            params=model, moments=self._rule.init(model), average=model, count=jnp.int32(0)
        )
        self._updates = jax.jit(self._make_updates, static_argnames="batch_size")
        self.loss = jax.jit(self._mean_loss)

    def updates(self, state: State, *, batch_size: int, rate: float, stream: int, first: int,
                count: int, warm_up: int = 0) -> State:  # fmt: skip
        """State after more updates.

        Args:
            stream: number of the sequence of batches.
            first: number of its first batch here.
        """
        return self._updates(state, jnp.float32(rate), stream, first, count, warm_up,
                             batch_size=batch_size)  # fmt: skip

    def _make_updates(self, state, rate, stream, first, count, warm_up, *, batch_size):
        key = jax.random.fold_in(self._key, stream)

        def update(i, state):
            drawn, own = jax.random.split(jax.random.fold_in(key, i))
            rows = take(self._rows, jax.random.randint(drawn, (batch_size,), 0, self.num_rows))
            gradient = jax.grad(lambda model: self._loss(model, rows, own).mean())(state.params)
            steps, moments = self._rule.update(gradient, state.moments)
            speed = rate * jnp.minimum(1.0, (i + 1) / jnp.maximum(1, warm_up))
            params = jax.tree.map(lambda p, s: p - speed * s, state.params, steps)
            weight = (WINDOW + 1) / (state.count + WINDOW + 1)
            average = jax.tree.map(lambda a, p: a + weight * (p - a), state.average, params)
            return State(params=params, moments=moments, average=average, count=state.count + 1)

        return jax.lax.fori_loop(first, first + count, update, state)

    def _mean_loss(self, model):
        return self._loss(model, self._shown, jax.random.key(0)).mean()

    def noise_scales(self, state: State) -> dict[str, Estimate]:
        """Noise scales at the parameters and at their average, by the names of `SCALES`."""
        squares = ravel_pytree(state.moments.nu)[0]
        spread = jnp.sqrt(squares / (1 - B2 ** state.moments.count.astype(jnp.float32)))
        weights = np.asarray(jnp.where(squares > 0, 1 / jnp.sqrt(spread + EPS), 0.0))
        found = {}
        for where, model in (("", state.params), (" at the average", state.average)):
            gradients = self._gradients(model)
            for name, each in (("preconditioned", gradients * weights), ("Euclidean", gradients)):
                noise = from_examples(each, target="dataset", num_rows=self.num_rows)
                found[name + where] = noise.scale
        return found

    def _gradients(self, model: Any) -> np.ndarray:
        """Gradients of single examples, [n, parameters]."""
        size = ravel_pytree(model)[0].size
        count = min(MOST_GRADIENTS, self.num_rows, MOST_NUMBERS // size)
        at_once = min(count, 64)
        places = self._places[: count - count % at_once].reshape(-1, at_once)
        return np.concatenate([np.asarray(self._example_gradients(model, p)) for p in places])

    @functools.cached_property
    def _example_gradients(self) -> Callable[[Any, Any], Any]:
        def one(model, place):
            row = take(self._rows, place[None])
            key = jax.random.fold_in(self._key, place)
            return ravel_pytree(jax.grad(lambda m: self._loss(m, row, key).mean())(model))[0]

        return jax.jit(jax.vmap(one, (None, 0)))


def cases(workload: Workload, targets: Targets, seed: int) -> Iterator[Case]:
    """Each moment of a run, its arms trained.

    Args:
        targets: whose best setting gives the trunk's rate and length.
    """
    search = targets.searches[workload.name]
    best = search.best
    assert best is not None
    taken = next(t for t in search.trials if t["setting"] == dataclasses.asdict(best))
    length = taken["num_steps"] * best.batch_size / TRUNK_SIZE
    rate = best.learning_rate * math.sqrt(TRUNK_SIZE / best.batch_size)
    trainer, step = Trainer(workload, seed), 0
    state = trainer.start
    warm_up = round(WARM_UP * length)
    for share in MOMENTS:
        # The average begins anew half-way, so that nothing of the moment before is in it.
        end = max(round(share * length), step + LEAST_UPDATES)
        for until in (step + (end - step) // 2, end):
            state = dataclasses.replace(state, average=state.params, count=jnp.int32(0))
            state = trainer.updates(state, batch_size=TRUNK_SIZE, rate=rate, stream=0, first=step,
                                    count=until - step, warm_up=warm_up)  # fmt: skip
            step = until
        yield _case(workload.name, trainer, state, seed=seed, share=share, step=step, rate=rate)


def _case(
    name: str, trainer: Trainer, state: State, *, seed: int, share: float, step: int, rate: float
) -> Case:
    predicted = trainer.noise_scales(state)
    middle = _middle(predicted)
    sizes = [int(middle * each) for each in SPREAD]
    rates = [rate * math.sqrt(size / TRUNK_SIZE) for size in sizes]
    count = max(LEAST_UPDATES, round(EXTENSION * step * TRUNK_SIZE / middle))
    arm = functools.partial(Arm, trainer, state.branch())
    begin = float(trainer.loss(state.average))
    level = _level(arm, middle, rates[sizes.index(middle)], count, begin)
    found: dict[int, tuple[float, float]] = {}
    if level is not None:
        for size, first in zip(sizes, rates, strict=True):
            longest = round(BEYOND * count * max(1.0, middle / size))
            tuned = _tune(functools.partial(arm, size), first, longest=longest, level=level)
            found |= {} if tuned is None else {size: tuned}
    branched, residual = [None, None, None], None
    if len(found) >= 3:
        fitted = fit_critical_batch(list(found), [steps for steps, _ in found.values()])
        branched, residual = _ends(fitted.batch_size), fitted.largest_residual
    return Case(
        workload=name, seed=seed, share=share, step=step, loss=begin, level=level,
        predicted={kind: _ends(predicted[kind]) for kind in SCALES},
        sizes=list(found), steps=[_short(steps) for steps, _ in found.values()],
        rates=[_short(rate) for _, rate in found.values()],
        branched=branched, residual=residual,
    )  # fmt: skip


def _middle(predicted: dict[str, Estimate]) -> int:
    """Size of `MIDDLES` nearest to the predictions; where none is known, the trunk's."""
    known = [e.value or e.lo or e.hi for e in predicted.values() if e.is_bounded]
    center = math.exp(np.mean(np.log([max(k, 1.0) for k in known if k]))) if known else TRUNK_SIZE
    return min(MIDDLES, key=lambda size: abs(math.log(size / center)))


class Arm:
    """An arm of a branch, trained until the average of its parameters has a loss, or for as long.

    Args:
        begin: state that all arms start from.
        size, rate: of its batches and its steps.
        longest: updates at most.
        level: the loss.

    Attributes:
        steps: updates until the level, between two evaluations by a line; infinite without.
        loss: of the last average; infinite if it is not finite.
    """

    def __init__(self, trainer: Trainer, begin: State, size: int, rate: float, *, longest: int,
                 level: float = -math.inf):  # fmt: skip
        state, done, before = begin, 0, float(trainer.loss(begin.average))
        every = max(1, longest // EVALUATIONS)
        self.steps = math.inf
        while done < longest:
            state = trainer.updates(
                state, batch_size=size, rate=rate, stream=size, first=done, count=every
            )
            done += every
            loss = float(trainer.loss(state.average))
            self.loss = loss if math.isfinite(loss) else math.inf
            if not math.isfinite(loss):
                return
            if loss <= level:
                part = (level - loss) / (before - loss) if before > loss else 0.0
                self.steps = done - every * part
                return
            before = loss


def _level(
    arm: Callable[..., Arm], size: int, rate: float, count: int, begin: float
) -> float | None:
    """A loss that the middle size reaches in nearly `count` updates, at the best of three rates.

    None where no loss is below that of the start.
    """
    ends = [arm(size, rate * factor, longest=count).loss for factor in (0.5, 1.0, 2.0)]
    return begin - REACHED * (begin - min(ends)) if min(ends) < begin else None


def _tune(
    arm: Callable[..., Arm], rate: float, *, longest: int, level: float
) -> tuple[float, float] | None:
    """Fewest updates to the level, and its rate, by steps of 2 as long as they fall.

    A parabola through the best three logarithms tells the least, which is between grid points.
    None if no rate reaches the level.
    """
    found: dict[int, float] = {}

    def at(place: int) -> float:
        if place not in found:
            best = min(found.values(), default=math.inf)
            limit = longest if math.isinf(best) else min(longest, math.ceil(BEYOND * best))
            found[place] = arm(rate * 2.0**place, longest=limit, level=level).steps
        return found[place]

    best = min((0, -1, 1), key=at)
    while math.isfinite(found[best]) and abs(best) < MOST_DOUBLINGS:
        nearest = min((best, best - 1, best + 1), key=at)
        if nearest == best:
            break
        best = nearest
    around = [found.get(best + k, math.inf) for k in (-1, 0, 1)]
    if not math.isfinite(around[1]):
        return None
    if not all(map(math.isfinite, around)):
        return found[best], rate * 2.0**best
    before, here, after = np.log(around)
    bend = before - 2 * here + after
    shift = (before - after) / (2 * bend) if bend > 0 else 0.0
    return math.exp(here - (before - after) * shift / 4), rate * 2.0 ** (best + shift)


def _ends(found: Estimate) -> list[float | None]:
    ends = found.value, found.lo, found.hi
    return [None if end is None else _short(end) for end in ends]


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def read(path: Path = FILE) -> list[Case]:
    """Recorded cases, of this version."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = [Case(**json.loads(line)) for line in lines]
    return [case for case in found if case.version == VERSION]


def markdown(found: list[Case]) -> str:
    """Every case, and the share of those that are near by kind of noise scale."""
    lines = [
        "| workload | seed | update | arms: size, updates | branched | "
        + " | ".join(SCALES) + " |",
        "|" + "---|" * (5 + len(SCALES)),
    ]  # fmt: skip
    for case in sorted(found, key=lambda c: (list(WORKLOADS).index(c.workload), c.seed, c.step)):
        arms = ", ".join(f"{b}: {s:,.0f}" for b, s in zip(case.sizes, case.steps, strict=True))
        cells = [case.workload, str(case.seed), f"{case.step:,}", arms, ends_text(case.branched)]
        lines.append(
            "| " + " | ".join(cells + [ends_text(case.predicted[k]) for k in SCALES]) + " |"
        )
    lines.append("")
    for kind in SCALES:
        pairs = [(c.predicted[kind][0], c.branched[0]) for c in found]
        logs = [math.log(p / b) for p, b in pairs if p and b]
        if not logs:
            continue
        near = sum(abs(log) <= math.log(NEAR) for log in logs)
        lines.append(
            f"- {kind}: {near} of {len(logs)} within a factor of {NEAR:g} (bar {NEAR_SHARE:.0%}), "
            f"{sum(abs(log) <= math.log(3) for log in logs)} of 3; median ratio "
            f"{math.exp(np.median(logs)):.2f}; {_overlapping(found, kind)}"
        )
    return "\n".join(lines)


def _overlapping(found: list[Case], kind: str) -> str:
    """How often the two intervals overlap."""
    both = [
        (c.predicted[kind], c.branched) for c in found
        if any(e is not None for e in c.predicted[kind]) and any(e is not None for e in c.branched)
    ]  # fmt: skip
    lows = [max(map(lower_end, pair)) for pair in both]
    highs = [min(map(upper_end, pair)) for pair in both]
    overlap = sum(lo <= hi for lo, hi in zip(lows, highs, strict=True))
    return f"intervals overlap in {overlap} of {len(both)}"


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selftuning.critical", description=main.__doc__
    )
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--file", type=Path, default=FILE, metavar="FILE")
    parser.add_argument("--report", action="store_true", help="print what is recorded")
    options = parser.parse_args(argv)
    targets = Targets(TARGETS)
    names = [n for n in options.workloads or WORKLOADS if n in targets.searches and not missing(n)]
    if not options.report:
        print(json.dumps(machine(), indent=1), flush=True)
        for seed in range(options.seeds):
            for name in names:
                _record(name, seed, targets, options.file)
    print(markdown(read(options.file)))


def _record(name: str, seed: int, targets: Targets, path: Path) -> None:
    """Append the cases of a run, unless they are there."""
    if any((c.workload, c.seed) == (name, seed) for c in read(path)):
        return
    begin, found = time.perf_counter(), []
    for case in cases(load(name), targets, seed):
        found.append(case)
        print(f"{name}, seed {seed}, update {case.step:,}: branched {ends_text(case.branched)}, "
              f"predicted {ends_text(case.predicted[SCALES[0]])}", flush=True)  # fmt: skip
    with path.open("a") as file:
        file.writelines(json.dumps(dataclasses.asdict(case)) + "\n" for case in found)
    print(f"  {time.perf_counter() - begin:.0f} s", flush=True)
    jax.clear_caches()


if __name__ == "__main__":
    main()
