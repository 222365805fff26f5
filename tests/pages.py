"""Pages of the reference: the names that they render."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

RENDERED = re.compile(r"^::: ([\w.]+)\n((?: {4}.*\n)*)", re.MULTILINE)
MEMBERS = re.compile(r"\bmembers: (false|\[[^]]*])")


def rendered_names(page: Path) -> set[str]:
    """Dotted names that a reference page renders, or their `members` where it lists some.

    `members: false` shows the text of a package, whose names are those of its `__all__`.
    """
    found = set()
    for name, options in RENDERED.findall(f"{page.read_text(encoding='utf-8')}\n"):
        members = MEMBERS.search(options)
        if members is None:
            found.add(name)
        elif members[1] == "false":
            found |= {f"{name}.{each}" for each in importlib.import_module(name).__all__}
        else:
            found |= {f"{name}.{each}" for each in re.findall(r"\w+", members[1])}
    return found
