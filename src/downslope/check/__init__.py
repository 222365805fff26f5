"""Before training: is the gradient right, can the loss be solved, are the data sound."""

from __future__ import annotations

import importlib
import typing as _t

if _t.TYPE_CHECKING:
    from downslope.check.balance import class_balance, number_spread
    from downslope.check.columns import constant_columns, many_categories, missing_values
    from downslope.check.derivative import GradientCheck, WrongLeaf, gradient
    from downslope.check.duplicates import duplicate_columns
    from downslope.check.findings import Finding, by_severity
    from downslope.check.footprint import (
        FreeMemory,
        ProgramMemory,
        free_memory,
        largest_microbatch,
        memory,
        program_memory,
        tree_bytes,
    )
    from downslope.check.leaks import leaking_columns
    from downslope.check.order import Stretch, file_order
    from downslope.check.overlap import (
        RowHashes,
        chance_of_equal_rows,
        hash_rows,
        joined_hashes,
        repeated_rows,
    )
    from downslope.check.pace import epoch_time, median_seconds
    from downslope.check.quadratics import Quadratic, quadratic
    from downslope.check.sample import Category, Sample
    from downslope.check.scale import input_condition, input_scale
    from downslope.check.solver import Solution, solve_loss

# Imported at first use: checks of a table do not wait for JAX.
_HOME = {
    "Category": "downslope.check.sample",
    "Finding": "downslope.check.findings",
    "FreeMemory": "downslope.check.footprint",
    "GradientCheck": "downslope.check.derivative",
    "ProgramMemory": "downslope.check.footprint",
    "Quadratic": "downslope.check.quadratics",
    "RowHashes": "downslope.check.overlap",
    "Sample": "downslope.check.sample",
    "Solution": "downslope.check.solver",
    "Stretch": "downslope.check.order",
    "WrongLeaf": "downslope.check.derivative",
    "by_severity": "downslope.check.findings",
    "chance_of_equal_rows": "downslope.check.overlap",
    "class_balance": "downslope.check.balance",
    "constant_columns": "downslope.check.columns",
    "duplicate_columns": "downslope.check.duplicates",
    "epoch_time": "downslope.check.pace",
    "file_order": "downslope.check.order",
    "free_memory": "downslope.check.footprint",
    "gradient": "downslope.check.derivative",
    "hash_rows": "downslope.check.overlap",
    "input_condition": "downslope.check.scale",
    "input_scale": "downslope.check.scale",
    "joined_hashes": "downslope.check.overlap",
    "largest_microbatch": "downslope.check.footprint",
    "leaking_columns": "downslope.check.leaks",
    "many_categories": "downslope.check.columns",
    "median_seconds": "downslope.check.pace",
    "memory": "downslope.check.footprint",
    "missing_values": "downslope.check.columns",
    "number_spread": "downslope.check.balance",
    "program_memory": "downslope.check.footprint",
    "quadratic": "downslope.check.quadratics",
    "repeated_rows": "downslope.check.overlap",
    "solve_loss": "downslope.check.solver",
    "tree_bytes": "downslope.check.footprint",
}

__all__ = [
    "Category",
    "Finding",
    "FreeMemory",
    "GradientCheck",
    "ProgramMemory",
    "Quadratic",
    "RowHashes",
    "Sample",
    "Solution",
    "Stretch",
    "WrongLeaf",
    "by_severity",
    "chance_of_equal_rows",
    "class_balance",
    "constant_columns",
    "duplicate_columns",
    "epoch_time",
    "file_order",
    "free_memory",
    "gradient",
    "hash_rows",
    "input_condition",
    "input_scale",
    "joined_hashes",
    "largest_microbatch",
    "leaking_columns",
    "many_categories",
    "median_seconds",
    "memory",
    "missing_values",
    "number_spread",
    "program_memory",
    "quadratic",
    "repeated_rows",
    "solve_loss",
    "tree_bytes",
]


def __getattr__(name: str) -> _t.Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
