"""Passes over rows: what each layer of a net is given, block by block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import downslope
from downslope.errors import DataError, UsageError
from downslope.recipes.batch_norm.layer import Norm, Statistics, frozen
from downslope.recipes.batch_norm.moments import BLOCK_BYTES
from downslope.recipes.labels import coded

Net = Callable[[Any, Any, Norm], Any]
BLOCK_ROWS = 8192  # assumed: beyond it a device gains little
SAMPLE_ROWS = 4096  # of a sample for condition numbers and kurtoses; assumed
PIECE = 32  # neighbouring rows of a sample from a source that is read by ranges


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows to pass over, with the laboratory and the weight of each.

    Attributes:
        source: arrays or a source of downslope.
        inputs: picks from a batch what the net takes.
        codes: laboratory of each row [rows], a place among the labs; zeros without.
        labs: the laboratories, sorted or in the order of their categories; None without.
        weight: of each row [rows].
    """

    source: Any
    inputs: Callable[[Any], Any]
    codes: np.ndarray
    labs: tuple[Any, ...] | None
    weight: np.ndarray

    @property
    def num_rows(self) -> int:
        """Rows in all."""
        return self.source.num_rows

    def read(self, start: int, stop: int) -> Any:
        """What the net takes, for some rows."""
        return self.inputs(self.source.unpack(self.source.read(start, stop)))

    def blocks(self, block_rows: int) -> Iterator[tuple[slice, Any]]:
        """Places and inputs of blocks, in order; the last one is filled up by repeating."""
        for start in range(0, self.num_rows, block_rows):
            stop = min(start + block_rows, self.num_rows)
            yield slice(start, stop), self.read(start, stop)

    def sample(self, count: int = SAMPLE_ROWS, seed: int = 0) -> tuple[np.ndarray, Any]:
        """Places of a random sample, sorted, and its inputs; in pieces where not shuffled."""
        piece = 1 if isinstance(self.source, downslope.Arrays) else PIECE
        starts = np.arange(0, self.num_rows, piece)
        most = max(1, count // piece)
        if len(starts) > most:
            starts = np.sort(np.random.default_rng(seed).choice(starts, most, replace=False))
        ends = np.minimum(starts + piece, self.num_rows)
        places = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
        if piece == 1:
            picked = jax.tree.map(lambda a: np.asarray(a[places]), self.source.tree)
            return places, self.inputs(self.source.unpack(picked))
        parts = [
            jax.tree.map(np.array, self.read(int(a), int(b)))
            for a, b in zip(starts, ends, strict=True)
        ]
        return places, jax.tree.map(lambda *a: np.concatenate(a), *parts)


def rows_of(data: Any, *, lab: Any, weight: Any, inputs: Any, block_rows: int) -> Rows:
    """The rows of arrays or a source, with checked laboratories and weights.

    Raises:
        UsageError: a generator, or laboratories or weights of another length.
        DataError: a missing laboratory, or a weight that is negative or not finite.
    """
    if isinstance(data, downslope.Generator):
        raise UsageError(
            "data must be rows that end; a Generator draws for ever, so it has no exact statistics"
        )
    is_source = hasattr(data, "unpack") and hasattr(data, "read")
    wide = bool(jax.config.read("jax_enable_x64"))
    source = data if is_source else downslope.Arrays(data, wide=wide)
    num = source.num_rows
    if callable(lab):
        parts = [
            np.asarray(lab(source.unpack(source.read(a, min(a + block_rows, num)))))
            for a in range(0, num, block_rows)
        ]
        lab = np.concatenate(parts)
    labs, codes = (
        (None, np.zeros(num, np.int32)) if lab is None else coded(lab, "lab", num_rows=num)
    )
    return Rows(
        source=source, inputs=inputs or (lambda batch: batch), codes=codes, labs=labs,
        weight=weights_of(weight, num),
    )  # fmt: skip


def weights_of(weight: Any, num_rows: int) -> np.ndarray:
    """The weight of each row [rows], float64; ones for None.

    Raises:
        UsageError: not one number a row.
        DataError: one that is negative or not finite.
    """
    found = np.ones(num_rows) if weight is None else np.asarray(weight)
    if found.shape != (num_rows,) or found.dtype.kind not in "fiub":
        raise UsageError(f"weight must be one number for each of {num_rows:,} rows; got "
                         f"{found.dtype} of shape {list(found.shape)}")  # fmt: skip
    if not np.isfinite(found).all() or found.min(initial=0) < 0:
        raise DataError("weight must be finite, 0 or more")
    return found.astype(np.float64)


class Probe:
    """A norm that keeps what each layer is given, and passes on what another norm makes of it."""

    def __init__(self, norm: Norm, known: Mapping[str, Any]):
        self.inputs: dict[str, Any] = {}
        self._norm, self._known = norm, known

    def __call__(self, name: str, h: Any, layer: Any = None) -> Any:
        """Keeps `h`; a layer that has no statistics yet passes it on as it is."""
        if name in self.inputs:
            raise UsageError(f"each layer must have a name of its own; {name!r} is used twice")
        self.inputs[name] = h
        return self._norm(name, h, layer) if name in self._known else h


def divided(model: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The arrays of a model, and what puts others in their place: functions are no arguments."""
    leaves, tree = jax.tree.flatten(model)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, (jax.Array, np.ndarray))]

    def whole(arrays: list[Any]) -> Any:
        found = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            found[place] = array
        return jax.tree.unflatten(tree, found)

    return [leaves[i] for i in places], whole


def inputs_of_layers(
    net: Net, model: Any, epsilon: float
) -> Callable[[Any, Any, Mapping[str, Statistics]], dict[str, Any]]:
    """`found(inputs, codes, statistics) -> what each layer is given`, to be compiled."""

    def found(inputs: Any, codes: Any, layers: Mapping[str, Statistics]) -> dict[str, Any]:
        probe = Probe(frozen(layers, codes, epsilon=epsilon), layers)
        net(model, inputs, probe)
        return probe.inputs

    return found


def layer_shapes(net: Net, model: Any, inputs: Any) -> dict[str, Any]:
    """Name and shape of what each layer is given, in the order of the net.

    Raises:
        UsageError: the net normalises nothing, or a layer's inputs are not the rows'.
    """
    rows = jax.tree.leaves(inputs)[0].shape[0]
    arrays, whole = divided(model)
    order: list[str] = []

    def trace(arrays: Any, inputs: Any) -> Any:
        found = inputs_of_layers(net, whole(arrays), 1.0)(inputs, None, {})
        order.extend(found)
        return found

    shapes = jax.eval_shape(trace, arrays, inputs)
    if not order:
        raise UsageError("net must normalise a layer, by norm(name, h); it did not call norm")
    for name in order:
        shape = shapes[name].shape
        if len(shape) < 2 or shape[0] != rows:
            raise UsageError(
                f"inputs of layer {name!r} must be [rows, ..., features], here of {rows} rows; "
                f"got shape {list(shape)}"
            )
    return {name: shapes[name] for name in order}


def default_block(shapes: Mapping[str, Any], num_rows: int) -> int:
    """Rows whose widest layer fills a block's bytes as float64."""
    widest = max(int(np.prod(shape.shape[1:])) for shape in shapes.values())
    return max(1, min(num_rows, BLOCK_ROWS, BLOCK_BYTES // (8 * max(1, widest))))


def padded(tree: Any, rows: int) -> Any:
    """Arrays filled up to so many rows by repeating theirs, so that one program serves all."""
    return jax.tree.map(lambda a: np.resize(np.asarray(a), (rows, *a.shape[1:])), tree)


def of_one_layer(net: Net, model: Any, name: str, epsilon: float) -> Callable[..., np.ndarray]:
    """`h(inputs, codes, statistics)`, compiled: what one layer is given; the rest is cut off."""
    arrays, whole = divided(model)

    @functools.partial(jax.jit)
    def found(arrays: Any, inputs: Any, codes: Any, layers: Any) -> Any:
        return inputs_of_layers(net, whole(arrays), epsilon)(inputs, codes, layers)[name]

    arrays = jax.device_put(arrays)
    return lambda inputs, codes, layers: np.asarray(found(arrays, inputs, codes, layers))
