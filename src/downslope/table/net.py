"""The net of a table: periodic embeddings of numbers, dense layers, several members at once.

The parts are those of RealMLP (Holzmüller, Grinsztajn and Steinwart 2024): median and interquartile
scaling with a smooth clip, periodic embeddings (Gorishniy et al. 2022), indicators of rare-valued
categories, a learned scale per input, weights divided by the root of their fan-in, dropout. Rates
of parts that differ are factors of the parameters, since a step of Adam has the same size for every
parameter.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from downslope.models import Lookup, embedded, width

MAX_INDICATORS = 9  # values of a category up to which each has an input of its own
FREQUENCIES, EMBEDDED = 16, 3  # per number: cosines, and what a linear map makes of them
FREQUENCY_SPREAD = 0.5
MIN_DISTINCT = 12  # values of a number from which periodic embeddings say more than itself
MOST_PERIODIC = 128  # numbers with periodic embeddings: of 1,000 an update would take 50 ms
SCALE_RATE, SLOW_RATE = 6.0, 0.1  # of scales; of biases and embeddings of numbers
DROPOUT = 0.15
_CLIP = 3.0  # where the smooth clip bends, in scaled units
# Of the powers of the square of turns in their cosine: the polynomial through its values at seven
# Chebyshev nodes of half a turn.
_COSINE = (1.0, -19.739204, 64.939117, -85.450111, 60.167431, -25.966885, 6.5277061)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Scaling of the numbers of a row, from training rows.

    Attributes:
        center: median of every number, [n].
        spread: distance of the quartiles, or half the range where that is 0, [n].
        periodic: places of the numbers with periodic embeddings; none where too many would be.
        range: smallest and largest target seen, in the units of training.
    """

    center: tuple[float, ...]
    spread: tuple[float, ...]
    periodic: tuple[int, ...]
    range: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes an equal scaling."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Scaling:
        """The scaling that `to_json` described."""
        return cls(**{name: tuple(each) for name, each in values.items()})

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, num_indicators: int) -> Scaling:
        """Scaling of rows x [m, n] with targets y [m], the last inputs of which are indicators."""
        count = x.shape[1] - num_indicators
        low, center, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0) if len(x) else [x, x, x]
        half_range = (x.max(0) - x.min(0)) / 2
        spread = np.where(high > low, high - low, half_range)
        center[count:], spread[count:] = 0.0, 1.0
        distinct = [len(np.unique(x[:, place])) for place in range(count)]
        periodic = tuple(p for p, found in enumerate(distinct) if found >= MIN_DISTINCT)
        return cls(
            center=tuple(center.tolist()),
            spread=tuple(np.where(spread > 0, spread, 1.0).tolist()),
            periodic=periodic if len(periodic) <= MOST_PERIODIC else (),
            range=(float(y.min()), float(y.max())),
        )


@dataclass(frozen=True, kw_only=True)
class Net:
    """A net's function of rows and parameters.

    Attributes:
        scaling: of the numbers.
        lookups: the tables of coded columns.
        hidden: widths of the hidden layers.
        num_outputs: of each member.
        members: nets that train side by side on the same batches, from other first parameters.
        dropout: share of the hidden units that a training step leaves out.
    """

    scaling: Scaling
    lookups: tuple[Lookup, ...]
    hidden: tuple[int, ...]
    num_outputs: int
    members: int = 1
    dropout: float = DROPOUT

    def init(self, seed: int) -> dict[str, Any]:
        """Parameters before training; every array has an axis of members first."""
        rng = np.random.Generator(np.random.Philox(seed))

        def draw(*shape: int) -> np.ndarray:
            return rng.standard_normal((self.members, *shape), np.float32)

        periodic, num_inputs = len(self.scaling.periodic), len(self.inputs_of)
        tables = {t.name: draw(t.num_codes, width(t.num_codes)) for t in self._embedded}
        layers = []
        for inputs, outputs in zip(
            (num_inputs, *self.hidden), (*self.hidden, self.num_outputs), strict=True
        ):
            is_last = len(layers) == len(self.hidden)
            layers.append({
                "weights": draw(inputs, outputs) * np.float32(not is_last),
                "bias": draw(outputs) * np.float32(not is_last),
            })  # fmt: skip
        found: dict[str, Any] = {
            "scale": np.full((self.members, num_inputs), 1 / SCALE_RATE, np.float32),
            "embeddings": tables,
            "layers": layers,
        }
        if periodic:
            phase = rng.uniform(-np.pi, np.pi, (self.members, periodic, FREQUENCIES))
            found["periodic"] = {
                "frequency": draw(periodic, FREQUENCIES) * np.float32(FREQUENCY_SPREAD / SLOW_RATE),
                "phase": np.float32(phase / SLOW_RATE),
                "weights": draw(periodic, FREQUENCIES, EMBEDDED) / np.float32(SLOW_RATE),
                "bias": draw(periodic, EMBEDDED) / np.float32(SLOW_RATE),
            }
        return found

    @property
    def inputs_of(self) -> list[int | str]:
        """Origin of each input of the first layer: the place of a number, or a column's name."""
        scaling = self.scaling
        found: list[int | str] = list(range(len(scaling.center)))
        found += [place for place in scaling.periodic for _ in range(EMBEDDED)]
        found += [t.name for t in self._indicated for _ in range(t.num_codes)]
        found += [t.name for t in self._embedded for _ in range(width(t.num_codes))]
        return found

    @property
    def _indicated(self) -> tuple[Lookup, ...]:
        return tuple(
            t for t in self.lookups if t.num_slots == 1 and t.num_codes <= MAX_INDICATORS + 2
        )

    @property
    def _embedded(self) -> tuple[Lookup, ...]:
        return tuple(t for t in self.lookups if t not in self._indicated)

    def penalized(self, params: Any) -> Any:
        """True for weights and embeddings, False for biases, scales and periodic embeddings."""
        mask = jax.tree.map(lambda _: False, params)
        layers = [layer | {"weights": True} for layer in mask["layers"]]
        tables = dict.fromkeys(mask["embeddings"], True)
        return mask | {"layers": layers, "embeddings": tables}

    def outputs(self, params: Any, batch: Any, key: Array | None = None) -> Array:
        """Outputs of every member [K, B, num_outputs].

        Args:
            key: of the units that a step of training leaves out; None leaves out none.
        """
        keys = None if key is None else jax.random.split(key, self.members)
        axes = 0, None if keys is None else 0
        return jax.vmap(lambda p, k: self._member(p, batch, k), axes)(params, keys)

    def _member(self, params: Any, batch: Any, key: Array | None) -> Array:
        scaling = self.scaling
        x = (batch.x - np.asarray(scaling.center, np.float32)) / np.asarray(
            scaling.spread, np.float32
        )
        x = x / jnp.sqrt(1 + (x / _CLIP) ** 2)
        parts = [x]
        if scaling.periodic:
            found = self._periodic(params["periodic"], x[:, np.array(scaling.periodic)])
            parts.append(found.reshape(len(x), -1))
        for table in self._indicated:
            codes = batch.codes[:, table.first_slot]
            parts.append(jax.nn.one_hot(codes, table.num_codes, dtype=x.dtype))
        parts += [embedded(params["embeddings"][t.name], t, batch.codes) for t in self._embedded]
        x = jnp.concatenate(parts, axis=-1) * (SCALE_RATE * params["scale"])
        *inner, last = params["layers"]
        for place, layer in enumerate(inner):
            x = jax.nn.selu(_dense(layer, x))
            if key is not None and self.dropout:
                x = _drop(jax.random.fold_in(key, place), x, self.dropout)
        return _dense(last, x)

    @staticmethod
    def _periodic(params: Any, x: Array) -> Array:
        """Embeddings [B, p, EMBEDDED] of numbers [B, p].

        Rows are the last axis inside: a step takes a third less time than with them first
        (measured).
        """
        turns = x.T[:, None] * params["frequency"][..., None] * SLOW_RATE
        waves = _cosine(turns + params["phase"][..., None] * (SLOW_RATE / (2 * np.pi)))
        mapped = jnp.einsum("pfb,pfe->peb", waves, params["weights"]) / math.sqrt(FREQUENCIES)
        return SLOW_RATE * (mapped + params["bias"][..., None]).transpose(2, 0, 1)

    def clamped(self, outputs: Array) -> Array:
        """Predictions of a numeric target, within the range of the targets seen."""
        return jnp.clip(outputs, *self.scaling.range)


def _dense(layer: Any, x: Array) -> Array:
    weights = layer["weights"]
    return x @ (weights / math.sqrt(weights.shape[0])) + SLOW_RATE * layer["bias"]


def _cosine(turns: Array) -> Array:
    """Cosine of 2 pi times `turns`, within 5e-7.

    A polynomial in the square of the distance to the next whole turn; that of the library is
    made for angles of any size and takes half the time of a step.
    """
    square = (turns - jnp.round(turns)) ** 2
    found = jnp.full_like(square, _COSINE[-1])
    for coefficient in _COSINE[-2::-1]:
        found = found * square + coefficient
    return found


def _drop(key: Array, x: Array, share: float) -> Array:
    """A share of the numbers set to 0, the others scaled up; a byte of randomness for each."""
    level = round(share * 256)
    words = jax.random.bits(key, (-(-x.size // 4),))  # four bytes at once, in a third of the time
    bytes_ = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)
    kept = bytes_[: x.size].reshape(x.shape) >= level
    return jnp.where(kept, x * np.float32(256 / (256 - level)), 0)


def mean_logits(outputs: Array) -> Array:
    """Logits of the members' mean probabilities, from logits [K, B] or [K, B, C] of each."""
    if outputs.ndim == 2:
        above, below = (
            jax.nn.logsumexp(jax.nn.log_sigmoid(sign * outputs), axis=0) for sign in (1, -1)
        )
        return above - below
    return jax.nn.logsumexp(jax.nn.log_softmax(outputs), axis=0) - math.log(len(outputs))
