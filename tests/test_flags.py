"""Command-line flags generated from the configuration."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from cyclopts import App, CycloptsError
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from downslope.commands.usage import usage_of
from downslope.config import ModelOptions, TableOptions, Training
from downslope.errors import MismatchError, UsageError
from downslope.flags import CONFIGS as TITLED
from downslope.flags import configured, flag_of, flags_of, in_flags
from downslope.units import parse_duration

CONFIGS = tuple(TITLED.values())


# Where a user's program has loaded it, cyclopts checks what our converters give against the types.
pytest.importorskip("pydantic", reason="needs pydantic: pip install pydantic")


@pytest.fixture
def app():
    """A command line with the flags and nothing else; its command gives what was given."""
    app = App(
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        help_format="plaintext",
    )
    flags = flags_of(TITLED)

    def command(*, given=None):
        return given or {}

    command.__annotations__["given"] = flags
    app.default(command)
    return app


@pytest.fixture
def parse(app):
    """Parses words into the values that were given."""
    return lambda *words: app(words)


@pytest.fixture
def help_text(app):
    """The help, as wide as one likes."""
    page = io.StringIO()
    app.help_print([], console=Console(file=page, width=1000))
    return page.getvalue()


def test_a_flag_that_is_not_given_leaves_nothing(parse):
    """Catches defaults written twice: those of a resumed run would be overridden."""
    assert parse() == {}


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--target", "y"], "target", ["y"]),
        (["--ignore", "a", "--ignore", "b"], "ignore", ["a", "b"]),
        (["--batch-size", "full"], "batch_size", "full"),
        (["--batch-size", "7"], "batch_size", 7),
        (["--microbatch-size", "7"], "microbatch_size", 7),
        (["--learning-rate", "1e-3"], "learning_rate", 0.001),
        (["--time", "2m"], "seconds", 120.0),
        (["--hidden", "8,4"], "hidden", (8, 4)),
        (["--hidden", "8"], "hidden", (8,)),
        (["--average", "ema"], "average", "ema"),
        (["--average", "none"], "average", "none"),
        (["--clip-norm", "0.5"], "clip_norm", 0.5),
        (["--clip-norm", "none"], "clip_norm", "none"),
        (["--patience", "7"], "patience", 7),
        (["--patience", "none"], "patience", "none"),
        (["--target", "none"], "target", ["none"]),
        *(
            (["--" + name.replace("_", "-"), "auto"], name, "auto")
            for name in sorted(Training().free)
        ),
        (["--loss", "huber"], "loss", "huber"),
        (["--seed", "5"], "seed", 5),
        (["--until", "loss=0.3", "--until", "auc=.9"], "until", ("loss=0.3", "auc=.9")),
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
            expected = tuple(value) if isinstance(value, list) else value
            if field == "until":
                expected = {"loss": 0.3, "auc": 0.9}
            elif field == "target":
                (expected,) = value  # a column may be called none
            elif value == "none":
                expected = None
            assert found == expected


def test_one_target_where_one_is_meant(parse):
    """Catches the last of several targets taken alone in silence."""
    with pytest.raises(UsageError, match="target must be one column here; got y, z"):
        configured(TableOptions, parse("--target", "y", "--target", "z"))


def test_every_field_has_a_flag_with_its_default_in_the_help(help_text):
    """Catches a field that cannot be set, and help that names another default."""
    for config in CONFIGS:
        for field in dataclasses.fields(config):
            lines = [line for line in help_text.splitlines() if f" {flag_of(field.name)} " in line]
            line = lines[0]  # another one may speak of it
            default = field.default
            if default is not None and default != ():
                shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
                found = re.search(r"\(default: (.*?)\)", line)
                assert found and found[1] == str(shown)


def test_choices_are_shown_and_checked(parse, help_text):
    """Catches an option of a few words that is offered as any text."""
    for choices in (
        "classify, regress]",
        "linear, svm, mlp, net]",
        "tail, polyak, ema, auto, none]",
        "constant, cosine, flat_cosine, wsd, inverse_time, auto]",
        "N|full|auto ",
    ):
        assert choices in help_text
    for flag in ("--task", "--model", "--loss", "--optimizer", "--schedule", "--average"):
        with pytest.raises(CycloptsError) as caught:
            parse(flag, "nonsense")
        assert f"{flag} must be one of " in usage_of(caught.value)
        assert "; got 'nonsense'" in usage_of(caught.value)


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--time", "soon"), ("--time", "5 weeks"), ("--time", ""), ("--time", "-3"),
        ("--time", "1.2.3"), ("--batch-size", "2.5"), ("--patience", "2.5"),
        ("--learning-rate", "none"), ("--hidden", "64x64"), ("--hidden", "1.5"),
        ("--epochs", "2.5"), ("--l1", "much"),
    ],
)  # fmt: skip
def test_messages_name_no_function(flag, word, parse):
    """Catches `invalid _counts value`."""
    with pytest.raises(CycloptsError) as caught:
        parse(f"{flag}={word}")
    said = usage_of(caught.value)
    assert said.startswith(f"{flag}: {word!r} is ")
    assert "_" not in said


@given(st.integers(0, 10**6), st.sampled_from([("", 1), ("s", 1), ("m", 60), ("min", 60)]))
def test_seconds(number, unit):
    """Catches a unit a factor off."""
    assert parse_duration(f"{number}{unit[0]}") == number * unit[1]
    assert parse_duration(f" {number} {unit[0]} ") == number * unit[1]
    assert parse_duration(f"{number / 2}h") == number * 1800


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("seconds must be above 0", "--time must be above 0"),
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
    targets = ("loss=0.3", "auc=0.9")
    found = configured(Training, {"until": targets}, {"until": {"loss": 0.4}}, {"until"})
    assert found.until == {"loss": 0.3, "auc": 0.9}
    assert configured(Training, {}, {"until": {"loss": 0.4}}, {"until"}).until == {"loss": 0.4}
    before = {"epochs": 3, "seed": 7}
    found = configured(Training, {"epochs": 9}, before, {"epochs"})
    assert (found.epochs, found.seed) == (9, 7)


def test_an_optimizer_from_python_cannot_be_resumed_here():
    """Catches a run that goes on with another optimizer."""
    with pytest.raises(UsageError, match="begun in Python with its own optimizer"):
        configured(Training, {}, {"optimizer": "optax"})
