"""`__all__` is the one list of public names: nothing beside it, each documented, each rendered."""

from __future__ import annotations

import types
from pathlib import Path

import griffe
import pytest

import downslope


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """The package as the reference pages see it: read, not run."""
    source = Path(downslope.__file__).parents[1]
    loaded = griffe.load("downslope", search_paths=[source])
    assert isinstance(loaded, griffe.Module)
    return loaded


def _names() -> list[str]:
    return [name for name in downslope.__all__ if not name.startswith("__")]  # not __version__


def test_names_exist_and_stand_there_once() -> None:
    assert len(set(downslope.__all__)) == len(downslope.__all__)
    absent = [name for name in downslope.__all__ if not hasattr(downslope, name)]
    assert not absent, "in __all__, but not there"


def test_completion_shows_them() -> None:
    """Those that are imported at first use too."""
    assert set(downslope.__all__) <= set(dir(downslope))


def test_nothing_public_beside_the_list() -> None:
    """Modules are left out: importing a submodule sets its name on the package."""
    for name in downslope.__all__:
        getattr(downslope, name)
    beside = [
        name
        for name, thing in vars(downslope).items()
        if name not in {*downslope.__all__, "annotations", "TYPE_CHECKING"}
        and not name.startswith("_")
        and not isinstance(thing, types.ModuleType)
    ]
    assert not beside, "public by its name, but not in __all__"


def _definition(name: str) -> str:
    """Dotted name of where a public thing is defined, or of itself where that is not told."""
    thing = getattr(downslope, name)
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    place = (getattr(thing, "__module__", None), getattr(thing, "__qualname__", None))
    return ".".join(place) if all(place) else f"downslope.{name}"


def _find(package: griffe.Module, path: str) -> griffe.Object | griffe.Alias:
    return package[path.removeprefix("downslope.")] if "." in path else package


def test_each_has_a_docstring(package: griffe.Module) -> None:
    """Read from the source, so that one inherited or written by a decorator does not count."""
    bare = []
    for name in _names():
        thing = _find(package, _definition(name))
        methods = thing.members.values() if thing.is_class else ()
        shown = [thing, *(each for each in methods if each.is_public and each.is_function)]
        bare += [each.path for each in shown if not each.has_docstring and not _is_dunder(each)]
    assert not bare, "public, but without a docstring"


def _is_dunder(thing: griffe.Object | griffe.Alias) -> bool:
    return thing.name.startswith("__")


def test_each_is_in_the_reference(package: griffe.Module, documented: frozenset[str]) -> None:
    """The page of a module shows its public members, but not its submodules."""
    rendered = set(documented)
    for path in documented:
        page = _find(package, path)
        if page.is_module:
            shown = [member for member in page.members.values() if member.is_public]
            rendered |= {member.canonical_path for member in shown if not member.is_module}
    absent = [name for name in _names() if _definition(name) not in rendered]
    assert not absent, "public, but on no page of docs/reference"
