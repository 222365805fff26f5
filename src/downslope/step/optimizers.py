"""Optimizers by name, all of them optax's, and how the learning rate changes.

A rule is built anew inside the compiled step from the current learning rate, a traced
scalar, so changing it never recompiles.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax import Array

from downslope.config import AUTO, LEARNING_RATES, Training
from downslope.errors import UsageError


class Optimizer(NamedTuple):
    """An update rule.

    Attributes:
        name: what the user called it.
        build: `build(learning_rate)` gives the optax transformation; the rate may be traced.
        learning_rate: the rate to use, or None where the transformation holds its own.
        l1_scale: `l1_scale(opt_state, learning_rate, params)` gives the step size per
            coordinate for a proximal step, or None where the rule has none.
        evaluation_params: the parameters to evaluate and keep, where the rule steps others.
    """

    name: str
    build: Callable[[Any], optax.GradientTransformation]
    learning_rate: float | None
    l1_scale: Callable[[Any, Array, Any], Any] | None = None
    evaluation_params: Callable[[Any, Any], Any] = lambda _, params: params


def make_optimizer(training: Training) -> Optimizer:
    """The optimizer that the configuration names or holds.

    Raises:
        UsageError: a setting that the given transformation would not obey, or L1 with a
            rule that offers no proximal step.
    """
    given = training.optimizer
    if training.weight_decay and not isinstance(given, str):
        raise UsageError(
            "weight_decay is added to named optimizers only; chain "
            "optax.add_decayed_weights into your own"
        )
    if isinstance(given, str):
        optimizer = _named(given, training)
    elif isinstance(given, optax.GradientTransformation):
        for setting in ("learning_rate", "schedule", "warmup_steps"):
            given_here = getattr(training, setting)
            if given_here not in (getattr(Training, setting), "constant"):
                raise UsageError(
                    f"{setting} cannot change a finished optax transformation; set it there, "
                    "or pass a function of the learning rate such as optax.adam"
                )
        optimizer = Optimizer("optax", lambda _: given, None)
    elif callable(given):
        rule: Callable[[Any], Any] = given
        rate = LEARNING_RATES.get(_name(given))
        if training.learning_rate != AUTO:
            rate = training.learning_rate
        if rate is None:
            raise UsageError(
                "learning_rate is needed with a function as optimizer, unless it is named like "
                f"one of {', '.join(LEARNING_RATES)}"
            )
        optimizer = Optimizer(_name(given), rule, rate)
    else:
        raise UsageError(f"optimizer must be a name or an optax transformation; got {given!r}")
    if training.l1 and optimizer.l1_scale is None:
        raise UsageError(
            f"l1 has no proximal step for optimizer {optimizer.name}; use sgd, momentum, "
            "nesterov, adagrad, rmsprop, adam or adamw"
        )
    return optimizer


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or "optax"


def _named(name: str, training: Training) -> Optimizer:
    given = training.learning_rate
    rate = LEARNING_RATES[name] if given == AUTO else given
    beta = training.momentum
    plain = Optimizer(name, _decayed(optax.sgd, training), rate)
    if name == "sgd":
        return plain._replace(l1_scale=_uniform(1.0))
    if name in ("momentum", "nesterov"):
        rule = _fix(optax.sgd, momentum=beta, nesterov=name == "nesterov")
        # at rest the velocity is g/(1 - beta), and the proximal step has to balance that
        return plain._replace(build=_decayed(rule, training), l1_scale=_uniform(1 / (1 - beta)))
    if name == "adagrad":
        return plain._replace(build=_decayed(optax.adagrad, training), l1_scale=_adagrad_scale)
    if name == "rmsprop":
        return plain._replace(build=_decayed(optax.rmsprop, training), l1_scale=_rmsprop_scale)
    if name == "adam":
        return plain._replace(build=_decayed(optax.adam, training), l1_scale=_adam_scale)
    if name == "adamw":
        decay = 1e-4 if training.weight_decay is None else training.weight_decay
        return plain._replace(build=_fix(optax.adamw, weight_decay=decay), l1_scale=_adam_scale)
    if name == "schedule_free":
        rule = _fix(optax.contrib.schedule_free_adamw, weight_decay=training.weight_decay or 0.0)
        return plain._replace(build=rule, evaluation_params=_schedule_free_params)
    rule = _fix(optax.contrib.prodigy, weight_decay=training.weight_decay or 0.0)
    return plain._replace(build=rule)


def _fix(rule: Callable[..., optax.GradientTransformation], **fixed: Any) -> Callable[[Any], Any]:
    return lambda learning_rate: rule(learning_rate, **fixed)


def _decayed(rule: Callable[..., Any], training: Training) -> Callable[[Any], Any]:
    """A rule with decoupled weight decay: each step also shrinks w by rate times decay."""
    decay = training.weight_decay
    if not decay:
        return rule

    def build(learning_rate: Any) -> optax.GradientTransformation:
        def shrink(updates: Any, params: Any) -> Any:
            return jax.tree.map(lambda u, p: u - learning_rate * decay * p, updates, params)

        return optax.chain(rule(learning_rate), optax.stateless(shrink))

    return build


def _schedule_free_params(opt_state: Any, params: Any) -> Any:
    return optax.contrib.schedule_free_eval_params(opt_state, params)


def _uniform(factor: float) -> Callable[[Any, Array, Any], Any]:
    return lambda _, rate, params: jax.tree.map(lambda p: jnp.full_like(p, rate * factor), params)


def _default(rule: Callable[..., Any], name: str) -> Any:
    """The default of an optax rule's argument, read there so that it stands in one place."""
    return inspect.signature(rule).parameters[name].default


def _adagrad_scale(opt_state: Any, rate: Array, params: Any) -> Any:
    squares = optax.tree.get(opt_state, "sum_of_squares")
    eps = _default(optax.adagrad, "eps")
    return jax.tree.map(lambda s: jnp.where(s > 0, rate * jax.lax.rsqrt(s + eps), 0.0), squares)


def _rmsprop_scale(opt_state: Any, rate: Array, params: Any) -> Any:
    eps = _default(optax.rmsprop, "eps")
    return jax.tree.map(lambda nu: rate * jax.lax.rsqrt(nu + eps), optax.tree.get(opt_state, "nu"))


def _adam_scale(opt_state: Any, rate: Array, params: Any) -> Any:
    count = optax.tree.get(opt_state, "count")
    b2, eps = _default(optax.adam, "b2"), _default(optax.adam, "eps")
    debias = 1 - b2 ** count.astype(jnp.float32)
    nus = optax.tree.get(opt_state, "nu")
    return jax.tree.map(lambda nu: rate / (jnp.sqrt(nu / debias) + eps), nus)


def preconditioner(optimizer: Optimizer, state: Any) -> np.ndarray | None:
    """What divides each coordinate of a step, flat [d] in float64; None for plain rules.

    Infinite where a coordinate has not moved yet.
    """
    if optimizer.l1_scale is None or optimizer.name in ("sgd", "momentum", "nesterov"):
        return None
    scales = optimizer.l1_scale(state.opt_state, jnp.float32(1.0), state.params)
    flat = [np.ravel(jax.device_get(leaf)).astype(np.float64) for leaf in jax.tree.leaves(scales)]
    with np.errstate(divide="ignore"):
        return 1.0 / np.concatenate(flat)


def decays(training: Training) -> dict[str, float]:
    """The decay of every moving average that training keeps, by name."""
    name = training.optimizer if isinstance(training.optimizer, str) else ""
    rules: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
        "rmsprop": (optax.rmsprop, ("decay",)),
        "adam": (optax.adam, ("b1", "b2")),
        "adamw": (optax.adamw, ("b1", "b2")),
        # its b1 weighs two sequences of parameters against each other: no average of gradients
        "schedule_free": (optax.contrib.schedule_free_adamw, ("b2",)),
    }
    rule, names = rules.get(name, (optax.sgd, ()))
    found = {each: float(_default(rule, each)) for each in names}
    if name == "prodigy":
        found["b1"], found["b2"] = _default(optax.contrib.prodigy, "betas")
    if name in ("momentum", "nesterov"):
        found["momentum"] = training.momentum
    if training.average == "ema":
        found["average"] = training.ema_decay
    return found


def rate_factor(training: Training, num_steps: int | None) -> Callable[[Array], Array]:
    """The schedule: `factor(step)` in 0 to 1, by which the learning rate is multiplied.

    Warm-up rises linearly to 1 at step `warmup_steps`; inverse time is
    `1 / (1 + t / decay_steps)` and cosine `(1 + cos(pi t / T)) / 2`, with t and T counted
    from the end of the warm-up.

    Raises:
        UsageError: cosine without a known number of steps.
    """
    warmup = training.warmup_steps
    if training.schedule == "cosine":
        if num_steps is None:
            raise UsageError("schedule cosine needs epochs or steps")
        later = optax.cosine_decay_schedule(1.0, max(1, num_steps - warmup))
    elif training.schedule == "inverse_time":
        decay_steps = float(training.decay_steps or 1)
        later = lambda step: 1.0 / (1.0 + step / decay_steps)  # noqa: E731
    else:
        later = optax.constant_schedule(1.0)
    if not warmup:
        return lambda step: jnp.asarray(later(step), jnp.float32)
    rise = lambda step: jnp.minimum(1.0, (step + 1) / warmup)  # noqa: E731
    return lambda step: rise(step) * later(jnp.maximum(step - warmup, 0))
