"""Every default, range and flag, in one place.

A frozen dataclass per subject. The command line builds its flags from the fields'
metadata, `fit` takes the same names as keywords, and both validate here, once,
before any costly work.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from downslope.arguments import Interval, plain
from downslope.errors import UsageError

Task = Literal["classify", "regress"]
ModelName = Literal["linear", "svm", "mlp"]
OptimizerName = Literal[
    "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "schedule_free", "prodigy"
]
ScheduleName = Literal["constant", "cosine", "inverse_time"]
AverageName = Literal["tail", "polyak", "ema"]
Auto = Literal["auto"]
LossName = Literal["squared", "absolute", "huber", "logistic", "softmax", "hinge", "squared_hinge"]

EPOCHS = 100  # assumed; a run usually ends earlier, by its held-out loss
MOST_EPOCHS = 1000  # where the end is left to choose: only a run that still gains comes to it
STEPS = 20_000  # assumed: small tables get at least this many updates, whatever the epochs

FULL_BATCH: Literal["full"] = "full"
AUTO: Auto = "auto"


def option(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    exclusive: bool = False,
    metavar: str | None = None,
) -> Any:
    """A dataclass field with its help text and, for numbers, its range.

    `low` and `high` are allowed values unless `exclusive`, which leaves `low` and `high` out.
    """
    metadata = {"help": help, "low": low, "high": high, "exclusive": exclusive, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def check_ranges(config: Any) -> None:
    """Raises UsageError, in one form, for the first field outside its type, choices or range.

    Numbers of NumPy become Python's and lists become tuples, since a configuration is
    written to JSON and compared with one that was read from it.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = plain(getattr(config, field.name))
        value = tuple(value) if isinstance(value, list) else value
        object.__setattr__(config, field.name, value)
        rule = _broken_type(hints[field.name], value) or _broken_range(field, value)
        if rule and value != field.default:
            raise UsageError(f"{field.name} must be {rule}; got {value!r}")


def _broken_type(hint: Any, value: Any) -> str | None:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if any(_is_of(kind, value) for kind in kinds):
        return None
    return " or ".join(_in_words(kind) for kind in kinds)


def _is_of(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(get_args(kind)[0], v) for v in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)


def _in_words(kind: Any) -> str:
    choices = list(get_args(kind))
    if get_origin(kind) is tuple:
        return f"a tuple of {'names' if str in choices else 'whole numbers'}"
    if choices:
        return f"one of {', '.join(choices)}" if len(choices) > 1 else repr(choices[0])
    return {int: "a whole number", float: "a number", str: "a name"}.get(kind, "None")


def _broken_range(field: dataclasses.Field[Any], value: Any) -> str | None:
    if not isinstance(value, (int, float)):
        return None
    low, high = (
        None if math.isinf(field.metadata[end]) else field.metadata[end] for end in ("low", "high")
    )
    if field.metadata["exclusive"]:
        allowed = Interval(above=low, below=high)
    else:
        allowed = Interval(least=low, most=high)
    if value in allowed:
        return None
    is_open = not (allowed.is_bounded or math.isfinite(value))
    return f"finite and {allowed}" if is_open else str(allowed)


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table is read: which column is the target, and what the others are.

    Columns not named here get their kind from their type: numbers and booleans are
    numbers, dates and times are dates, strings are categories, or text when most of
    their values are several words.
    """

    target: str | None = option(None, "column to predict", metavar="COLUMN")
    task: Task | None = option(
        None,
        "what to predict; by default from the target's type: strings, booleans and integers "
        "of at most 20 values are classes, other numbers are regressed on",
    )
    weight: str | None = option(
        None,
        "column of row weights, zero or more; they are scaled to a mean of 1",
        metavar="COLUMN",
    )
    categorical: tuple[str, ...] = option((), "column to read as categories", metavar="COLUMN")
    text: tuple[str, ...] = option((), "column to read as text (hashed words)", metavar="COLUMN")
    ignore: tuple[str, ...] = option((), "column to leave out", metavar="COLUMN")
    validation: float = option(
        0.1, "share of the rows held out for validation; 0 holds out none", low=0, high=0.9
    )
    seed: int = option(0, "seed of every random choice", low=0, high=2**63 - 1)

    def __post_init__(self):
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model a table is fitted with, and by which loss."""

    model: ModelName = option(
        "linear",
        "linear (one weight per column and category), svm (linear, hinge loss, classes only) "
        "or mlp (embeddings of categories, hidden layers with ReLU)",
    )
    hidden: tuple[int, ...] = option((64, 64), "widths of the mlp's hidden layers", metavar="N,N")
    loss: LossName | None = option(
        None,
        "loss; by default logistic for two classes, softmax for more, hinge for svm and squared "
        "for numbers",
    )

    def __post_init__(self):
        check_ranges(self)
        if any(width < 1 for width in self.hidden):
            raise UsageError(f"hidden widths must be 1 or more; got {self.hidden!r}")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a run descends: the keywords of `downslope.fit` and the flags of `downslope fit`.

    What is "auto" is chosen while training, from what the run measures; a given value is obeyed.

    Raises:
        UsageError: a value lies outside its range, or two of them contradict each other.
    """

    optimizer: Any = option(
        AUTO,
        "how a gradient becomes a step: one of " + ", ".join(get_args(OptimizerName)) + "; auto "
        "solves an exact convex quadratic at once and takes adam otherwise",
        metavar="NAME",
    )
    learning_rate: float | Auto = option(
        AUTO,
        "step size; auto finds it by short trials",
        low=0,
        high=math.inf,
        exclusive=True,
    )
    momentum: float = option(
        0.9, "share of the velocity kept by momentum and nesterov", low=0, high=0.9999
    )
    batch_size: int | Literal["full"] | Auto = option(
        AUTO,
        "examples per update; 1 is plain stochastic descent, 'full' is all rows, auto follows "
        "the gradient's noise and the measured time of a step",
        low=1,
    )
    microbatch_size: int | None = option(
        None, "examples on the device at once; the gradient of a larger batch is accumulated", low=1
    )
    epochs: int | None = option(
        None,
        f"passes over the rows; if neither steps nor time are given {EPOCHS}, or where patience is "
        f"auto {MOST_EPOCHS:,} and at least {STEPS:,} updates",
        low=1,
    )
    steps: int | None = option(None, "updates to make", low=1)
    seconds: float | None = option(
        None, "time budget in seconds", low=0, exclusive=True, high=math.inf
    )
    schedule: ScheduleName | Auto = option(
        AUTO,
        "how the learning rate changes: constant, cosine to zero, or inverse_time; auto holds it "
        "while the held-out loss falls and lowers it at the noise floor",
    )
    warmup_steps: int = option(
        0, "steps over which the learning rate rises linearly to its value", low=0
    )
    decay_steps: int | None = option(
        None, "steps after which inverse_time has halved the learning rate", low=1
    )
    clip_norm: float | Auto | None = option(
        AUTO,
        "largest global norm of a gradient; longer ones are shortened to it; auto clips only "
        "where the norms have a heavy tail",
        low=0,
        exclusive=True,
        high=math.inf,
    )
    weight_decay: float | None = option(
        None, "decoupled weight decay; by default 1e-4 for adamw and none for the others", low=0
    )
    l1: float = option(
        0.0, "weight of the sum of |w|, by a proximal step: zeros are exact zeros", low=0
    )
    l2: float = option(0.0, "weight of half the sum of w squared", low=0)
    average: AverageName | Auto | None = option(
        AUTO,
        "average of the parameters to evaluate and keep: tail (the last tenth of the updates), "
        "polyak (plain mean) or ema; auto is tail where the schedule is auto too, else none",
    )
    ema_decay: float = option(
        0.999, "share of the old average that ema keeps at each step", low=0, high=1, exclusive=True
    )
    average_from_step: int = option(0, "step at which averaging begins", low=0)
    patience: int | Auto | None = option(
        AUTO,
        "evaluations without a better held-out loss after which the run has converged; auto "
        "asks whether a gain stands out of the noise, and lowers the learning rate before it stops",
        low=1,
    )
    tolerance: float = option(
        1e-3, "relative gain in held-out loss that counts as better", low=0, high=1
    )
    measure_every: int | None = option(
        256,
        "measure the noise of the gradient in one of this many updates",
        low=1,
    )
    anatomy_share: float | None = option(
        None,
        "largest share of the time for diagnostics of the gradient's noise while training, "
        "such as 0.1; by default none",
        low=0,
        high=0.9,
    )
    checkpoint_seconds: float = option(30.0, "seconds between checkpoints", low=0, high=math.inf)
    seed: int = option(0, "seed of every random choice", low=0, high=2**63 - 1)

    def __post_init__(self):
        check_ranges(self)
        named = (*get_args(OptimizerName), AUTO)
        if isinstance(self.optimizer, str) and self.optimizer not in named:
            raise UsageError(f"optimizer must be one of {', '.join(named)}; got {self.optimizer!r}")
        if (
            isinstance(self.batch_size, int)
            and self.microbatch_size is not None
            and self.microbatch_size > self.batch_size
        ):
            raise UsageError(
                f"microbatch_size must be at most batch_size ({self.batch_size}); "
                f"got {self.microbatch_size}"
            )
        if (
            self.schedule == "cosine"
            and self.epochs is None
            and self.steps is None
            and self.seconds
        ):
            raise UsageError(
                "schedule cosine needs epochs or steps: a time budget has no known last step"
            )
        if self.schedule == "inverse_time" and self.decay_steps is None:
            raise UsageError("schedule inverse_time needs decay_steps")
        if self.decay_steps is not None and self.schedule != "inverse_time":
            raise UsageError("decay_steps belongs to schedule inverse_time")

    @property
    def free(self) -> frozenset[str]:
        """The settings that are left to choose."""
        return frozenset(f.name for f in dataclasses.fields(self) if is_auto(getattr(self, f.name)))

    def resolved(self, **chosen: Any) -> Training:
        """The configuration with these values in place of what was "auto"; others stay."""
        return dataclasses.replace(self, **{k: v for k, v in chosen.items() if k in self.free})


@dataclass(frozen=True, kw_only=True)
class KnobSettings:
    """Settings that decisions change while a run trains, as they stand.

    Attributes:
        learning_rate: before the schedule's factor; None where the optimizer holds its own.
        batch_size: examples per update.
        clip_norm: largest global norm of a gradient, or None.
    """

    learning_rate: float | None
    batch_size: int
    clip_norm: float | None


def is_auto(value: Any) -> bool:
    """Whether a setting is left to choose; an array or an object never is."""
    return isinstance(value, str) and value == AUTO
