"""What the reference pages need beyond griffe: examples shown as code, names of lazy packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section `Example:`, which griffe knows as `Examples:` only."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)


class LazyPackages(griffe.Extension):
    """Exports what the stub `__init__.pyi` of a lazy package imports; its `__all__` is computed."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        for module in _modules(pkg):
            if module.is_init_module and module.filepath.with_suffix(".pyi").exists():
                names = [name for name, member in module.members.items() if member.is_alias]
                module.exports = [name for name in names if not name.startswith("_")]


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for inner in module.modules.values():
        if not inner.is_alias:
            yield from _modules(inner)
