"""The benchmarks still run; their figures need a quiet machine and full sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "sweep", "disk", "overhead"])
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


@pytest.mark.slow
def test_the_benchmark_of_automatic_training_runs_and_goes_on(tmp_path):
    """Catches a benchmark left behind by a change of the package, and one that begins anew."""
    pytest.importorskip("sklearn")
    report, scratch = tmp_path / "auto.json", tmp_path / "scratch"
    scratch.mkdir()
    kept = []
    for option in ("--json", "--resume-from"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.auto", "--quick", option, str(report)],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(scratch)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "| target reached |" in done.stdout
        kept.append(json.loads(report.read_text())["studies"]["diabetes"])
    assert len(kept[0]["grid"]) == 8 and kept[0]["auto"]["0"]["lows"]
    assert kept[0] == kept[1]
    assert not list(scratch.glob("downslope-benchmark-*"))


@pytest.mark.slow
def test_the_benchmark_on_tables_runs_and_goes_on(tmp_path, capsys):
    """Catches a method whose classes are in another order, and runs that are made twice."""
    from benchmarks.tables.__main__ import main

    file = tmp_path / "records.jsonl"
    asked = ["--tables", "cells", "concrete", "--file", str(file)]
    main([*asked, "--methods", "logistic or ridge", "HistGradientBoosting"])
    first = capsys.readouterr().out
    records = [json.loads(line) for line in file.read_text().splitlines()]
    errors = {(r["table"], r["method"]): r["error"] for r in records}
    for table in ("cells", "concrete"):
        assert errors[table, "logistic or ridge"] < 0.75 * errors[table, "constant"]
        assert errors[table, "HistGradientBoosting"] < 0.75 * errors[table, "constant"]
    assert "**score**" in first
    main([*asked, "--methods", "logistic or ridge"])
    assert "seed 0" not in capsys.readouterr().out and len(file.read_text().splitlines()) == 6


@pytest.mark.slow
def test_the_coverage_of_intervals_is_printed(capsys):
    """Catches shares of training rows, and levels in another order."""
    from benchmarks.tables.intervals import main

    main(["--tables", "concrete", "--seeds", "1"])
    cells = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    assert cells[:2] == ["concrete", "258"]
    low, middle, high = (float(cell.rstrip("%")) for cell in cells[2:])
    assert 65 < low < middle < high <= 100 and middle > 80
