"""Record the runs of `golden.runs` in golden.json: `cd tests && python -m golden.record`.

Only for a change that alters what a run computes on purpose, in a commit of its own. With
`--print` they are written to standard output instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from downslope import Result
from golden.runs import RUNS

FILE = Path(__file__).with_name("golden.json")
TIMED = {"step_correlation"}  # of points of the trajectory, which are taken by the clock


def machine() -> dict[str, str]:
    """What the last bit of a float depends on: the kind of CPU and what compiles for it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    said = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    units = {"avx2", "fma", "avx512f"} & set(said.get("flags", "").split())
    return {
        "cpu": " ".join([said.get("model name", platform.machine()), *sorted(units)]),
        **{name: version(name) for name in ("jax", "jaxlib", "numpy", "optax")},
    }


def run(name: str) -> list[dict[str, Any]]:
    """Accounts of one golden run's sessions, as JSON returns them."""
    return json.loads(json.dumps([account(result) for result in RUNS[name]()]))


def account(result: Result) -> dict[str, Any]:
    """Parameters, decisions, metrics and counts of a run.

    Decisions go without their sentences, and without inputs that were timed.
    """
    leaves = jax.tree_util.tree_flatten_with_path(result.params)[0]
    return {
        "params": {jax.tree_util.keystr(path): _leaf(np.asarray(leaf)) for path, leaf in leaves},
        "decisions": [
            {name: r[name] for name in ("step", "policy", "knob", "old", "new")}
            for r in result.history
            if r["event"] == "decided"
        ],
        "evaluated": [
            {"step": r["step"]} | {name: found["value"] for name, found in r["metrics"].items()}
            for r in result.history
            if r["event"] == "evaluated"
        ],
        "validation": {
            name: {"value": e.value, "lo": e.lo, "hi": e.hi}
            for name, e in (result.validation or {}).items()
        },
        "measurements": {n: m.value for n, m in result.measurements.items() if n not in TIMED},
        "train_loss": result.train_loss,
        "learning_rate": result.learning_rate,
        "counts": {
            "num_steps": result.num_steps,
            "num_examples": result.num_examples,
            "num_epochs": result.num_epochs,
            "batch_size": result.batch_size,
            "diverged_at_step": result.diverged_at_step,
        },
        "optimizer": result.optimizer,
        "stop_reason": result.stop_reason.name,
    }


def _leaf(values: np.ndarray) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest(),
        "dtype": str(values.dtype),
        "values": values.tolist(),
    }


def main() -> None:
    """Record every run, or those named on the command line; or print them."""
    if sys.argv[1:] == ["--print"]:
        json.dump({name: run(name) for name in RUNS}, sys.stdout)
        return
    names = sys.argv[1:] or list(RUNS)
    found = json.loads(FILE.read_text()) if FILE.exists() and sys.argv[1:] else {"runs": {}}
    found["machine"] = machine()
    found["runs"] |= {name: run(name) for name in names}
    text = json.dumps(found, indent=1)
    FILE.write_text(text + "\n")


if __name__ == "__main__":
    main()
