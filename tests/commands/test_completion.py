"""Completion: what bash offers, and where the scripts are put."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from downslope.cli import main


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script"
    from downslope.cli import application

    path.write_text(application().generate_completion(shell="bash"))
    return path


def offered(script, *words):
    """What bash offers for the last of these words."""
    program = (
        f"source {script}; COMP_WORDS=({' '.join(map(repr, words))}); "
        f"COMP_CWORD={len(words) - 1}; COMP_LINE='{' '.join(words)}'; _downslope; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--norc", "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.strip() for line in found.stdout.splitlines() if line}


def test_bash_offers_commands_options_and_words(script):
    """Catches a script that bash cannot read, and options of one command offered for another."""
    assert {"fit", "plan", "predict"} <= offered(script, "downslope", "")
    assert "--learning-rate" in offered(script, "downslope", "fit", "--lea")
    assert "--learning-rate" not in offered(script, "downslope", "plan", "--l")
    assert "--link" in offered(script, "downslope", "plan", "--l")
    assert offered(script, "downslope", "fit", "--model", "s") == {"svm"}
    assert {"bash", "zsh", "fish"} <= offered(script, "downslope", "completion", "")


def test_bash_completes_files(script, tmp_path, monkeypatch):
    """Catches a table or a run that has to be typed out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "houses.csv").touch()
    assert "houses.csv" in offered(script, "downslope", "fit", "hou")
    assert "houses.csv" in offered(script, "downslope", "fit", "t", "--config", "hou")
    assert "houses.csv" in offered(script, "downslope", "report", "hou")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("fit", "learning-rate", "prodigy", "completion"):
        assert word in out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=out, text=True, check=True)


def test_installing_says_where(tmp_path, monkeypatch, capsys):
    """Catches a file in the wrong home, and a line added twice to what the shell reads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("BASH_COMPLETION_USER_DIR", raising=False)
    for _ in range(2):
        assert main(["completion", "bash", "--install"]) == 0
    places = capsys.readouterr().out.splitlines()
    assert places[0] == places[1]
    assert places[0].startswith(str(tmp_path))
    assert "_downslope" in Path(places[0]).read_text()
    started = (tmp_path / ".bashrc").read_text()
    assert started.count(places[0]) <= 2 and started.count("downslope") <= 4
