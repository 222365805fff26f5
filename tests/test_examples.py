"""Every script in examples/ runs, at a small size."""

from __future__ import annotations

import inspect
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from downslope.noise.scale import Noise
from downslope.recipes.anomaly import AnomalyDetector

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
QUICK = {"linear", "own_noise", "plain_dict"}  # run without the slow ones too


def test_there_are_examples():
    """Catches a folder that was renamed: the tests below would pass without it."""
    assert {"demo", "linear", "torch_noise"} <= {script.stem for script in SCRIPTS}


def need(script):
    """PyTorch is the one package that an example does without; `.[test]` installs it."""
    if script.stem == "torch_noise":
        pytest.importorskip("torch", reason="needs torch: pip install torch")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, marks=() if script.stem in QUICK else pytest.mark.slow, id=script.stem)
        for script in SCRIPTS
        if script.stem != "demo"
    ],
)
def test_an_example_runs(script, tmp_path):
    """Catches an example that was left behind when a name changed."""
    need(script)
    main = runpy.run_path(str(script))["main"]
    small = {"epochs": 2, "steps": 100, "batch_size": 64, "run": tmp_path / "run"}
    taken = inspect.signature(main).parameters
    assert taken.keys() <= small.keys()
    result = main(**{name: small[name] for name in taken})
    if isinstance(result, Noise):
        assert result.trace.value is not None and result.trace.value > 0
        return
    if isinstance(result, AnomalyDetector):
        assert result.threshold_.rate.is_measured and np.isfinite(result.threshold_.value)
        return
    assert str(result.stop_reason) == "finished"
    assert np.isfinite(result.train_loss)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_an_example_runs_as_a_script(script, tmp_path):
    """Catches an example that works only in the folder it lies in, or needs an argument."""
    need(script)
    path = os.pathsep.join(p for p in sys.path if p)
    found = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "DOWNSLOPE_CACHE": str(tmp_path / "cache")},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout


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
