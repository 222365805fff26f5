"""Words that were typed wrongly: one line with a remedy, exit code 2."""

from __future__ import annotations

import pytest

import downslope
from downslope.cli import COMMANDS, main


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "",
            "a command is needed: fit, predict, report, measure, check, plan, detect, completion; "
            "see",
        ),
        ("fut", "no command 'fut'; did you mean fit? See downslope --help"),
        ("train t.csv", "no command 'train'; it may be fit, predict, report"),
        ("--epochs 3", "--epochs stands before any command; name the command first"),
        ("--config c.toml fit", "--config stands before any command"),
        ("fit t.csv --learning-rat 1", "no option --learning-rat; did you mean --learning-rate? "
         "See downslope fit --help"),
        ("fit t.csv --learn=1", "no option --learn; did you mean --learning-rate?"),
        ("fit t.csv --zzz", "no option --zzz; see downslope fit --help"),
        ("fit t.csv u.csv", "unexpected 'u.csv'; see downslope fit --help"),
        ("fit t.csv --target", "--target needs a value; see downslope fit --help"),
        ("fit t.csv --target --json", "--target needs a value"),
        ("fit t.csv --model lineal", "--model must be one of auto, linear, svm, mlp, net; "
         "got 'lineal'; did you mean linear?"),
        ("fit t.csv --hidden 8 --hidden a", "--hidden: 'a' is not a list of whole numbers"),
        ("fit t.csv --json=3", "--json must be true or false; got '3'"),
        ("predict", "RUN is needed; see downslope predict --help"),
        ("predict run", "TABLE is needed; see downslope predict --help"),
        ("predict run t.csv", "--out is needed; see downslope predict --help"),
        ("report", "RUN is needed: the folder of a run that fit made"),
        ("measure", "RUN|TABLE is needed"),
        ("measure r --examples 1", "--examples must be at least 2; got 1"),
        ("measure r --miss nan", "--miss must be above 0 and below 1; got nan"),
        ("plan r --workers x", "--workers must be a whole number; got 'x'"),
        ("plan r --link 3GB", "--link: '3GB' is not a rate; write 1Gbit/s or 125MB/s"),
        ("completion tcsh", "SHELL must be one of bash, zsh, fish; got 'tcsh'"),
    ],
)  # fmt: skip
def test_one_line_and_a_remedy(line, said, capsys):
    """Catches a box drawn around an error, a second line, a suggestion that is not made."""
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"downslope: {said}")


def test_the_last_of_a_repeated_flag_holds(capsys):
    """Catches an alias in a shell whose flags cannot be overruled."""
    assert main(["plan", "nowhere", "--workers", "0", "--workers", "2"]) == 3
    assert "not the folder of a run" in capsys.readouterr().err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"downslope {downslope.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example_that_can_be_read(name, capsys, monkeypatch):
    """Catches a command without an example, and an example with words that it does not take."""
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    examples = [line.strip() for line in out.partition("Example:")[2].splitlines() if line]
    assert any(line.startswith(f"$ downslope {name} ") for line in examples)
    from downslope.cli import application

    for line in examples:
        if line.startswith("$ downslope "):
            _, bound, _ = application().parse_args(line.split()[2:])
            assert bound.arguments


def test_help_shows_no_switch_that_nobody_asked_for(capsys):
    """Catches --no-json, --empty-ignore and the like, which the library would add."""
    for name in COMMANDS:
        main([name, "--help"])
        out = capsys.readouterr().out
        assert "--no-" not in out.replace("--no-report", "")
        assert "--empty-" not in out


def test_nobody_is_told_of_an_inner_argument(capsys):
    main(["fit", "--help"])
    assert "--line" not in capsys.readouterr().out
    assert main(["fit", "t.csv", "--line", "x"]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_they_say(name, capsys):
    """Catches a line in `downslope --help` that was left behind."""
    import importlib

    command = getattr(importlib.import_module(f"downslope.commands.{name}"), name)
    assert command.__doc__.partition("\n")[0] == COMMANDS[name]
