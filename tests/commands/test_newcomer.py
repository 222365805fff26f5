"""Somebody who has read `downslope fit --help` and nothing else: from a CSV to predictions."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_wine

from downslope.cli import main


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_three_commands_from_the_help(tmp_path, monkeypatch, capsys):
    """Catches an example that does not work when typed, and results that are not where it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    wine = load_wine(as_frame=True)
    table = wine.frame
    table["kind"] = wine.target_names[wine.target]
    table.drop(columns="target").to_csv("houses.csv", index=False)
    table.drop(columns=["target", "kind"]).to_csv("new.csv", index=False)

    assert main(["fit", "--help"]) == 0
    help = capsys.readouterr().out
    example = [line.strip() for line in help.splitlines() if line.strip().startswith("$ downslope")]
    assert len(example) == 3
    commands = [shlex.split(line.replace("price", "kind"))[2:] for line in example]
    assert [words[0] for words in commands] == ["fit", "report", "predict"]

    assert main(commands[0]) == 0
    out, err = capsys.readouterr()
    assert "downslope:" not in err
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert Path(lines["report"]).read_text().lstrip().lower().startswith("<!doctype html>")
    assert lines["next"].startswith(f"downslope predict {lines['model']} ")

    Path(lines["report"]).unlink()
    assert main(commands[1]) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert re.search("kind|accuracy", page)

    assert main(commands[2]) == 0
    found = pq.read_table("predictions.parquet")
    assert (found["prediction"].to_numpy() == table["kind"].to_numpy()).mean() > 0.9
