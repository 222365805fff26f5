"""Optimizers by name, all from optax, and learning-rate schedules.

A rule is rebuilt inside the compiled step from the current learning rate, a traced
scalar, so changing it never recompiles.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax import Array

from downslope.config import AUTO, Training, is_auto
from downslope.errors import UsageError

COOL_DOWN = 0.2  # share of a run over which wsd lowers the rate (Haegele et al. 2024: 0.1 to 0.2)
# The same of flat_cosine. On eleven workloads 0.8 missed the losses of settings by hand least often
# (measured; `docs/decisions/2026-11-30-a-schedule-and-a-decay-that-span-the-run.md`).
COSINE_SHARE = 0.8
WARM_UP = 0.1  # share of a run over which an automatic warm-up raises it
# Updates that it takes at least, and the share that it takes at most for them. A transformer's best
# rate over 48 updates was .0017 with 5 of them, .0033 with 20, and near .002 over 2,048 (measured).
MIN_WARM_UP, MAX_WARM_UP = 20, 0.5
# Decay of the squares' average in nadam. With the 0.999 of optax, whole runs of 32 to 2,048 updates
# at the best rate ended higher, or as high, on MNIST, diamonds and characters of text (measured).
SQUARES_DECAY = 0.99


class Traits(NamedTuple):
    """Properties of an update rule that other modules ask for; nothing else compares names.

    A step of a plain rule is the gradient or its momentum times the rate, so that the best rate has
    the scale of the loss: near the edge of stability, and proportional to the batch size below the
    noise scale. Other rules follow the batch size by the square root.
    """

    learning_rate: float | None = None  # start of the search, and the rate without a search
    is_plain: bool = False
    momentum_kind: Literal["heavy_ball", "nesterov"] | None = None
    finds_rate: bool = False  # its own step length, so nothing is searched or scaled
    keeps_params: bool = False  # the parameters to evaluate; no other average is kept
    decays: tuple[str, ...] = ()  # arguments of the optax rule: of moving averages of gradients


class Optimizer(NamedTuple):
    """An update rule with its learning rate and traits.

    `build(learning_rate)` gives the optax transformation; the rate may be traced.
    `l1_scale(opt_state, learning_rate, params)` gives the step size per coordinate for a proximal
    step, or is None if the rule has none. `metric(opt_state)` gives the diagonal of P, the
    preconditioner of the next step: positive weights, 0 for a coordinate without a gradient so
    far; None if steps are Euclidean or nothing is known of them. `weight_decay` is decoupled and
    acts on the leaves that `is_decayed` picks; None where there is none or the rule has its own.
    """

    name: str  # as the user gave it
    build: Callable[[Any], optax.GradientTransformation]
    learning_rate: float | None  # None if the transformation holds its own
    traits: Traits = Traits()
    is_named: bool = False  # the package's own rule of that name, not a user's function
    l1_scale: Callable[[Any, Array, Any], Any] | None = None
    metric: Callable[[Any], Any] | None = None
    weight_decay: float | None = None
    is_decayed: Callable[[Array], bool] = lambda leaf: True


class Rule(NamedTuple):
    """A named optimizer: its optax rule, its construction from a configuration, and its traits."""

    optax_rule: Callable[..., optax.GradientTransformation]
    traits: Traits
    settings: Callable[[Training], dict[str, Any]] = lambda _: {}
    l1_scale: Callable[[Training], Callable[[Any, Array, Any], Any]] | None = None
    metric: Callable[[Any], Any] | None = None
    decays_weights: bool = False  # decoupled weight decay is the rule's own argument


def make_optimizer(
    training: Training, is_decayed: Callable[[Array], bool] = lambda leaf: True
) -> Optimizer:
    """Optimizer that the configuration names or holds.

    Args:
        is_decayed: tells which leaves weight decay acts on, where it is no part of the rule.

    Raises:
        UsageError: a setting that the given transformation would not obey, or L1 with a
            rule that offers no proximal step.
    """
    given = training.optimizer
    if isinstance(given, str):
        optimizer = _named(given, training, is_decayed)
    elif _decay_of(training):
        raise UsageError(
            "weight_decay is added to named optimizers only; chain "
            "optax.add_decayed_weights into your own"
        )
    elif isinstance(given, optax.GradientTransformation):
        for setting in ("learning_rate", "schedule", "warmup_steps"):
            given_here = getattr(training, setting)
            if given_here not in (getattr(Training, setting), "constant", 0):
                raise UsageError(
                    f"{setting} cannot change a finished optax transformation; set it there, "
                    "or pass a function of the learning rate such as optax.adam"
                )
        optimizer = Optimizer("optax", lambda _: given, None)
    elif callable(given):
        optimizer = _from_function(given, training)
    else:
        raise UsageError(f"optimizer must be a name or an optax transformation; got {given!r}")
    if training.l1 and optimizer.l1_scale is None:
        proximal = [name for name, rule in RULES.items() if rule.l1_scale]
        raise UsageError(
            f"l1 has no proximal step for optimizer {optimizer.name}; use "
            f"{', '.join(proximal[:-1])} or {proximal[-1]}"
        )
    return optimizer


def _named(name: str, training: Training, is_decayed: Callable[[Array], bool]) -> Optimizer:
    rule, given = RULES[name], training.learning_rate
    decay = _decay_of(training)
    settings = rule.settings(training)
    if rule.decays_weights:
        settings |= {} if decay is None else {"weight_decay": decay}
        decay = None
    return Optimizer(
        name,
        lambda learning_rate: rule.optax_rule(learning_rate, **settings),
        rule.traits.learning_rate if given == AUTO else given,
        rule.traits,
        is_named=True,
        l1_scale=rule.l1_scale and rule.l1_scale(training),
        metric=rule.metric,
        weight_decay=decay or None,
        is_decayed=is_decayed,
    )


def _decay_of(training: Training) -> float | None:
    """Weight decay; None where it is none or was left to choose, and nothing chose any."""
    decay = training.weight_decay
    return None if is_auto(decay) else decay  # type: ignore[return-value]


def _from_function(function: Callable[..., Any], training: Training) -> Optimizer:
    """Optimizer from a function of the learning rate; a known name gives its traits."""
    name = getattr(function, "__name__", None) or "optax"
    traits = RULES[name].traits if name in RULES else Traits()
    rate = traits.learning_rate if training.learning_rate == AUTO else training.learning_rate
    if rate is None:
        raise UsageError(
            "learning_rate is needed with a function as optimizer, unless it is named like "
            f"one of {', '.join(RULES)}"
        )
    return Optimizer(name, function, rate, traits)


def evaluation_params(opt_state: Any, params: Any) -> Any:
    """Parameters to evaluate and keep: of a schedule-free rule its average, also in a chain."""

    def is_free(part: Any) -> bool:
        return isinstance(part, optax.contrib.ScheduleFreeState)

    for part in filter(is_free, jax.tree.leaves(opt_state, is_leaf=is_free)):
        return optax.contrib.schedule_free_eval_params(part, params)
    return params


def _default(rule: Callable[..., Any], name: str) -> Any:
    """Default of an optax rule's argument, read from there to have it in one place."""
    return inspect.signature(rule).parameters[name].default


def _uniform(factor: float) -> Callable[[Any, Array, Any], Any]:
    return lambda _, rate, params: jax.tree.map(lambda p: jnp.full_like(p, rate * factor), params)


def _of_velocity(training: Training) -> Callable[[Any, Array, Any], Any]:
    # at rest the velocity is g/(1 - beta), and the proximal step has to balance that
    return _uniform(1 / (1 - training.momentum))


def _adagrad_scale(opt_state: Any, rate: Array, params: Any) -> Any:
    squares = optax.tree.get(opt_state, "sum_of_squares")
    eps = _default(optax.adagrad, "eps")
    return jax.tree.map(lambda s: jnp.where(s > 0, rate * jax.lax.rsqrt(s + eps), 0.0), squares)


def _rmsprop_scale(opt_state: Any, rate: Array, params: Any) -> Any:
    eps = _default(optax.rmsprop, "eps")
    return jax.tree.map(lambda nu: rate * jax.lax.rsqrt(nu + eps), optax.tree.get(opt_state, "nu"))


def _adam_scale(b2: float) -> Callable[[Any, Array, Any], Any]:
    eps = _default(optax.adam, "eps")

    def scale(opt_state: Any, rate: Array, params: Any) -> Any:
        count = optax.tree.get(opt_state, "count")
        debias = 1 - b2 ** count.astype(jnp.float32)
        nus = optax.tree.get(opt_state, "nu")
        return jax.tree.map(lambda nu: rate / (jnp.sqrt(nu / debias) + eps), nus)

    return scale


def _prodigy_scale(opt_state: Any, rate: Array, params: Any) -> Any:
    # the squares are those of gradients times the estimated step length
    length, eps = optax.tree.get(opt_state, "estim_lr"), _default(optax.contrib.prodigy, "eps")
    squares = optax.tree.get(opt_state, "exp_avg_sq")
    return jax.tree.map(lambda v: rate * length / (jnp.sqrt(v) + length * eps), squares)


def _metric(scale: Callable[[Any, Any, Any], Any], squares: str) -> Callable[[Any], Any]:
    """Step sizes at rate 1, and 0 where the state's `squares` are: eps alone is no metric."""

    def metric(opt_state: Any) -> Any:
        seen = optax.tree.get(opt_state, squares)
        sizes = scale(opt_state, 1.0, None)
        return jax.tree.map(lambda v, size: jnp.where(v > 0, size, 0.0), seen, sizes)

    return metric


ADAM_SCALE = _adam_scale(_default(optax.adam, "b2"))
NADAM_SCALE = _adam_scale(SQUARES_DECAY)


# Rates where the search begins. Adam: the best of a half-decade grid, read after 40 steps, was 3e-3
# to 3e-2 on six of nine real tasks and up to 1e-1 on the others (measured). The rest is assumed,
# from the methods' papers. Plain rules' rates depend on the loss's scale, so their search
# begins at the curvature instead.
RULES: dict[str, Rule] = {
    "sgd": Rule(optax.sgd, Traits(0.1, is_plain=True), l1_scale=lambda _: _uniform(1.0)),
    "momentum": Rule(
        optax.sgd,
        Traits(0.03, is_plain=True, momentum_kind="heavy_ball"),
        settings=lambda training: {"momentum": training.momentum, "nesterov": False},
        l1_scale=_of_velocity,
    ),
    "nesterov": Rule(
        optax.sgd,
        Traits(0.03, is_plain=True, momentum_kind="nesterov"),
        settings=lambda training: {"momentum": training.momentum, "nesterov": True},
        l1_scale=_of_velocity,
    ),
    "adagrad": Rule(
        optax.adagrad,
        Traits(0.1),
        l1_scale=lambda _: _adagrad_scale,
        metric=_metric(_adagrad_scale, "sum_of_squares"),
    ),
    "rmsprop": Rule(
        optax.rmsprop,
        Traits(3e-3, decays=("decay",)),
        l1_scale=lambda _: _rmsprop_scale,
        metric=_metric(_rmsprop_scale, "nu"),
    ),
    "adam": Rule(
        optax.adam,
        Traits(1e-2, decays=("b1", "b2")),
        l1_scale=lambda _: ADAM_SCALE,
        metric=_metric(ADAM_SCALE, "nu"),
    ),
    "nadam": Rule(
        optax.nadam,
        Traits(5e-3, decays=("b1", "b2")),
        settings=lambda _: {"b2": SQUARES_DECAY},
        l1_scale=lambda _: NADAM_SCALE,
        metric=_metric(NADAM_SCALE, "nu"),
    ),
    "adamw": Rule(
        optax.adamw,
        Traits(1e-2, decays=("b1", "b2")),
        l1_scale=lambda _: ADAM_SCALE,
        metric=_metric(ADAM_SCALE, "nu"),
        decays_weights=True,
    ),
    "schedule_free": Rule(
        optax.contrib.schedule_free_adamw,
        # its b1 weighs two sequences of parameters against each other: no average of gradients
        Traits(1e-2, keeps_params=True, decays=("b2",)),
        metric=_metric(ADAM_SCALE, "nu"),
        decays_weights=True,
    ),
    "prodigy": Rule(
        optax.contrib.prodigy,
        Traits(1.0, finds_rate=True, keeps_params=True, decays=("betas",)),
        metric=_metric(_prodigy_scale, "exp_avg_sq"),
        decays_weights=True,
    ),
}


def preconditioner(optimizer: Optimizer, state: Any) -> np.ndarray | None:
    """Divisor of each coordinate of a step, flat [d] in float64; None for plain rules.

    Infinite where a coordinate has not moved yet.
    """
    if optimizer.l1_scale is None or optimizer.traits.is_plain:
        return None
    scales = optimizer.l1_scale(state.opt_state, jnp.float32(1.0), state.params)
    flat = [np.ravel(jax.device_get(leaf)).astype(np.float64) for leaf in jax.tree.leaves(scales)]
    with np.errstate(divide="ignore"):
        return 1.0 / np.concatenate(flat)


def decays(training: Training) -> dict[str, float]:
    """Decay of every moving average that training keeps, by name."""
    rule = RULES.get(training.optimizer) if isinstance(training.optimizer, str) else None
    found: dict[str, float] = {}
    settings = rule.settings(training) if rule else {}
    for name in rule.traits.decays if rule else ():
        value = settings.get(name) or _default(rule.optax_rule, name)  # type: ignore[union-attr]
        found |= dict(zip(("b1", "b2"), value, strict=True)) if name == "betas" else {name: value}
    if rule and rule.traits.momentum_kind:
        found["momentum"] = training.momentum
    if training.average == "ema":
        found["average"] = training.ema_decay
    return {name: float(value) for name, value in found.items()}


def rate_factor(training: Training) -> Callable[[Array, Array, Array], Array]:
    """Schedule: `factor(step, done, per_step)` in 0 to 1, which multiplies the learning rate.

    `done` is the share of the run that is done before the update, `per_step` what an update adds.
    Warm-up rises linearly to 1 at step `warmup_steps`, or where that is "auto" over the first tenth
    of a run whose end is known, at least 20 updates, at most half of the run; then, with s the
    share of the rest that is done, cosine is `(1 + cos(pi s)) / 2`, flat_cosine is 1 until a share
    of `COSINE_SHARE` is left, from where it falls along half a cosine, and wsd 1 until a share of
    `COOL_DOWN` is left, from where it falls linearly to 0. Inverse time is `1 / (1 + t /
    decay_steps)`, t counted from the end of the warm-up.

    Source: Loshchilov and Hutter 2017 (cosine); Hu et al. 2024 (wsd: warm-up, stable, decay).
    """
    schedule = training.schedule
    warms_up, warmup = is_auto(training.warmup_steps), training.warmup_steps
    warmup = 0 if is_auto(warmup) else int(warmup)

    def factor(step: Array, done: Array, per_step: Array) -> Array:
        if warms_up:
            share = jnp.clip(MIN_WARM_UP * per_step, WARM_UP, MAX_WARM_UP)
            before = jnp.where(per_step > 0, share, 0.0)
            rise = jnp.where(per_step > 0, jnp.minimum(1.0, (done + per_step) / share), 1.0)
        else:
            before = warmup * per_step
            rise = jnp.minimum(1.0, (step + 1) / warmup) if warmup else 1.0
        share = jnp.clip((done - before) / jnp.maximum(1 - before, per_step), 0.0, 1.0)
        if schedule == "cosine":
            later = (1 + jnp.cos(jnp.pi * share)) / 2
        elif schedule == "flat_cosine":
            later = (1 - jnp.cos(jnp.pi * jnp.minimum(1.0, (1 - share) / COSINE_SHARE))) / 2
        elif schedule == "wsd":
            later = jnp.minimum(1.0, (1 - share) / COOL_DOWN)
        elif schedule == "inverse_time":
            later = 1 / (1 + jnp.maximum(step - warmup, 0) / float(training.decay_steps or 1))
        else:
            later = 1.0
        return jnp.asarray(rise * later, jnp.float32)

    return factor
