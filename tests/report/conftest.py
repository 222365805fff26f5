"""Folders of runs to report on: of real short runs, with what evidence adds, and by hand."""

from __future__ import annotations

import hashlib
import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plain
from downslope import TableOptions
from downslope.table import fit as table

ROWS = 3000


def write_run(folder, records=(), result=None, **asked):
    """A run's folder by hand; gives its path."""
    folder.mkdir(parents=True)
    request = {"format": "downslope run 1", "training": {}, "data": None, "params": {}}
    request |= {"metadata": {}} | asked
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    (folder / "run.json").write_text(json.dumps({**request, "sha256": digest}))
    (folder / "journal.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def hand(tmp_path):
    """Makes folders of runs by hand."""
    count = iter(range(100))
    return lambda *args, **kwargs: write_run(tmp_path / f"hand-{next(count)}", *args, **kwargs)


def of(value, half):
    return {"value": value, "lo": value - half, "hi": value + half}


def evidence(columns, classes):
    """The records that follow training, of the schemas that `recipes.evidence` writes."""
    places = [i / 10 - 1 for i in range(21)]
    bins = [i / 10 + 0.05 for i in range(10)]
    sizes = [32, 64, 128, 256, 512, 1024]
    count = len(classes)
    return [
        {"event": "checks", "findings": [
            {"name": "duplicates", "severity": "warning", "statement": "12 rows stand there twice",
             "remedy": "drop the copies"},
            {"name": "scale", "severity": "fine", "statement": f"the scale of {columns[0]!r} is 1",
             "remedy": None}]},
        {"event": "baselines", "metric": "log_loss", "unit": "nats", "lower_is_better": True,
         "model": of(0.40, 0.02), "trivial": of(0.69, 0.01),
         "trivial_how": "the class shares of the training rows", "linear": of(0.48, 0.02),
         "linear_how": "solved on all rows", "reason": None},
        {"event": "importance", "metric": "loss", "unit": "nats", "num_rows": 300, "repeats": 5,
         "columns": [{"name": name, **of(0.5 / (i + 1), 0.06)} for i, name in enumerate(columns)],
         "left_out": 0, "reason": None},
        {"event": "calibration", "of": f"probability of class {classes[0]!r}",
         "bins": [{"predicted": p, "observed": p, "lo": p - 0.05, "hi": p + 0.05, "count": 30}
                  for p in bins]},
        {"event": "residuals", "unit": "unit of y", "predicted": places,
         "residual": [math.sin(9 * p) for p in places],
         "quantiles": {"0.05": -0.9, "0.5": 0.01, "0.95": 0.92}},
        {"event": "confusion", "classes": list(classes), "num_rows": 300,
         "counts": [[90 if i == j else 7 for j in range(count)] for i in range(count)]},
        {"event": "slice", "unit": "loss", "position_unit": "of the parameters' norm",
         "num_rows": 300, "reason": None, "directions": [
            {"name": name, "curvature": of(2 * c, 0.1), "positions": places,
             "losses": [0.4 + c * p * p for p in places],
             "lo": [0.38 + c * p * p for p in places], "hi": [0.42 + c * p * p for p in places]}
            for name, c in (("sharpest", 3.0), ("random", 0.2))]},
        {"event": "path", "steps": list(range(20)), "shares": [0.8, 0.1], "reason": None,
         "points": [[3 * 0.8**i, math.sin(i / 3)] for i in range(20)]},
        {"event": "noisy_rows", "rows": [{"row": 7, "share": 0.04}, {"row": 2, "share": 0.01}],
         "top_share": {"one_percent": 0.3}, "num_rows": 300, "reason": None},
        {"event": "timed", "step": 0, "batch_sizes": sizes, "step_seconds":
            [[(1e-4 + 1e-6 * b) * (1 + 0.01 * i) for i in range(5)] for b in sizes]},
        {"event": "record", "command": "downslope fit table.parquet --target y", "table": "t",
         "versions": {"downslope": "0.1", "jax": "0.10"}, "hardware": {"cpu": "x86_64"},
         "seeds": {"training": 0}, "fingerprint": "9d30af4e", "peak_memory_bytes": 412_000_000},
    ]  # fmt: skip


def add(folder, records):
    with open(folder / "journal.jsonl", "a", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def real_run(tmp, names, classes, **training):
    """A short run of the table recipe on columns and classes of these names; its folder."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, len(names)))
    side = (x @ rng.normal(size=len(names)) + rng.normal(size=ROWS) > 0).astype(int)
    columns = {name: x[:, i] for i, name in enumerate(names)} | {"y": np.array(classes)[side]}
    pq.write_table(pa.table(columns), tmp / "table.parquet")
    asked = {"batch_size": 64, "epochs": 4, "measure_every": 4, "learning_rate": 0.01} | training
    table.fit(tmp / "table.parquet", TableOptions(target="y"), plain.LINEAR,
              plain.training(**asked), out=tmp / "run")  # fmt: skip
    return tmp / "run"


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """The folder of a real run without evidence."""
    return real_run(tmp_path_factory.mktemp("bare"), ["a", "b", "c"], ["no", "yes"])


@pytest.fixture(scope="session")
def told(bare, tmp_path_factory):
    """The folder of a real run with evidence."""
    folder = tmp_path_factory.mktemp("told") / "run"
    shutil.copytree(bare, folder)
    add(folder, evidence(["a", "b", "c"], ["no", "yes"]))
    return folder


HOSTILE = (
    "<script>alert(1)</script>", "a $x$ and $\\frac{1}", "\u05e9\u05dc\u05d5\u05dd \u202egnp.exe",
    "x" * 1_000_000, "</text></svg><img src=x onerror=alert(1)>", "{{ 7 * 7 }} #0072b2 & \"'",
    "\u7e41\u9ad4 \U0001f600",
)  # fmt: skip


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    """The folder of a real run whose columns and classes have names that would break a page."""
    tmp = tmp_path_factory.mktemp("hostile")
    classes = ["<b onmouseover=alert(2)>", "\u0643\u0644\u0627 $1$"]
    folder = real_run(tmp, HOSTILE, classes, epochs=1)
    add(folder, evidence(HOSTILE, classes))
    return folder
