"""Layers of the package, read from its imports, and the cost of importing.

`fit` joins the parts; the parts do not know each other. So data can be read in a process that
never touches an accelerator, and a decision can be replayed from a journal by floats alone.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import pages

SOURCE = Path(__file__).resolve().parents[1] / "src"
FILES = sorted((SOURCE / "downslope").rglob("*.py"))

# The folders of the house that `fit` brings together.
PARTS = frozenset({"data", "step", "noise", "choose", "check", "launch", "loggers", "report"})
# What may bring more than one of them together; "" is the package's own list of public names.
# `train` is what `fit` is made of: parts put together, nothing of its own beside them.
JOINERS = frozenset({"", "fit", "train"})
ANYWHERE = frozenset({"downslope", "lazy_loader"})
# Whose modules are internal but for the members that a page of the reference lists.
INNER = frozenset({"arguments", "data", "flags", "launch", "step", "storage", "train", "units"})
# The outermost layer: nothing inside knows of it.
USERS = frozenset({"recipes", "table", "sklearn", "cli", "commands", "__main__"})
ROOMS = {"cli": "commands"}  # modules that belong to a folder beside them


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a part may import: modules of ours, and packages beside the standard library.

    Attributes:
        ours: of our modules, only these; None: any that is no part.
        others: of other packages, only these; None: any.
        parts: these parts too.
    """

    ours: frozenset[str] | None = None
    others: frozenset[str] | None = None
    parts: frozenset[str] = frozenset()


def only(names: str = "") -> frozenset[str]:
    return frozenset(names.split())


BASE = "_moved arguments errors estimate"  # what every part may use

RULES = {
    "errors": Rule(ours=only(), others=only()),
    "_moved": Rule(ours=only(), others=only("lazy_loader")),
    "arguments": Rule(ours=only("errors"), others=only()),
    "estimate": Rule(ours=only(), others=only("scipy")),
    "config": Rule(ours=only("arguments errors"), others=only()),
    "data": Rule(others=only("numpy pyarrow")),
    "step": Rule(others=only("jax numpy optax"), parts=only("noise")),
    "noise": Rule(ours=only(BASE), others=only("jax numpy scipy")),  # arrays only
    "noise.adapters": Rule(ours=only(BASE), others=only("jax numpy scipy optax")),
    "choose": Rule(ours=only(f"{BASE} config"), others=only("scipy")),  # floats only
    "check": Rule(others=only("jax numpy scipy"), parts=only("data noise")),
    "report": Rule(  # the journal only, and what follows from its numbers
        ours=only(f"{BASE} config storage"),
        others=only("jinja2 markupsafe matplotlib numpy rich"),
        parts=only("choose"),
    ),
    # Records in, numbers out; packages of others are imported when a logger is made.
    "loggers": Rule(ours=only(BASE), others=only("tensorboard mlflow trackio wandb")),
}


@dataclass(frozen=True)
class Import:
    """One imported name, absolute and dotted, with the line it stands on."""

    name: str
    line: int

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def part(self) -> str:
        """Second component of one of our names: folder, module or public name."""
        return self.name.split(".")[1] if "." in self.name else ""


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    return Import(module, 0).part


def imports(tree: ast.AST, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import of a module, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = base_of(node, module, is_package)
            yield from (Import(f"{base}.{alias.name}", node.lineno) for alias in node.names)


def base_of(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Absolute name of the module that `from ... import` names."""
    if not node.level:
        return node.module or ""
    parents = module.split(".")
    up = parents[: len(parents) - node.level + is_package]
    return ".".join([*up, node.module] if node.module else up)


def broken_layers(tree: ast.AST, module: str, is_package: bool = False) -> list[str]:
    """Imports that the layers forbid to this module, as `line: name`."""
    here = part_of(module)
    if here in USERS:  # for them there are the public names, below
        return []
    inside = ".".join(module.split(".")[1:3])
    rule = RULES.get(inside, RULES.get(here, Rule()))
    found = list(imports(tree, module, is_package))
    ours = [each for each in found if each.package == "downslope" and each.part != here]
    foreign = [each for each in found if each.package not in {*ANYWHERE, *sys.stdlib_module_names}]

    broken = [each for each in ours if each.part in USERS]
    if rule.others is not None:
        broken += [each for each in foreign if each.package not in rule.others]
    if rule.ours is not None:
        broken += [each for each in ours if each.part not in rule.ours | PARTS]
    joined = [each for each in ours if each.part in PARTS - rule.parts]
    if here in PARTS or rule.ours is not None:
        broken += joined + [each for each in ours if each.part in JOINERS]
    elif here not in JOINERS and len({each.part for each in joined}) > 1:
        broken += joined  # a module beside the folders may build on one of them
    return sorted({f"{each.line}: {each.name}" for each in broken})


def broken_launch(tree: ast.AST, module: str) -> list[str]:
    """Uses of Ray and of `jax.distributed`, which belong to `launch` alone."""
    if part_of(module) == "launch":
        return []
    broken = [
        f"{found.line}: {found.name}"
        for found in imports(tree, module)
        if found.package == "ray" or f"{found.name}.".startswith("jax.distributed.")
    ]
    return broken + [
        f"{node.lineno}: jax.distributed"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "jax.distributed"
    ]


def broken_public(tree: ast.AST, module: str, public: frozenset[str]) -> list[str]:
    """What a recipe or the command line takes from us that is not public, private members too.

    `public` has the dotted names of the public things and of the public modules, whose members
    without a leading underscore are public as well.
    """
    here = part_of(module)
    broken = []
    for found in imports(tree, module):
        inside = (
            found.package != "downslope"
            or found.name == "downslope"
            or (ROOMS.get(found.part, found.part) == ROOMS.get(here, here))
        )
        hidden = any(piece.startswith("_") for piece in found.name.split(".")[1:])
        known = found.name in public or found.name.rpartition(".")[0] in public - {"downslope"}
        if not inside and (hidden or not known):
            broken.append(f"{found.line}: {found.name}")
    ours = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
        if alias.name.startswith("downslope")
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("downslope"))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            root = ast.unparse(node).partition(".")[0]
            if root in ours and not node.attr.startswith("__"):
                broken.append(f"{node.lineno}: {ast.unparse(node)}")
    return broken


@pytest.fixture(scope="session")
def public(documented: frozenset[str]) -> frozenset[str]:
    import downslope

    return documented | {f"downslope.{name}" for name in downslope.__all__}


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def without_types(tree: ast.AST) -> ast.AST:
    """The tree without what only type checkers import."""

    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if is_for_types(node) else self.generic_visit(node)

    return Strip().visit(tree)


def lazy_homes(sources: dict[str, Path]) -> dict[str, str]:
    """Module by dotted name, of what packages list without importing it."""
    homes = {}
    for module, file in sources.items():
        if file.name != "__init__.py":
            continue
        stub = file.with_suffix(".pyi")
        tree = ast.parse((stub if stub.exists() else file).read_text(encoding="utf-8"))
        listed = [tree] if stub.exists() else [each for each in tree.body if is_for_types(each)]
        for node in (node for each in listed for node in ast.walk(each)):
            if isinstance(node, ast.ImportFrom):
                base = base_of(node, module, True)
                homes |= {f"{module}.{alias.name}": base for alias in node.names}
    return homes


def defined_in(name: str, sources: dict[str, Path], homes: dict[str, str]) -> str:
    """The module of a dotted name, looked up through the packages that list it."""
    if name in sources:
        return name
    package, _, last = name.rpartition(".")
    home = homes.get(name, package)
    return package if home == package else defined_in(f"{home}.{last}", sources, homes)


def import_graph(sources: dict[str, Path]) -> dict[str, set[str]]:
    """The modules that each module imports, at its top or in a function."""
    homes, graph = lazy_homes(sources), {}
    for module, file in sources.items():
        tree = without_types(ast.parse(file.read_text(encoding="utf-8")))
        found = imports(tree, module, file.name == "__init__.py")
        names = {defined_in(each.name, sources, homes) for each in found}
        graph[module] = names & set(sources) - {module}
    return graph


@pytest.mark.slow
def test_no_import_cycle() -> None:
    """Catches two modules that import each other, however far apart and wherever in the file."""
    graph = import_graph({module_name(file): file for file in FILES})
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_cycles_are_seen(tmp_path: Path) -> None:
    """Through a function, a relative import and a package that only lists its names."""
    files = {
        "downslope.a": "def f():\n    from downslope.box import name",
        "downslope.box.inner": "from ..b import f",
        "downslope.b": "import downslope.a",
    }
    sources = {}
    for module, text in files.items():
        sources[module] = tmp_path / f"{module}.py"
        sources[module].write_text(text)
    sources["downslope.box"] = tmp_path / "__init__.py"
    sources["downslope.box"].write_text("")
    (tmp_path / "__init__.pyi").write_text("from .inner import name as name")
    graph = import_graph(sources)
    assert graph["downslope.a"] == {"downslope.box.inner"}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()
    sources["downslope.b"].write_text("if TYPE_CHECKING:\n    import downslope.a")
    graphlib.TopologicalSorter(import_graph(sources)).prepare()


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_layers(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    module = module_name(file)
    assert not broken_layers(tree, module, file.name == "__init__.py")
    assert not broken_launch(tree, module)


USER_FILES = [file for file in FILES if part_of(module_name(file)) in USERS]


@pytest.mark.parametrize("file", USER_FILES, ids=module_name)
def test_users_take_public_names_only(file: Path, public: frozenset[str]) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert not broken_public(tree, module_name(file), public)


def test_the_reference_lists_internals_one_by_one(documented: frozenset[str]) -> None:
    """Catches a page that makes a whole module of the core public, and a name no extension uses."""
    modules = {module_name(file) for file in FILES}
    assert not [n for n in documented & modules if part_of(n) in INNER], "list its members"
    used = {
        found.name
        for file in USER_FILES
        for found in imports(ast.parse(file.read_text(encoding="utf-8")), module_name(file))
    }
    listed = pages.rendered_names(SOURCE.parent / "docs" / "reference" / "extending.md")
    unused = listed - used
    assert listed and not unused, "on the page of extensions, but nothing uses it"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("errors", "import downslope.config"),
        ("arguments", "from downslope.config import Training"),
        ("config", "import numpy"),
        ("config", "from downslope.storage import atomic_folder"),
        ("data.arrays", "import jax"),
        ("data.arrays", "def f():\n    from jax import numpy"),
        ("data.arrays", "from downslope import fit"),
        ("data.arrays", "from ..step import update"),
        ("data.arrays", "from .. import step"),
        ("noise.scale", "from downslope.step.update import State"),
        ("noise.scale", "import optax"),
        ("choose.batch", "import numpy as np"),
        ("choose.batch", "from downslope.noise import scale"),
        ("step.update", "from downslope.data.blocks import Block"),
        ("predict", "from downslope.data import stored\nfrom downslope.report import journal"),
        ("report.html", "import jax"),
        ("report.html", "from downslope.step import update"),
        ("check.order", "from downslope.launch import local"),
        ("loggers.entries", "import jax"),
        ("loggers.entries", "from downslope.report import journal"),
        ("launch.local", "from downslope.fit import fit"),
        ("fit", "from downslope.recipes import ridge"),
        ("storage", "from downslope.cli import main"),
    ],
)
def test_layers_catch(module: str, line: str) -> None:
    assert broken_layers(ast.parse(line), f"downslope.{module}")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("config", "from downslope.errors import UsageError"),
        ("data.arrays", "import numpy.typing\nimport pyarrow.parquet as pq\nimport os.path"),
        ("data.arrays", "from .tree import Rows\nfrom ..errors import DataError"),
        ("predict", "from downslope.data import stored\nfrom downslope import checkpoint"),
        ("step.update", "import optax\nfrom downslope.noise.moments import Sums"),
        ("fit", "from downslope.data.blocks import Blocks\nfrom downslope.step import update"),
        ("choose.batch", "from scipy.interpolate import PchipInterpolator"),
        ("cli", "from downslope import fit"),
    ],
)
def test_layers_let_pass(module: str, line: str) -> None:
    assert not broken_layers(ast.parse(line), f"downslope.{module}")
    package = ast.parse("from . import source")
    assert not broken_layers(package, "downslope.data", is_package=True)


@pytest.mark.parametrize(
    "line",
    [
        "import ray",
        "def f():\n    from ray.util import queue",
        "from jax import distributed",
        "import jax.distributed",
        "import jax\njax.distributed.initialize()",
    ],
)
def test_only_launch_starts_processes(line: str) -> None:
    assert broken_launch(ast.parse(line), "downslope.fit")
    assert not broken_launch(ast.parse(line), "downslope.launch.processes")


@pytest.mark.parametrize(
    ("line", "is_allowed"),
    [
        ("import downslope", True),
        ("from downslope import fit", True),
        ("from downslope.errors import DataError", True),
        ("from downslope import errors", True),
        ("from downslope.recipes import ridge", True),
        ("import numpy", True),
        ("from downslope import storage", False),
        ("from downslope.storage import atomic_folder", False),
        ("from downslope.errors import _ADVICE", False),
        ("from downslope.errors.inner import Name", False),
        ("import downslope.step.update", False),
        ("import downslope\ndownslope._fit()", False),
        ("from downslope import errors as e\ne._ADVICE", False),
        ("import downslope as d\nd.errors._ADVICE", False),
    ],
)
def test_public_names_only(line: str, is_allowed: bool) -> None:
    public = frozenset({"downslope", "downslope.fit", "downslope.errors"})
    broken = broken_public(ast.parse(line), "downslope.recipes.anomaly", public)
    assert (not broken) is is_allowed


def run(code: str) -> str:
    """Standard output of the code in a fresh interpreter."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_data_never_imports_jax() -> None:
    """Nor does anything that it imports, which only running it tells."""
    count = run(
        "import importlib, pkgutil, sys\n"
        "import downslope.data as data\n"
        "found = [m.name for m in pkgutil.walk_packages(data.__path__, 'downslope.data.')]\n"
        "for name in found: importlib.import_module(name)\n"
        "assert 'jax' not in sys.modules\n"
        "print(len(found))"
    )
    assert int(count) > 0


def test_import_is_quiet_and_light() -> None:
    assert not run("import sys, downslope\nassert 'jax' not in sys.modules")


def test_import_is_fast() -> None:
    """Processor time beyond the interpreter's own, far below which it stays when alone."""
    now = "time.process_time()"
    took = min(
        float(run(f"import time\na = {now}\nimport downslope\nprint({now} - a)")) for _ in range(3)
    )
    assert took < 0.05


@pytest.mark.slow
def test_names_do_not_depend_on_what_was_imported_before() -> None:
    """A module imported under a public name would take that name's place on the package."""
    kinds = "print([(n, type(getattr(downslope, n)).__name__) for n in sorted(downslope.__all__)])"
    every = (
        "import importlib, pkgutil\n"
        "for m in pkgutil.walk_packages(downslope.__path__, 'downslope.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
    )
    assert run(f"import downslope\n{kinds}") == run(f"import downslope\n{every}{kinds}")


def test_instruments_load_when_asked_for() -> None:
    """Catches a package of instruments that imports them all, or a monitor that needs many."""
    names = run(
        "import sys\n"
        "import downslope.noise.online.monitor\n"
        "print(*[m for m in sys.modules if m.startswith('downslope.noise.')])"
    ).split()
    subjects = {name.split(".")[2] for name in names}
    assert subjects == {"online", "scale", "statistics", "tails", "temperature", "trajectory"}
    assert len(names) < 22


A_RUN = """
import sys, numpy, downslope
x = numpy.ones((64, 2), "f4")
def loss(model, batch, key):
    return (batch @ model - 1) ** 2
downslope.fit(loss, numpy.zeros(2, "f4"), x, learning_rate=0.01, epochs=1)
ours = {name for name in sys.modules if name.startswith("downslope.")}
unused = ("check", "noise.survey", "noise.curvature", "noise.covariance", "noise.required",
          "report.", "table", "recipes", "loggers", "sklearn")
found = {name for name in ours if name.startswith(tuple("downslope." + each for each in unused))}
print(len(ours), sorted(found - {"downslope.report.journal"}),
      sorted({"matplotlib", "pyarrow", "sklearn", "rich"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_run_imports_what_it_uses():
    """Catches an instrument, a check or a page that every run waits for."""
    count, rest = run(A_RUN).split(maxsplit=1)
    assert int(count) < 108
    assert rest.strip() == "[] []"
