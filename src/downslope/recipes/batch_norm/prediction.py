"""A trained net with frozen statistics: each row's result is its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.errors import UsageError
from downslope.recipes.batch_norm.passes import BLOCK_ROWS, Net, divided, padded, rows_of
from downslope.recipes.batch_norm.population import Population


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """What a net gives for rows, by frozen statistics, whatever stands beside a row.

    It can be pickled where the net is a function of a module.

    Args:
        net: `net(model, inputs, norm)`.
        model: the trained model.
        population: its statistics, as `population_statistics` finds them.

    Example:
        >>> from downslope.recipes.batch_norm import population_statistics
        >>> net = lambda model, x, norm: norm("x", x) @ model
        >>> model, x = np.ones((1, 1), "f"), np.float32([[1.0], [2.0], [3.0], [6.0]])
        >>> found = population_statistics(net, model, x)
        >>> predict = Predictor(net=net, model=model, population=found)
        >>> predict(np.float32([[3.0]])).tolist()
        [[0.0]]
    """

    net: Net
    model: Any
    population: Population

    def __call__(self, inputs: Any, lab: Any = None) -> Any:
        """Results [n, ...] as NumPy arrays, computed in blocks.

        Args:
            inputs: rows [n, ...], as the net takes them.
            lab: labels [n] where the statistics are those of laboratories.

        Raises:
            UsageError: a laboratory without statistics, or labels of another number.
        """
        rows = rows_of(inputs, lab=None, weight=None, inputs=None, block_rows=BLOCK_ROWS)
        codes = self.population.codes(lab)
        if codes is not None and codes.shape != (rows.num_rows,):
            raise UsageError(
                f"lab must be one label for each of {rows.num_rows:,} rows; "
                f"got shape {list(codes.shape)}"
            )
        # few shapes to compile for
        size = min(BLOCK_ROWS, 1 << (rows.num_rows - 1).bit_length())
        parts = []
        for at, block in rows.blocks(size):
            own = None if codes is None else padded(codes[at], size)
            found = self._outputs(padded(block, size), own)
            parts.append(jax.tree.map(lambda a, n=at.stop - at.start: np.asarray(a)[:n], found))
        return jax.tree.map(lambda *a: np.concatenate(a), *parts)

    @functools.cached_property
    def _outputs(self) -> Callable[..., Any]:
        arrays, whole = divided(self.model)
        arrays = jax.device_put(arrays)

        @jax.jit
        def outputs(arrays: Any, inputs: Any, codes: Any) -> Any:
            return self.net(whole(arrays), inputs, self.population.norm(codes))

        return lambda inputs, codes: outputs(arrays, inputs, codes)

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled function, which cannot be pickled."""
        return {name: getattr(self, name) for name in ("net", "model", "population")}
