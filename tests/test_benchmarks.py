"""That the benchmarks still run; what they find is for a quiet machine and full sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["linear", "mlp", "sweep", "disk", "start", "overhead", "critical"]
)
def test_every_benchmark_runs_at_a_small_size(name, tmp_path):
    """Catches a benchmark left behind by a change of the package, or that leaves files.

    Peers that are not installed are left out by the benchmarks themselves.
    """
    report, scratch = tmp_path / "report.json", tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", "--json", str(report)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    findings = json.loads(report.read_text())["findings"][name]
    assert findings["rows"]
    assert all(value > 0 for values in findings["samples"].values() for value in values)
    assert not list(scratch.glob("downslope-benchmark-*"))
