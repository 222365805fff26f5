"""Tests of `downslope.config`: every field is checked once, in one form."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math

import numpy as np
import pytest

import downslope
import plain
from downslope.config import EPOCHS, ModelOptions, TableOptions, Training
from downslope.data.arrays import Arrays
from downslope.errors import UsageError
from downslope.train.defaults import begin_with

CONFIGS = (TableOptions, ModelOptions, Training)
NUMBERS = [
    (config, field)
    for config in CONFIGS
    for field in dataclasses.fields(config)
    if any(word in str(field.type) for word in ("int", "float")) and "tuple" not in str(field.type)
]


def refused(config, **values):
    with pytest.raises(UsageError) as caught:
        config(**values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "field"), NUMBERS, ids=[f"{c.__name__}.{f.name}" for c, f in NUMBERS]
)
def test_every_number_has_a_range_and_one_form_of_error(config, field):
    """Catches a number without a range, NaN that passes every comparison, and text for numbers."""
    allowed = field.metadata["range"]
    low = allowed.least if allowed.above is None else allowed.above
    high = allowed.most if allowed.below is None else allowed.below
    form = f"{field.name} must be "
    outside = [low - 1, -math.inf, math.nan, math.inf]
    outside += [allowed.above] if allowed.above is not None else []
    outside += [high * 2] if high is not None else []
    for value in outside:
        message = refused(config, **{field.name: value})
        assert message.startswith(form) and message.endswith(f"; got {value!r}")
    for value in ("0.5", True, [1], 1j):
        shown = repr(tuple(value) if isinstance(value, list) else value)
        message = refused(config, **{field.name: value})
        assert message.startswith(form) and message.endswith(f"; got {shown}")


@pytest.mark.parametrize(
    ("config", "field"), NUMBERS, ids=[f"{c.__name__}.{f.name}" for c, f in NUMBERS]
)
def test_whole_numbers_are_whole(config, field):
    """Catches 1.5 epochs, which a loop would round in its own way."""
    if "float" not in str(field.type):
        message = refused(config, **{field.name: 1.5})
        assert message.startswith(f"{field.name} must be a whole number")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"learning_rate": None}, "learning_rate must be a number or 'auto'; got None"),
        ({"learning_rate": 0}, "learning_rate must be above 0; got 0"),
        (
            {"momentum": 1},
            "momentum must be at least 0 and at most 0.9999; got 1",
        ),
        ({"ema_decay": 1.0}, "ema_decay must be above 0 and below 1; got 1.0"),
        ({"batch_size": "all"}, "batch_size must be a whole number or 'full' or 'auto'; got 'all'"),
        (
            {"schedule": "cosin"},
            "schedule must be one of constant, cosine, flat_cosine, wsd, inverse_time or 'auto'; "
            "got 'cosin'",
        ),
        (
            {"average": "mean"},
            "average must be one of tail, polyak, ema or 'auto' or None; got 'mean'",
        ),
        ({"steps": "many"}, "steps must be a whole number or None; got 'many'"),
        (
            {"optimizer": "sdg"},
            "optimizer must be one of sgd, momentum, nesterov, adagrad, rmsprop, adam, nadam, "
            "adamw, schedule_free, prodigy, auto; got 'sdg'",
        ),
    ],
)
def test_messages(values, message):
    """Catches a message that leaves out the argument, the rule or the value."""
    assert refused(Training, **values) == message


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (TableOptions, {"task": "rank"}),
        (TableOptions, {"categorical": "zip"}),  # a tuple of its letters
        (TableOptions, {"ignore": (1,)}),
        (TableOptions, {"weight": 3}),
        (ModelOptions, {"model": "forest"}),
        (ModelOptions, {"loss": "square"}),
        (ModelOptions, {"hidden": (64, 0)}),
        (ModelOptions, {"hidden": (64, "8")}),
        (ModelOptions, {"hidden": 64}),
    ],
)
def test_choices_and_names(config, values):
    """Catches a misspelt choice that is noticed after the table was converted, or never."""
    (name,) = values
    message = refused(config, **values)
    assert message.startswith(f"{name} ") and " must be " in message and "; got " in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"microbatch_size": 64, "batch_size": 32}, "microbatch_size must be at most batch_size"),
        ({"schedule": "inverse_time"}, "inverse_time needs decay_steps"),
        ({"decay_steps": 10}, "decay_steps belongs to schedule inverse_time"),
    ],
)
def test_conflicts_fail_at_construction(values, words):
    """Catches options that contradict each other and are silently ignored."""
    assert words in refused(Training, **values)


@pytest.mark.parametrize(
    "values",
    [
        {"microbatch_size": 32, "batch_size": 32},
        {"microbatch_size": 64, "batch_size": "full"},
        {"schedule": "cosine", "seconds": 60},
        {"schedule": "cosine"},
        {"schedule": "inverse_time", "decay_steps": 10},
        {"optimizer": object()},  # any optax transformation
        {"learning_rate": 1},
        {"momentum": 0, "seed": 2**63 - 1, "checkpoint_seconds": 0},
    ],
)
def test_what_is_allowed(values):
    """Catches ranges one off, and whole numbers refused where a number is asked for."""
    training = Training(**values)
    assert {name: getattr(training, name) for name in values} == values


def test_defaults_are_allowed_and_the_documented_ones():
    """Catches a default outside its own range, and one that was changed by the way."""
    training = Training()
    chosen = {
        "optimizer", "learning_rate", "batch_size", "schedule", "clip_norm", "average", "patience",
        "warmup_steps", "weight_decay",
    }  # fmt: skip
    assert training.free == chosen
    assert all(getattr(training, name) == "auto" for name in chosen)
    assert training.epochs is training.steps is training.seconds is None
    assert (TableOptions(target="y").validation, ModelOptions().model) == (0.1, "auto")


def test_epochs_end_a_run_only_when_nothing_else_does():
    """Catches a run of --time 1h that ends after 20 epochs."""
    rows = Arrays(np.zeros((200, 3), "float32"))

    def epochs(**options):
        return begin_with(Training(**options), rows).epochs

    assert epochs(patience=5) == EPOCHS
    assert epochs(epochs=3, steps=10) == 3
    assert epochs(steps=10) is None
    assert epochs(seconds=10) is None
    assert epochs() > EPOCHS  # of few rows they are few updates; the run finds its own end


def test_what_is_left_to_choose_begins_with_a_value_and_what_is_given_stays():
    """Catches a given value that is chosen over, and "auto" that reaches the program."""
    rows = Arrays(np.zeros((200, 3), "float32"))
    begun = begin_with(Training(), rows)
    # by trials, as a share of the run, and from the model
    assert begun.free == {"learning_rate", "warmup_steps", "weight_decay"}
    given = dict(plain.PLAIN, batch_size=17, optimizer="sgd", average="ema", patience=None)
    begun = begin_with(Training(**given), rows)
    assert {name: getattr(begun, name) for name in given} == given
    assert begin_with(Training(schedule="constant"), rows).average is None
    assert begin_with(Training(), rows).average == "tail"
    assert begin_with(Training(optimizer="schedule_free"), rows).average is None


def test_fit_takes_the_same_names_and_defaults():
    """Catches a default written twice."""
    parameters = inspect.signature(downslope.fit).parameters
    for field in dataclasses.fields(Training):
        assert parameters[field.name].default == field.default


def test_numbers_of_numpy_become_plain():
    """Catches a configuration that cannot be written to JSON, or differs once it was read."""
    training = Training(batch_size=np.int64(32), learning_rate=np.float64(0.1), seed=np.uint8(3))
    given = {f.name: getattr(training, f.name) for f in dataclasses.fields(training)}
    assert Training(**json.loads(json.dumps(given))) == training
    assert type(training.batch_size) is int
    options = TableOptions(target="y", categorical=["a", "b"])
    assert options.categorical == ("a", "b") and hash(options)


def test_every_field_has_a_help_text():
    """Catches a flag of the command line that says nothing."""
    for config in CONFIGS:
        for field in dataclasses.fields(config):
            assert len(field.metadata["help"]) > 10
