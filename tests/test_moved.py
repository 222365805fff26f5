"""Old public names still work, with a warning that names the new one."""

from __future__ import annotations

import importlib
import sys

import pytest

from downslope import _moved

OBJECTS = [(package, old) for package, names in _moved.OBJECTS.items() for old in names]


@pytest.mark.parametrize("old", _moved.MODULES)
def test_a_module_is_found_by_its_old_name(old, monkeypatch):
    """Catches a new name that is not one, and an old module that is another one's copy."""
    for name in [name for name in sys.modules if name.startswith((old, "downslope.engine"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {_moved.MODULES[old]}") as warned:
        __import__(old)
    found = sys.modules[old]
    new = importlib.import_module(_moved.MODULES[old])
    public = [name for name in vars(new) if not name.startswith("_")]
    assert public and all(getattr(found, name) is getattr(new, name) for name in public)
    for name, renamed in _moved.NAMES.get(old, {}).items():
        assert getattr(found, name) is getattr(new, renamed)
    assert warned[0].filename == __file__
    assert new.__name__ == _moved.MODULES[old]


@pytest.mark.parametrize(("package", "old"), OBJECTS)
def test_an_object_is_found_by_its_old_name(package, old):
    """Catches a new home that lacks the object, and a warning that points at the package."""
    with pytest.warns(DeprecationWarning, match=f"{package}.{old} is now") as warned:
        found = getattr(importlib.import_module(package), old)
    assert isinstance(found, type) or callable(found)
    assert warned[0].filename == __file__
    assert old not in importlib.import_module(package).__all__


def test_a_name_that_never_was_is_an_error():
    """Catches a finder that swallows misspelt names."""
    with pytest.raises(ImportError):
        importlib.import_module("downslope.engine.nothing")
    with pytest.raises(ImportError):
        importlib.import_module("downslope.nothing")
    with pytest.raises(AttributeError):
        _ = importlib.import_module("downslope").nothing
