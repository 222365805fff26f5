"""Computing in float64 for the length of one check."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp


def wide() -> AbstractContextManager[Any]:
    """A context in which JAX has 64-bit numbers; nothing outside it changes."""
    return jax.enable_x64(True)


def cast(tree: Any, dtype: Any) -> Any:
    """The tree with its floating-point arrays as `dtype`, everything else as it is."""

    def one(leaf: Any) -> Any:
        kind = getattr(leaf, "dtype", None)
        if kind is None or not jnp.issubdtype(kind, jnp.floating) or kind == dtype:
            return leaf
        return leaf.astype(dtype)

    return jax.tree.map(one, tree)
