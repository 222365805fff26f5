"""`--config FILE.toml`: what it fills in, what it leaves to the line, what it refuses."""

from __future__ import annotations

import pytest
from cyclopts import App

from downslope.cli import main
from downslope.commands.common import COMMON, Common, Given, Names
from downslope.commands.config_file import config_hook


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """What a command would get: writes `c.toml`, reads words; gives the flags and the names."""
    monkeypatch.chdir(tmp_path)
    app = App(
        config=config_hook(["fit", "check"]), exit_on_error=False, print_error=False,
        result_action="return_value",
    )  # fmt: skip

    def command(*, given: Given = None, only: Names = (), json: bool = False, common=COMMON):
        return given or {}, only, json

    command.__annotations__ |= {"given": Given, "only": Names, "json": bool, "common": Common}
    app.command(command, name="fit")

    def fit(toml, *words):
        (tmp_path / "c.toml").write_text(toml)
        return app(["fit", *words, "--config", "c.toml"])

    return fit


def test_values_of_every_kind(fit):
    """Catches a kind of value that arrives as text, and a list that arrives as its first part."""
    toml = """
    [fit]
    target = "price of it"
    ignore = ["a", "b,c"]
    hidden = [8, 4]
    epochs = 3
    learning-rate = 0.5
    batch_size = "full"
    time = 90
    clip-norm = "none"
    until = ["loss=0.3", "accuracy=0.9"]
    only = ["x", "y"]
    json = true
    [check]
    target = "not asked"
    """
    given, only, json = fit(toml)
    assert given == {
        "target": ["price of it"], "ignore": ["a", "b,c"], "hidden": (8, 4), "epochs": 3,
        "learning_rate": 0.5, "batch_size": "full", "seconds": 90.0, "clip_norm": "none",
        "until": ("loss=0.3", "accuracy=0.9"),
    }  # fmt: skip
    assert (only, json) == (("x", "y"), True)


def test_the_line_wins(fit):
    """Catches a file that overrules the line, or lists that are joined from both."""
    toml = '[fit]\nepochs = 3\nsteps = 7\nignore = ["a"]\nhidden = [8]\n'
    given, _, _ = fit(toml, "--epochs", "5", "--ignore", "b", "--hidden", "2,2")
    assert given == {"epochs": 5, "steps": 7, "ignore": ["b"], "hidden": (2, 2)}


@pytest.mark.parametrize("toml", ["", "[check]\ntarget = 'x'", "[fit]\n", "# nothing"])
def test_a_file_that_says_nothing_of_the_command(toml, fit):
    assert fit(toml) == ({}, (), False)


@pytest.mark.parametrize(
    ("toml", "code", "said"),
    [
        ("[fit]\nepohcs = 3", 2, "c.toml: [fit] has no option 'epohcs'; did you mean epochs?"),
        ("[fit]\nLearning_rate = 3", 2, "'Learning_rate'; did you mean learning-rate?"),
        ("[fit]\nzzz = 3", 2, "c.toml: [fit] has no option 'zzz'; see downslope fit --help"),
        ("[fit]\nconfig = 'c.toml'", 2, "[fit] has no option 'config'"),
        ("[fit]\nline = 'x'", 2, "[fit] has no option 'line'"),
        ("[fit]\nseconds = 3", 2, "[fit] has no option 'seconds'"),
        ("[fit]\nepochs = 'three'", 2, "c.toml: epochs in [fit]: 'three' is not a whole number"),
        ("[fit]\nepochs = 2.5", 2, "c.toml: epochs in [fit]: '2.5' is not a whole number"),
        ("[fit]\nepochs = true", 2, "c.toml: epochs in [fit]: 'True' is not a whole number"),
        ("[fit]\nepochs = [1, 2]", 2, "c.toml: epochs in [fit] must be a whole number; got '[1, 2"),
        ("[fit]\nepochs = {a = 1}", 2, "c.toml: [fit] has no option 'epochs.a'; did you"),
        ("[fit]\nhidden = [8, 'b']", 2, "c.toml: hidden in [fit]: '8,b' is not a list of whole"),
        ("[fit]\nmodel = 'svn'", 2, "c.toml: model in [fit] must be one of auto, linear, svm, ml"),
        ("[fit]\njson = 'perhaps'", 2, "c.toml: json in [fit] must be true or false; got"),
        ("[fit]\ntime = '5x'", 2, "c.toml: time in [fit]: '5x' is not a time; write 60s"),
        ("[fti]\nepochs = 3", 2, "c.toml: no command for [fti]; did you mean 'fit'?"),
        ("[other]\nx = 3", 2, "c.toml: no command for [other]; it may be fit, predict, report"),
        ("epochs = 3", 2, "c.toml: 'epochs' is outside any table; write it under"),
        ("[fit]\nepochs = 0", 2, "--epochs must be at least 1"),
        ("[fit", 3, "c.toml: not TOML: Expected"),
        ("[fit]\ntarget = 'prise'", 3, "t.csv, column 'prise': no such column (named as target); "
         "did you mean 'price'?"),
    ],
)  # fmt: skip
def test_what_is_refused_in_one_line(toml, code, said, tmp_path, monkeypatch, capsys):
    """Catches a key passed over in silence, and a message that names no file or no key."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(toml)
    (tmp_path / "t.csv").write_text("x,price\n1,2\n2,3\n")
    assert main(["fit", "t.csv", "--config", "c.toml"]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("downslope: ") and said in err


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert main(["fit", "t.csv", "--config", str(tmp_path / "none.toml")]) == 3
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "none.toml: no such file or directory; check the path" in err


def test_text_that_is_not_utf8(capsys, tmp_path):
    (tmp_path / "c.toml").write_bytes(b"[fit]\ntarget = '\xff'\n")
    assert main(["fit", "t.csv", "--config", str(tmp_path / "c.toml")]) == 3
    assert "c.toml: not TOML: 'utf-8' codec" in capsys.readouterr().err
