"""Every default, range and flag, in one place.

One frozen dataclass per subject. The command line builds its flags from the metadata of the
fields, `fit` takes the same names as keywords, and both validate here, once, before any costly
work.
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
ModelName = Literal["auto", "linear", "svm", "mlp", "net"]
OptimizerName = Literal[
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "nadam",
    "adamw",
    "schedule_free",
    "prodigy",
]
ScheduleName = Literal["constant", "cosine", "flat_cosine", "wsd", "inverse_time"]
NEED_AN_END = frozenset({"cosine", "flat_cosine", "wsd"})  # schedules that end with the run
AverageName = Literal["tail", "polyak", "ema"]
Auto = Literal["auto"]
Targets = dict[str, float]  # by metric
LossName = Literal[
    "squared", "absolute", "huber", "poisson", "gamma",
    "logistic", "softmax", "hinge", "squared_hinge",
]  # fmt: skip

EPOCHS = 100  # assumed; a run usually ends earlier, by its held-out loss
MOST_EPOCHS = 1000  # with automatic stopping, reached only by a run that still improves
STEPS = 20_000  # assumed: the least number of updates on a small table, whatever the epochs

POSITIVE, NOT_NEGATIVE, AT_LEAST_ONE = Interval(above=0), Interval(least=0), Interval(least=1)
SEED = Interval(least=0, most=2**63 - 1)

FULL_BATCH: Literal["full"] = "full"
AUTO: Auto = "auto"


def option(
    default: Any, help: str, *, within: Interval | None = None, metavar: str | None = None
) -> Any:
    """A dataclass field with its help text and, for numbers, its range."""
    metadata = {"help": help, "range": within, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def check_ranges(config: Any) -> None:
    """Raise UsageError for the first field outside its type, choices or range.

    NumPy numbers become Python's and lists become tuples, since a configuration is
    written to JSON and compared with one that was read from it.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = plain(getattr(config, field.name))
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(value, dict):
            value = {name: plain(each) for name, each in value.items()}
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
    if kind == Targets:
        numbers = isinstance(value, dict) and all(
            _is_of(float, v) and math.isfinite(v) for v in value.values()
        )
        return numbers and bool(value) and all(isinstance(name, str) for name in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)


def _in_words(kind: Any) -> str:
    if kind == Targets:
        return "numbers by metric, such as {'loss': 0.3}"
    choices = list(get_args(kind))
    if get_origin(kind) is tuple:
        kinds = {str: "names", float: "numbers"}
        return f"a tuple of {kinds.get(choices[0], 'whole numbers')}"
    if choices:
        return f"one of {', '.join(choices)}" if len(choices) > 1 else repr(choices[0])
    return {int: "a whole number", float: "a number", str: "a name"}.get(kind, "None")


def _broken_range(field: dataclasses.Field[Any], value: Any) -> str | None:
    allowed: Interval | None = field.metadata["range"]
    if allowed is None or not isinstance(value, (int, float)) or value in allowed:
        return None
    is_open = not (allowed.is_bounded or math.isfinite(value))
    return f"finite and {allowed}" if is_open else str(allowed)


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """The target, weights and kinds of a table's columns, and the share of held-out rows.

    Columns not named here get their kind from their type: numbers and booleans are
    numbers, dates and times are dates, strings are categories, or text if most of
    their values have several words, or numbers if nearly all of them are ("$1,200", "?").
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
    number: tuple[str, ...] = option(
        (), "column to read as numbers; what is none counts as missing", metavar="COLUMN"
    )
    categorical: tuple[str, ...] = option((), "column to read as categories", metavar="COLUMN")
    text: tuple[str, ...] = option((), "column to read as text (hashed words)", metavar="COLUMN")
    ignore: tuple[str, ...] = option((), "column to leave out", metavar="COLUMN")
    group: str | None = option(
        None,
        "column of groups: rows with the same value are all held out, or none; not used to predict",
        metavar="COLUMN",
    )
    time_column: str | None = option(
        None, "column of times: the latest rows are held out", metavar="COLUMN"
    )
    validation: float = option(
        0.1,
        "share of the rows held out for validation; 0 holds out none",
        within=Interval(least=0, most=0.9),
    )
    fold: tuple[int, ...] = option(
        (), "fold to hold out in place of a share, and the number of folds: 2,5 is the second of "
        "five; rows, or whole groups, are assigned to folds at random", metavar="N,OF",
    )  # fmt: skip
    seed: int = option(0, "seed of every random choice", within=SEED)

    def __post_init__(self):
        check_ranges(self)
        if self.group is not None and self.time_column is not None:
            raise UsageError("group and time_column exclude each other: one of them splits rows")
        if self.fold and not (len(self.fold) == 2 and 1 <= self.fold[0] <= self.fold[1] > 1):
            raise UsageError(
                f"fold must be N,OF with N from 1 to OF, OF 2 or more; got {self.fold}"
            )
        if self.fold and self.time_column is not None:
            raise UsageError(
                "fold and time_column exclude each other: only the latest rows are new"
            )

    @property
    def held_out_share(self) -> float:
        """Share of the rows held out."""
        return 1 / self.fold[1] if self.fold else self.validation


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model of a table and its loss."""

    model: ModelName = option(
        "auto",
        "linear (one weight per column and category), svm (linear, hinge loss, classes only), mlp "
        "(embeddings of categories, hidden layers with ReLU), net (embeddings of numbers too, "
        "dropout), or auto: linear and net, of which held-out rows choose one, or both, averaged",
    )
    hidden: tuple[int, ...] = option(
        (), "widths of hidden layers; by default 64,64 of an mlp, 128,128,128 of a net",
        metavar="N,N",
    )  # fmt: skip
    loss: LossName | None = option(
        None,
        "loss; by default logistic for two classes, softmax for more, hinge for svm and squared "
        "for numbers; poisson is for counts and gamma for amounts, both with a logarithmic link",
    )
    quantile: tuple[float, ...] = option(
        (), "quantiles of a number to predict in place of its mean, such as 0.1,0.5,0.9",
        metavar="Q,Q",
    )  # fmt: skip
    class_weight: Literal["balanced"] | None = option(
        None, "balanced: in the loss every class weighs as much as any other, however rare it is"
    )

    def __post_init__(self):
        check_ranges(self)
        if any(width < 1 for width in self.hidden):
            raise UsageError(f"hidden widths must be 1 or more; got {self.hidden!r}")
        if not all(0 < level < 1 for level in self.quantile):
            raise UsageError(f"quantiles must be between 0 and 1; got {self.quantile!r}")
        names = [f"{level:g}" for level in self.quantile]  # of metrics and columns
        if sorted(self.quantile) != list(self.quantile) or len({*names}) < len(names):
            raise UsageError(f"quantiles must rise; got {self.quantile!r}")
        if self.quantile and self.loss is not None:
            raise UsageError(f"quantiles have a loss of their own; leave out loss {self.loss}")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training options: the keywords of `downslope.fit` and the flags of `downslope fit`.

    An option that is "auto" is chosen while training, from measurements; a given value is kept.

    Raises:
        UsageError: a value outside its range, or options that contradict each other.
    """

    optimizer: Any = option(
        AUTO,
        "rule for the update: one of " + ", ".join(get_args(OptimizerName)) + "; auto "
        "solves an exact convex quadratic directly and uses nadam otherwise",
        metavar="NAME",
    )
    learning_rate: float | Auto = option(
        AUTO, "step size; auto finds it by short trials", within=POSITIVE
    )
    momentum: float = option(
        0.9,
        "share of the velocity kept by momentum and nesterov",
        within=Interval(least=0, most=0.9999),
    )
    batch_size: int | Literal["full"] | Auto = option(
        AUTO,
        "examples per update; 1 is plain stochastic descent, 'full' is all rows, auto follows "
        "the gradient's noise and the measured time of a step",
        within=AT_LEAST_ONE,
    )
    microbatch_size: int | None = option(
        None,
        "examples on the device at once; the gradient of a larger batch is accumulated",
        within=AT_LEAST_ONE,
    )
    epochs: int | None = option(
        None,
        f"passes over the rows; if neither steps nor time are given {EPOCHS}, or where patience is "
        f"auto {MOST_EPOCHS:,} and at least {STEPS:,} updates",
        within=AT_LEAST_ONE,
    )
    steps: int | None = option(None, "updates to make", within=AT_LEAST_ONE)
    seconds: float | None = option(None, "time budget in seconds", within=POSITIVE)
    until: Targets | None = option(
        None,
        "target that ends the run once a held-out metric is at it or better, such as loss=0.3 or "
        "accuracy=0.95; all of them if several; the training loss if no rows are held out",
        metavar="NAME=VALUE",
    )
    schedule: ScheduleName | Auto = option(
        AUTO,
        "course of the learning rate: constant, cosine to zero, flat_cosine (constant, then four "
        "fifths of the run a cosine to zero), wsd (constant, then a fifth of the run linearly to "
        "zero) or inverse_time; those to zero end with the epochs, steps or seconds; auto is "
        "flat_cosine where the end is given, and else keeps the rate while the held-out loss falls "
        "and lowers it at the noise floor",
    )
    warmup_steps: int | Auto = option(
        AUTO,
        "steps over which the learning rate rises linearly to its value; auto is a tenth of a run "
        "whose end is given if the schedule is auto too, else none",
        within=NOT_NEGATIVE,
    )
    decay_steps: int | None = option(
        None, "steps after which inverse_time halves the learning rate", within=AT_LEAST_ONE
    )
    clip_norm: float | Auto | None = option(
        AUTO,
        "largest global norm of a gradient; longer ones are scaled down to it; auto clips only "
        "if the norms have a heavy tail",
        within=POSITIVE,
    )
    weight_decay: float | Auto | None = option(
        AUTO,
        "decoupled weight decay; auto is 0.1, less in a long run, more at a lower rate, on arrays "
        "of two axes or more, for a net with held-out rows whose optimizer is auto; else that of "
        "the optimizer, 1e-4 for adamw or none",
        within=NOT_NEGATIVE,
    )
    l1: float = option(
        0.0,
        "weight of the sum of |w|, by a proximal step that gives exact zeros",
        within=NOT_NEGATIVE,
    )
    l2: float = option(0.0, "weight of half the sum of w squared", within=NOT_NEGATIVE)
    average: AverageName | Auto | None = option(
        AUTO,
        "average of the parameters to evaluate and keep: tail (the last tenth of the updates), "
        "polyak (plain mean) or ema; auto is tail if the schedule is auto too, else none",
    )
    ema_decay: float = option(
        0.999,
        "share of the old average that ema keeps at each step",
        within=Interval(above=0, below=1),
    )
    average_from_step: int = option(0, "step at which averaging begins", within=NOT_NEGATIVE)
    patience: int | Auto | None = option(
        AUTO,
        "evaluations without a better held-out loss after which the run has converged; auto "
        "tests gains against their noise, and lowers the learning rate before it stops; where an "
        "end is given it stops for overfitting alone",
        within=AT_LEAST_ONE,
    )
    tolerance: float = option(
        1e-3,
        "relative gain in held-out loss that counts as better",
        within=Interval(least=0, most=1),
    )
    measure_every: int | None = option(
        256, "measure the noise of the gradient in one of this many updates", within=AT_LEAST_ONE
    )
    anatomy_share: float | None = option(
        None,
        "largest share of the time for diagnostics of the gradient's noise while training, "
        "such as 0.1; by default none",
        within=Interval(least=0, most=0.9),
    )
    checkpoint_seconds: float = option(30.0, "seconds between checkpoints", within=NOT_NEGATIVE)
    seed: int = option(0, "seed of every random choice", within=SEED)

    def __post_init__(self):
        check_ranges(self)
        named = (*get_args(OptimizerName), AUTO)
        if isinstance(self.optimizer, str) and self.optimizer not in named:
            raise UsageError(f"optimizer must be one of {', '.join(named)}; got {self.optimizer!r}")
        if isinstance(self.batch_size, int) and (self.microbatch_size or 0) > self.batch_size:
            raise UsageError(
                f"microbatch_size must be at most batch_size ({self.batch_size}); "
                f"got {self.microbatch_size}"
            )
        if self.schedule == "inverse_time" and self.decay_steps is None:
            raise UsageError("schedule inverse_time needs decay_steps")
        if self.decay_steps is not None and self.schedule != "inverse_time":
            raise UsageError("decay_steps belongs to schedule inverse_time")

    @property
    def free(self) -> frozenset[str]:
        """The options that are "auto"."""
        return frozenset(f.name for f in dataclasses.fields(self) if is_auto(getattr(self, f.name)))

    def resolved(self, **chosen: Any) -> Training:
        """A copy with these values for options that were "auto"; others stay."""
        return dataclasses.replace(self, **{k: v for k, v in chosen.items() if k in self.free})


@dataclass(frozen=True, kw_only=True)
class KnobSettings:
    """Current values of the settings that decisions change while a run trains.

    Attributes:
        learning_rate: before the schedule's factor; None where the optimizer holds its own.
        batch_size: examples per update.
        clip_norm: largest global norm of a gradient, or None.
        weight_decay: share by which an update shrinks the weights, over the learning rate; None
            where there is none or the optimizer's rule has its own.
    """

    learning_rate: float | None
    batch_size: int
    clip_norm: float | None
    weight_decay: float | None = None


def is_auto(value: Any) -> bool:
    """True if an option is "auto"; an array or an object never is."""
    return isinstance(value, str) and value == AUTO
