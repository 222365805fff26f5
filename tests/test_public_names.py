"""`__all__` is the one list of public names: nothing beside it, each documented, each rendered."""

from __future__ import annotations

import importlib
import pkgutil
import re
import types
from pathlib import Path

import griffe
import pytest

import downslope
import downslope.noise

# Packages that hand out names of their own; those of `downslope.noise` without a list are inner.
PACKAGES = [
    *("downslope", "downslope.check", "downslope.choose", "downslope.loggers", "downslope.noise"),
    *("downslope.recipes.anomaly", "downslope.recipes.batch_effect"),
    *("downslope.recipes.batch_norm", "downslope.recipes.embedding"),
    *("downslope.recipes.equation", "downslope.recipes.posterior"),
    *("downslope.recipes.fusion", "downslope.recipes.svm"),
    "downslope.sklearn",
] + [
    found.name
    for found in pkgutil.iter_modules(downslope.noise.__path__, "downslope.noise.")
    if found.ispkg and hasattr(importlib.import_module(found.name), "__all__")
]
every_package = pytest.mark.parametrize("name", PACKAGES)


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """The package as the reference pages see it: read, not run."""
    source = Path(downslope.__file__).parents[1]
    extensions = griffe.load_extensions(source.parent / "docs" / "docstrings.py")
    loaded = griffe.load("downslope", search_paths=[source], extensions=extensions)
    assert isinstance(loaded, griffe.Module)
    return loaded


def _names(module: types.ModuleType) -> list[str]:
    return [name for name in module.__all__ if not name.startswith("__")]  # not __version__


@every_package
def test_names_exist_and_stand_there_once(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    absent = [each for each in module.__all__ if not hasattr(module, each)]
    assert not absent, "in __all__, but not there"


@every_package
def test_completion_shows_them(name: str) -> None:
    """Those that are imported at first use too."""
    module = importlib.import_module(name)
    assert set(module.__all__) <= set(dir(module))


@every_package
def test_nothing_public_beside_the_list(name: str) -> None:
    """Modules are left out: importing a submodule sets its name on the package."""
    module = importlib.import_module(name)
    for each in module.__all__:
        getattr(module, each)
    beside = [
        each
        for each, thing in vars(module).items()
        if each not in {*module.__all__, "annotations", "TYPE_CHECKING"}
        and not each.startswith("_")
        and not isinstance(thing, types.ModuleType)
    ]
    assert not beside, "public by its name, but not in __all__"


def _definition(package: griffe.Module, module: types.ModuleType, name: str) -> str:
    """Dotted name of where a public thing is defined: as told by itself, else by the source."""
    thing = getattr(module, name)
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    place = (getattr(thing, "__module__", None), getattr(thing, "__qualname__", None))
    if all(place) and str(place[0]).startswith("downslope"):
        return ".".join(map(str, place))
    return _find(package, f"{module.__name__}.{name}").canonical_path


def _find(package: griffe.Module, path: str) -> griffe.Object | griffe.Alias:
    return package[path.removeprefix("downslope.")] if "." in path else package


@pytest.mark.slow
@every_package
def test_each_has_a_docstring(name: str, package: griffe.Module) -> None:
    """Read from the source, so that one inherited or written by a decorator does not count."""
    module, bare = importlib.import_module(name), []
    for each in _names(module):
        thing = _find(package, _definition(package, module, each))
        methods = thing.members.values() if thing.is_class else ()
        shown = [thing, *(m for m in methods if m.is_public and m.is_function)]
        bare += [m.path for m in shown if not m.has_docstring and not _is_dunder(m)]
    assert not bare, "public, but without a docstring"


def _is_dunder(thing: griffe.Object | griffe.Alias) -> bool:
    return thing.name.startswith("__")


@every_package
def test_each_is_in_the_reference(
    name: str, package: griffe.Module, documented: frozenset[str]
) -> None:
    """The page of a module shows its public members, but not its submodules."""
    rendered = set(documented)
    for path in documented:
        page = _find(package, path)
        if page.is_module:
            shown = [member for member in page.members.values() if member.is_public]
            rendered |= {member.canonical_path for member in shown if not member.is_module}
    module = importlib.import_module(name)
    absent = [each for each in _names(module) if _definition(package, module, each) not in rendered]
    assert not absent, "public, but on no page of docs/reference"


ARGUMENTS = re.compile(r"^Args:\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^ {4}([\w*]+(?:, [\w*]+)*):", re.MULTILINE)


def test_arguments_in_docstrings_exist(package: griffe.Module) -> None:
    """Catches an argument that was renamed; its old name would stay in the docstring."""
    checked, wrong = 0, []
    for thing in _functions(package):
        for section in ARGUMENTS.findall(thing.docstring.value if thing.docstring else ""):
            named = [n for names in NAMED.findall(section) for n in names.split(", ")]
            taken = {parameter.name for parameter in thing.parameters}
            wrong += [f"{thing.path}: {n}" for n in named if n.lstrip("*") not in taken]
            checked += len(named)
    assert checked > 100
    assert not wrong, "in a docstring, but not an argument"


def _functions(thing: griffe.Module | griffe.Class) -> list[griffe.Function]:
    found: list[griffe.Function] = []
    for member in thing.members.values():
        if isinstance(member, griffe.Function):
            found.append(member)
        elif isinstance(member, (griffe.Module, griffe.Class)):
            found += _functions(member)
    return found
