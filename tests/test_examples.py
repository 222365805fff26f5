"""Every script in examples/ runs."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def test_there_are_examples():
    """Catches a folder that was renamed: the tests below would pass without it."""
    assert {"demo", "linear", "torch_noise"} <= {script.stem for script in SCRIPTS}


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [s for s in SCRIPTS if s.stem != "demo"], ids=lambda script: script.stem
)
def test_an_example_runs_as_a_script(script, tmp_path):
    """Catches an example that was left behind when a name changed, that works only in the folder
    it lies in, that needs an argument, or that diverges.
    """
    if script.stem == "torch_noise":  # the one package that an example does without
        pytest.importorskip("torch", reason="needs torch: pip install torch")
    path = os.pathsep.join(p for p in sys.path if p)
    found = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "DOWNSLOPE_CACHE": str(tmp_path / "cache")},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout and not re.search(r"\b(nan|inf|diverged)\b", found.stdout), found.stdout


@pytest.mark.slow
def test_the_demo(tmp_path, monkeypatch, capsys):
    """Catches a demo whose score is poor, or that does not say where the model lies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / "demo.py"), run_name="__main__")
    assert ended.value.code == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("$ downslope fit runs/digits.parquet --target digit")
    (accuracy,) = (float(line.split()[3]) for line in out if line.startswith("held out   accuracy"))
    assert accuracy > 0.95
    (model,) = (line.split()[1] for line in out if line.startswith("model"))
    assert (tmp_path / model / "model" / "manifest.json").is_file()
    assert out[-1].startswith(f"next       downslope predict {model}")
