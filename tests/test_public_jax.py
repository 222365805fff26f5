"""Only public names of JAX are used: its internals change from one release to the next."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
# `jax.core.Tracer` is public; traced programs and their equations are not.
PRIVATE = re.compile(
    r"jax\._src|jax\.interpreters|jax\.extend|from jax\.core import (?!Tracer$)"
    r"|jax\.core\.(?!Tracer\b)|\beqn\.|\.eqns\b|\.(in|out)vars\b|\.jaxpr\b|make_jaxpr",
    re.MULTILINE,
)


def private_uses(text: str) -> list[str]:
    return [match.group(0) for match in PRIVATE.finditer(text)]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("from jax.core import Tracer\nisinstance(x, jax.core.Tracer)", 0),
        ("from jax.core import Jaxpr", 1),
        ("jax.core.eval_jaxpr(program)", 1),
        ("for equation in program.eqns:\n    equation.outvars", 2),
        ("from jax._src import core", 1),
        ("jax.make_jaxpr(f)(x).jaxpr", 2),
    ],
)
def test_private_uses_are_seen(text, count):
    """Catches a pattern that nothing can match."""
    assert len(private_uses(text)) == count


def test_no_private_fields_of_jax():
    files = sorted((SOURCE / "downslope").rglob("*.py"))
    found = {file.name: private_uses(file.read_text(encoding="utf-8")) for file in files}
    assert files and not {name: uses for name, uses in found.items() if uses}
