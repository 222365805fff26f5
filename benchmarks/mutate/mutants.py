"""Mutants of a file by the operators of Cosmic Ray, and a sample of them.

Left out: annotations, decorators, and `==` against `is`, whose mutants compute the same;
operators on bits in place of arithmetic, which fail on any float; one more or less in a module's
plain constant of ten or more, such as 129 rows for 128, which is as good a choice as before;
`strict` of `zip`, which acts only on a fault elsewhere; and the `*` of a signature.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import random
import re
from collections.abc import Iterator
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

LEFT_OUT = re.compile(
    "NoOp|Variable|RemoveDecorator|.*_Is_Eq$|.*_IsNot_NotEq$|.*_(Eq|NotEq|Lt|LtE|Gt|GtE)_Is(Not)?$"
    "|.*_(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(LShift|RShift|BitOr|BitAnd|BitXor)$|.*_Invert$"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """A fault: one occurrence of an operator in a file, and the lines of its statement."""

    path: str
    operator: str
    occurrence: int
    line: int
    first: int
    last: int
    anywhere: bool  # outside of any function: it acts when the module is imported


@functools.cache
def operators() -> dict[str, Any]:
    """Cosmic Ray's operators by name."""
    names = sorted(name for name in operator_names() if not LEFT_OUT.match(name.split("/")[1]))
    return {name.split("/")[1]: get_operator(name)() for name in names}


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """All mutants of a file."""
    tree = ast.parse(source)
    quiet, large = list(_left_alone(tree)), set(_large_constants(tree))
    arithmetic = [_span(n) for n in ast.walk(tree) if isinstance(n, (ast.BinOp, ast.AugAssign))]
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    functions = [n for n in statements if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    nodes = list(ast_nodes(get_ast(source)))
    for name, operator in operators().items():
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(places):
            if any(first <= start < last for first, last in quiet):
                continue
            if name == "NumberReplacer" and start in large:
                continue
            if "BinaryOperator" in name and not any(a <= start < b for a, b in arithmetic):
                continue
            inside = [s for s in statements if s.lineno <= start[0] <= (s.end_lineno or 0)]
            statement = max(inside, key=lambda s: (s.lineno, s.col_offset))
            yield Mutant(
                path=path,
                operator=name,
                occurrence=occurrence,
                line=start[0],
                first=statement.lineno,
                last=_end_of_head(statement),
                anywhere=not any(
                    f.body[0].lineno <= start[0] <= (f.end_lineno or 0) for f in functions
                ),
            )


def _left_alone(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Positions of annotations, decorators and `strict`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "strict":
            yield _span(node.value)
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for part in [*found, *getattr(node, "decorator_list", [])]:
            if isinstance(part, ast.expr):
                yield _span(part)


def _span(node: ast.expr | ast.stmt) -> tuple[tuple[int, int], tuple[int, int]]:
    end = (node.end_lineno or 0, node.end_col_offset or 0)
    return (node.lineno, node.col_offset), end


def _large_constants(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Positions of numbers of ten or more in the constants of a module, not of their factors."""
    for statement in (node for node in tree.body if isinstance(node, ast.Assign)):
        found = statement.value
        for node in found.elts if isinstance(found, ast.Tuple) else [found]:
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, (int, float)) and abs(value) >= 10:
                yield node.lineno, node.col_offset


def _end_of_head(statement: ast.stmt) -> int:
    """The last line of a statement without the block that it opens."""
    body = getattr(statement, "body", None)
    if body:
        return max(statement.lineno, body[0].lineno - 1)
    return statement.end_lineno or statement.lineno


def sample(found: list[Mutant], number: int, seed: int) -> list[Mutant]:
    """Mutants on different lines, drawn with equal chances; on each line a kind, then a mutant."""
    lines: dict[tuple[str, int], dict[str, list[Mutant]]] = {}
    for mutant in found:
        kinds = lines.setdefault((mutant.path, mutant.line), {})
        kinds.setdefault(mutant.operator.split("_")[0], []).append(mutant)
    rng = random.Random(seed)
    drawn = [lines[line] for line in rng.sample(sorted(lines), min(number, len(lines)))]
    return [rng.choice(kinds[rng.choice(sorted(kinds))]) for kinds in drawn]


def mutated(mutant: Mutant, source: str) -> str:
    """The file with the fault in it."""
    code = mutate_code(source, operators()[mutant.operator], mutant.occurrence)
    assert code is not None, mutant
    return code
