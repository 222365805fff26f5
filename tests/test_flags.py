"""Flags made from the configuration."""

from __future__ import annotations

import argparse
import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.config import ModelOptions, TableOptions, Training
from downslope.errors import MismatchError, UsageError
from downslope.flags import add_flags, configured, flag_of, in_flags, parse_seconds

CONFIGS = (TableOptions, ModelOptions, Training)


@pytest.fixture
def parse():
    """Parses words into the values that were given."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    for config in CONFIGS:
        add_flags(parser, config)
    parse = lambda *words: vars(parser.parse_args(words))  # noqa: E731
    parse.parser = parser
    return parse


def test_a_flag_that_is_not_given_leaves_nothing(parse):
    """Catches defaults written twice: those of a resumed run would be overridden."""
    assert parse() == {}


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--target", "y"], "target", "y"),
        (["--ignore", "a", "--ignore", "b"], "ignore", ["a", "b"]),
        (["--batch-size", "full"], "batch_size", "full"),
        (["--batch-size", "7"], "batch_size", 7),
        (["--microbatch-size", "7"], "microbatch_size", 7),
        (["--learning-rate", "1e-3"], "learning_rate", 0.001),
        (["--time", "2m"], "seconds", 120.0),
        (["--hidden", "8,4"], "hidden", (8, 4)),
        (["--hidden", "8"], "hidden", (8,)),
        (["--average", "ema"], "average", "ema"),
        (["--average", "none"], "average", None),
        (["--clip-norm", "0.5"], "clip_norm", 0.5),
        (["--clip-norm", "none"], "clip_norm", None),
        (["--patience", "7"], "patience", 7),
        (["--patience", "none"], "patience", None),
        *(
            (["--" + name.replace("_", "-"), "auto"], name, "auto")
            for name in sorted(Training().free)
        ),
        (["--loss", "huber"], "loss", "huber"),
        (["--seed", "5"], "seed", 5),
    ],
)
def test_values(words, field, value, parse):
    """Catches a value of another type than the configuration takes."""
    given_values = parse(*words)
    assert given_values == {field: value}
    assert type(given_values[field]) is type(value)
    for config in CONFIGS:
        if field in {f.name for f in dataclasses.fields(config)}:
            found = getattr(configured(config, given_values), field)
            assert found == (tuple(value) if isinstance(value, list) else value)


def test_every_field_has_a_flag_with_its_default_in_the_help(parse):
    """Catches a field that cannot be set, and help that names another default."""
    text = " ".join(parse.parser.format_help().split())
    for config in CONFIGS:
        for field in dataclasses.fields(config):
            at = text.index(f" {flag_of(field.name)} ", text.index("options:"))
            default = field.default
            if default is not None and default != ():
                shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
                found = re.search(r"\(default: (.*?)\)", text[at:])
                assert found and found[1] == str(shown)


def test_choices_are_shown_and_checked(parse):
    """Catches an option of a few words that is offered as any text."""
    text = parse.parser.format_help()
    for choices in (
        "{classify,regress}",
        "{linear,svm,mlp}",
        "{tail,polyak,ema,auto,none}",
        "{constant,cosine,",
    ):
        assert choices in "".join(text.split())
    for flag in ("--task", "--model", "--loss", "--optimizer", "--schedule", "--average"):
        with pytest.raises(argparse.ArgumentError, match=f"{flag}: invalid choice: 'nonsense'"):
            parse(flag, "nonsense")


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--time", "soon"), ("--time", "5 weeks"), ("--time", ""), ("--time", "-3"),
        ("--time", "1.2.3"), ("--batch-size", "2.5"), ("--patience", "2.5"),
        ("--learning-rate", "none"), ("--hidden", "64x64"), ("--hidden", "1.5"),
    ],
)  # fmt: skip
def test_messages_name_no_function(flag, word, parse):
    """Catches `invalid _counts value`."""
    with pytest.raises(argparse.ArgumentError) as caught:
        parse(f"{flag}={word}")
    assert f"argument {flag}: {word!r} is " in str(caught.value)
    assert "_" not in str(caught.value)


@given(st.integers(0, 10**6), st.sampled_from([("", 1), ("s", 1), ("m", 60), ("min", 60)]))
def test_seconds(number, unit):
    """Catches a unit a factor off."""
    assert parse_seconds(f"{number}{unit[0]}") == number * unit[1]
    assert parse_seconds(f" {number} {unit[0]} ") == number * unit[1]
    assert parse_seconds(f"{number / 2}h") == number * 1800


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("seconds must be greater than 0", "--time must be greater than 0"),
        ("schedule x needs decay_steps", "--schedule x needs --decay-steps"),
        ("the loss and the text of a target", "the loss and the text of a target"),
        ("column 'batch_size' is named", "column 'batch_size' is named"),
        ("data/batch_size.csv: no", "data/batch_size.csv: no"),
        ("not_a_field", "not_a_field"),
    ],
)
def test_sentences_in_flags(sentence, expected):
    """Catches names of Python shown to those who typed flags, and changed words of their own."""
    assert in_flags(sentence) == expected


def test_a_resumed_run_keeps_its_options():
    """Catches a given value that is dropped, a limit refused, or a change that goes unnoticed."""
    before = {"hidden": [8, 4], "model": "mlp", "loss": None}
    assert configured(ModelOptions, {}, before) == ModelOptions(model="mlp", hidden=(8, 4))
    same = {"hidden": (8, 4), "model": "mlp"}
    assert configured(ModelOptions, same, before).hidden == (8, 4)
    with pytest.raises(MismatchError, match="--hidden was 8,4 when the run began and is now 8;"):
        configured(ModelOptions, {"hidden": (8,)}, before)
    with pytest.raises(
        MismatchError, match=r"--loss was not given when .* now hinge; leave it out"
    ):
        configured(ModelOptions, {"loss": "hinge"}, before)
    before = {"epochs": 3, "seed": 7}
    found = configured(Training, {"epochs": 9}, before, {"epochs"})
    assert (found.epochs, found.seed) == (9, 7)


def test_an_optimizer_from_python_cannot_be_resumed_here():
    """Catches a run that goes on with another optimizer."""
    with pytest.raises(UsageError, match="begun in Python with its own optimizer"):
        configured(Training, {}, {"optimizer": "optax"})
