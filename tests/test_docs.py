"""The documentation works: its Python runs, and its commands exist, in their order."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cyclopts import CycloptsError

from downslope.cli import application, main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCKS = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(downslope [a-z].*?)(?: +#.*)?$", re.MULTILINE)

# Names that a page takes for granted: data and a model of the reader's own, or of a page before.
TAKEN = {
    "own-loss.md": "x, y = rows",
    "noise.md": """
from types import SimpleNamespace
import jax, numpy as np, downslope
data = x, y = rows
def loss(model, batch, key):
    x, y = batch
    return 0.5 * (x @ model["weights"] + model["bias"] - y) ** 2
model = {"weights": np.zeros(10, "float32"), "bias": np.zeros((), "float32")}
downslope.fit(loss, model, data, out="runs/mine", batch_size=32, epochs=2, optimizer="sgd",
              learning_rate=0.01)
gradients = 0.2 + np.random.default_rng(0).normal(size=(400, 10))
""",
}


def _blocks(page: Path, *languages: str) -> list[str]:
    found = BLOCKS.findall(page.read_text(encoding="utf-8"))
    return [
        re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
        for indent, language, code in found
        if language in languages
    ]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WITH_PYTHON = [page for page in [ROOT / "README.md", *PAGES] if _blocks(page, "python")]
# run without the slow ones too: what a newcomer reads first
QUICK = {
    "README.md",
    "docs/quick-start.md",
    "docs/own-loss.md",
    "docs/choosing.md",
    "docs/noise.md",
}
WITH_COMMANDS = [
    page
    for page in [ROOT / "README.md", *PAGES]
    if any(COMMAND.search(block) for block in _blocks(page, "console", "bash", ""))
]


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory, quick_compilation: None) -> Path:
    """A folder with the files that pages name: a table, a run on it, rows to predict."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (code,) = _blocks(DOCS / "quick-start.md", "python")[:1]
        exec(compile(code.replace("20_000", "2_000"), "quick-start.md", "exec"), {})
        import pyarrow.csv as csv
        import pyarrow.parquet as pq

        pq.write_table(csv.read_csv("flights.csv"), "flights.parquet")
        words = (
            "fit flights.parquet --target delayed --epochs 2 --batch-size 64 --learning-rate 0.01 "
            "--measure-every 16"  # so few rows would not be measured
        )
        assert main(words.split()) == 0
        shutil.copytree("runs/flights-1", "runs/table-1")
        words = "predict runs/flights-1 flights.parquet --out predictions.parquet"
        assert main(words.split()) == 0
    return folder


@pytest.fixture
def reader(flights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, a fresh copy of it."""
    shutil.copytree(flights, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def _own(page: Path) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(600, 10)).astype("float32")
    names: dict[str, Any] = {"rows": (x, (x[:, 0] + draw.normal(size=600)).astype("float32"))}
    exec(compile(TAKEN.get(page.name, ""), f"what {page.name} takes for granted", "exec"), names)
    if page.name == "README.md":
        names |= {"x": names["rows"][0], "y": names["rows"][1], "gradients": x.astype("float64")}
    return names


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if _name(page) in QUICK else pytest.mark.slow, id=_name(page))
        for page in WITH_PYTHON
    ],
)
def test_every_python_block_runs(page: Path) -> None:
    """Catches an example left behind by a change of names; blocks of a page share their names."""
    names = _own(page)
    for place, code in enumerate(_blocks(page, "python"), start=1):
        if "torch." in code:
            names |= _in_torch()
        if "optax.chain" in code:
            names |= _in_optax()
        exec(compile(code, f"{_name(page)}, block {place}", "exec"), names)


def _in_torch() -> dict[str, Any]:
    torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
    weight = torch.zeros(3, requires_grad=True)
    rows = torch.randn(8, 20, 2, 3, generator=torch.Generator().manual_seed(0))
    return {
        "torch": torch,
        "model": weight,
        "parameters": [weight],
        "loss": lambda model, batch: ((batch @ model - 1) ** 2).mean(),
        "batches": [(step[:, 0], step[:, 1]) for step in rows],
    }


def _in_optax() -> dict[str, Any]:
    import optax

    from downslope.noise.adapters import measure_noise

    params = {"w": np.zeros(3, "float32")}
    state = optax.chain(measure_noise(window=50), optax.adam(1e-3)).init(params)
    gradients = {"w": np.random.default_rng(0).normal(size=(8, 3)).astype("float32")}
    return {"optax": optax, "params": params, "opt_state": state, "gradients": gradients}


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=_name)
def test_every_command_can_be_given(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a flag or a command that was renamed, and a value that no longer fits."""
    monkeypatch.chdir(tmp_path)  # files of options that the page shows lie there
    for block in _blocks(page, "console", "bash", ""):
        for line in COMMAND.findall(block):
            words = shlex.split(line)[1:]
            if words[0].isupper() or "..." in line:
                continue  # a form, not a command
            for name in (word for word in words if word.endswith(".toml")):
                Path(name).write_text(_blocks(page, "toml")[0], encoding="utf-8")
            try:
                application().parse_args(words)
            except CycloptsError as error:
                pytest.fail(f"{_name(page)}: {line}: {error}")


@pytest.mark.slow
def test_the_quick_start_can_be_followed(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a first page that does not work: its commands are run, in their order."""
    shutil.rmtree(reader / "runs")
    (reader / "predictions.parquet").unlink()
    page = DOCS / "quick-start.md"
    commands = [line for block in _blocks(page, "console") for line in COMMAND.findall(block)]
    assert [line.split()[1] for line in commands[:3]] == ["fit", "report", "predict"]
    for line in commands:
        extra = " --epochs 2 --measure-every 64" if " fit " in line else ""
        assert main(shlex.split(line + extra)[1:]) == 0, line
    assert (reader / "runs/flights-1/report.html").stat().st_size > 10_000
    out = capsys.readouterr().out
    told = next(b for b in _blocks(page, "") if b.startswith("held out"))
    for word in (line.split()[0] for line in told.splitlines()):
        assert re.search(rf"^{word} ", out, re.MULTILINE), word
    names: dict[str, Any] = {}
    exec(_blocks(page, "python")[1], names)
    assert (reader / "predictions.parquet").is_file()


@pytest.mark.usefixtures("quick_compilation")
def test_the_page_on_choices(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an example that no longer chooses what its page says."""
    (code, *_) = _blocks(DOCS / "choosing.md", "python")
    exec(compile(code, "choosing.md", "exec"), {})
    *decisions, last = capsys.readouterr().out.splitlines()
    assert decisions[0].startswith("learning_rate 0.005 -> ")
    assert decisions[-1].startswith("stop None -> converged: ")
    assert last.startswith("converged ")
