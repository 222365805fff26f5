"""How many files a change of each kind touches: one of each is added to a copy and put to work.

`docs/architecture.md` names the files; a change that needs another one fails here.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from downslope.config import OptimizerName

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "downslope"
NEW = ""  # in place of a line to find: the file is new

# By kind: files of the package, with lines to find, each followed by what takes its place.
CHANGES = {
    "an optimizer": {
        "step/optimizers.py": (
            'RULES: dict[str, Rule] = {\n',
            'RULES: dict[str, Rule] = {\n    "lion": Rule(optax.lion, Traits(1e-3)),\n',
        ),
        "config.py": ('    "prodigy",\n]', '    "prodigy", "lion",\n]'),
    },
    "a metric": {
        "metrics/classification.py": (
            '                "auc": self._ranks',
            '                "error": self._error(),\n                "auc": self._ranks',
        ),
    },
    "a file format": {
        "data/ingest/formats.py": (
            "def open_parquet(",
            "def open_dummy(path: Path) -> Opened:\n"
            "    return open_parquet(path)\n\n\n"
            "def open_parquet(",
        ),
        "data/ingest/tabular.py": (
            '    ".npy": open_npy,',
            '    ".dummy": formats.open_dummy, ".npy": open_npy,',
        ),
    },
    "a policy for a knob that exists": {
        "choose/halving.py": (
            NEW,
            '''
from downslope.choose.decision import Decision, policy


@policy
def halve(*, learning_rate: float):
    because = "an evaluation was made"
    new = learning_rate / 2
    return Decision(knob="learning_rate", old=learning_rate, new=new, because=because)


class Halving:
    def init(self, context):
        return None

    def update(self, state, seen, decided):
        if seen.moment != "evaluated":
            return None, ()
        return None, (halve(learning_rate=seen.knobs.learning_rate),)
''',
        ),
        "choose/controllers.py": (
            '    "recovery": ',
            '    "halving": importlib.import_module("downslope.choose.halving").Halving(),\n'
            '    "recovery": ',
        ),
    },
    "a knob, with a policy for it": {
        "config.py": (
            "    clip_norm: float | Auto | None = option(",
            '    scale: float = option(1.0, "factor of every update")\n'
            "    clip_norm: float | Auto | None = option(",
            "    clip_norm: float | None\n",
            "    clip_norm: float | None\n    scale: float\n",
        ),
        "fit.py": (
            "    clip_norm: float | Auto | None = ",
            "    scale: float = Training.scale,\n    clip_norm: float | Auto | None = ",
        ),
        "choose/shrinking.py": (
            NEW,
            '''
from downslope.choose.decision import Decision, policy


@policy
def shrink(*, scale: float):
    return Decision(knob="scale", old=scale, new=scale / 2, because="an evaluation was made")


class Shrinking:
    def init(self, context):
        return None

    def update(self, state, seen, decided):
        if seen.moment != "evaluated":
            return None, ()
        return None, (shrink(scale=seen.knobs.scale),)
''',
        ),
        "choose/controllers.py": (
            '    "patience": ',
            '    "shrinking": importlib.import_module("downslope.choose.shrinking").Shrinking(),\n'
            '    "patience": ',
        ),
        "step/state.py": ("    clip_norm: Any ", "    scale: Any\n    clip_norm: Any "),
        "step/update.py": (
            "        params = optax.apply_updates(",
            "        updates = jax.tree.map(lambda u: u * knobs.scale.astype(u.dtype), updates)\n"
            "        params = optax.apply_updates(",
        ),
    },
}  # fmt: skip
MOST_FILES = {
    "an optimizer": 2, "a metric": 2, "a file format": 2, "a policy for a knob that exists": 3,
    "a knob, with a policy for it": 6,
}  # fmt: skip
IMPORTS = {
    "data/ingest/tabular.py": "from downslope.data.ingest import formats\n",
    "choose/controllers.py": "import importlib\n",
}
METRIC = """
    def _error(self) -> Estimate:
        accuracy = self._accuracy()
        return Estimate(value=1 - float(accuracy), unit="share of examples")

    def _accuracy(self) -> Estimate:
"""
WORK = """
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, downslope
from downslope.data.ingest.tabular import open_table
from downslope.metrics import ClassificationMetrics

x = np.random.default_rng(0).normal(size=(256, 2)).astype("f4")
def loss(model, batch, key):
    return ((batch @ model) - 1) ** 2
def fit(**options):
    return downslope.fit(loss, np.zeros(2, "f4"), x, optimizer="lion", learning_rate=0.01,
                         batch_size=32, epochs=3, patience=50, **options)
result = fit()
decided = [r for r in result.history if r["event"] == "decided"]
assert {"halve", "shrink"} <= {r["policy"] for r in decided}, decided
assert not np.allclose(result.params, fit(scale=0.5).params)
metrics = ClassificationMetrics(2)
metrics.add([0.1, 0.2], [0.9, 0.2], [1, 1])
assert float(metrics.result()["error"]) == 0.5
pq.write_table(pa.table({"a": [1, 2]}), "t.dummy")
print(open_table("t.dummy").num_rows)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The package with one of each added."""
    folder = tmp_path_factory.mktemp("copy")
    target = folder / "downslope"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    for files in CHANGES.values():
        for name, edits in files.items():
            file = target / name
            for line, instead in zip(edits[::2], edits[1::2], strict=True):
                text = file.read_text(encoding="utf-8") if line else ""
                assert line == NEW or text.count(line) == 1, f"{name}: not once in it: {line!r}"
                file.write_text(instead if line == NEW else text.replace(line, instead))
    for name, line in IMPORTS.items():
        text = (target / name).read_text(encoding="utf-8")
        before = "from __future__ import annotations\n"
        (target / name).write_text(text.replace(before, before + line, 1))
    file = target / "metrics/classification.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("\n    def _accuracy(self) -> Estimate:\n", METRIC, 1))
    return folder


@pytest.mark.slow
def test_one_of_each_works(copy):
    """Catches a change that does not take effect by the files that the page names."""
    done = subprocess.run(
        [sys.executable, "-c", WORK], cwd=copy, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(copy)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"


@pytest.mark.parametrize("kind", CHANGES)
def test_no_more_files_than_the_page_says(kind):
    """Catches a file that a change needs and the page does not name, and one too many."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| {re.escape(kind)} \| (.*) \|$", page, re.MULTILINE)
    assert row is not None
    named = re.findall(r"`([\w/]+(?:\.py|/))`", row[1])
    for file in CHANGES[kind]:
        own = f"{Path(file).parent}/" if CHANGES[kind][file][0] == NEW else file
        assert own in named, f"{file} is not in {named}"
    assert len(CHANGES[kind]) <= MOST_FILES[kind]


def test_only_the_table_of_optimizers_knows_their_names():
    """Catches a rule that depends on an optimizer's name: traits say what must be known of one."""
    names = set(get_args(OptimizerName))
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Compare) or ast.unparse(node.left).endswith("kind"):
                continue
            words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
            if words & names:
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []
