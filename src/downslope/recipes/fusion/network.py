"""Two branches, joined late: what is trained, and the loss of a row.

A branch turns its columns into a representation of `width` numbers, and into a straight (linear)
part of each output, so that what is linear need not be learned by the joined layer. The joined
layer sees both representations and nothing else. The same function gives outputs under JAX while
training and under NumPy for predictions, which therefore compile nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from downslope.losses import NAMED
from downslope.models import width as width_of
from downslope.recipes.fusion import ordinal

Task = Literal["logistic", "softmax", "ordinal", "squared"]
BRANCHES = ("numbers", "text")
# With a last layer of 0 what both branches say together begins at a saddle, and 1 run in 5 on 2,000
# rows of made news stopped there; of those begun with this, none did.
LAST_SCALE = np.float32(0.35)
WORD_SCALE = 0.3  # spread of the words' vectors before training; 0.1 and 1 did no better


@dataclass(frozen=True)
class FusionLoss:
    """The weighted loss of every row. It compares by value: its programs outlive a fit.

    In a row whose `drop` is above 0 each branch is hidden with that probability, never both:
    the row is then read as one that lacks the branch.
    """

    task: Task

    def __call__(self, model: Any, batch: Any, key: Any) -> Any:
        """Losses [B]."""
        present, drop = batch["present"], batch["drop"]
        if present.shape[1] == len(model["branches"]) == 2:
            chance = jax.random.uniform(key, drop.shape)
            hidden = jnp.stack([chance < drop, chance > 1 - drop], axis=1)
            # a row with one branch keeps it: without either there is nothing to learn from
            both = present.min(1, keepdims=True)
            present = present * (1 - hidden * both)
        out, target = outputs(model, batch, present, jnp), batch["y"]
        if self.task == "ordinal":
            return batch["weight"] * ordinal.losses(out[:, 0], model["cuts"], target)
        out = out if self.task == "softmax" else out[:, 0]
        return batch["weight"] * NAMED[self.task](out, target)


def outputs(model: Any, batch: Any, present: Any, module: Any = np) -> Any:
    """Outputs [B, K].

    Args:
        batch: the arrays of the branches.
        present: 1 where a branch is to be read, [B, 2]; its `absent` stands in where it is 0.
        module: `numpy` or `jax.numpy`.
    """
    last = model["last"]
    num = last["bias"].shape[0]
    straight, parts = last["bias"], []
    for branch in model["branches"]:
        found = represent(model, branch, batch, module)
        shown = present[:, BRANCHES.index(branch), None]
        found = shown * found + (1 - shown) * model["branches"][branch]["absent_bias"]
        parts.append(found[:, num:])
        straight = straight + found[:, :num]
    if len(parts) == 2:  # a product of the two, which a layer of ReLU only approaches
        parts.append(parts[0] * parts[1])
    joined = module.concatenate(parts, axis=1) @ model["join"]["weights"] + model["join"]["bias"]
    return straight + module.where(joined > 0, joined, 0) @ last["weights"]


def represent(model: Any, branch: str, batch: Any, module: Any = np) -> Any:
    """A branch's straight part and its representation, [B, K + width]."""
    parts = model["branches"][branch]
    if branch == "numbers":
        features = [batch["x"]] if "x" in batch else []
        for slot, name in enumerate(sorted(parts["categories"])):
            entries = _entries(parts["categories"][name], batch["codes"][:, slot], module)
            if "gates" in batch:
                entries = entries * batch["gates"][:, slot, None]
            features.append(entries)
        features = module.concatenate(features, axis=1)
        hidden = features @ parts["weights"] + parts["bias"]
        hidden = module.where(hidden > 0, hidden, 0)
        return module.concatenate([features @ parts["straight"], hidden], axis=1)
    if "words" in parts:
        entries = _entries(parts["words"], batch["terms"], module)
        return module.einsum("bl,blw->bw", batch["weights"], entries)
    hidden = batch["vector"] @ parts["weights"] + parts["bias"]
    hidden = module.where(hidden > 0, hidden, 0)
    return module.concatenate([batch["vector"] @ parts["straight"], hidden], axis=1)


def _entries(table: Any, codes: Any, module: Any) -> Any:
    """Rows of a table of parameters, zero for code 0."""
    found = module.take(table, codes, axis=0, mode="clip")
    return found * (codes > 0)[..., None]


def initial(reading: Any, *, width: int, num_outputs: int, seed: int) -> dict[str, Any]:
    """A model before training; all straight parts begin at 0.

    Args:
        reading: the columns, as learned.
        width: of each branch's representation and of the joined layer.
        num_outputs: outputs K.
    """
    draw = np.random.default_rng(seed)

    def normal(rows: int, columns: int) -> np.ndarray:
        drawn = np.sqrt(2 / max(rows, 1)) * draw.standard_normal((rows, columns))
        return drawn.astype(np.float32)

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def branch(fan_in: int) -> dict[str, Any]:
        return {
            "weights": normal(fan_in, width),
            "bias": zeros(width),
            "straight": zeros(fan_in, num_outputs),
        }

    branches: dict[str, Any] = {}
    if reading.is_boundeds:
        tables: dict[str, Any] = {}
        for i, levels in enumerate(reading.levels.values()):  # in the order of the code columns
            codes = len(levels) + 1
            table = 0.1 * draw.standard_normal((codes, width_of(codes)))
            tables[f"{i:04d}"] = table.astype(np.float32)
        fan_in = reading.num_numbers + sum(t.shape[1] for t in tables.values())
        branches["numbers"] = {**branch(fan_in), "categories": tables}
    if reading.words is not None:
        words = reading.words.num_codes
        vectors = np.float32(WORD_SCALE * draw.standard_normal((words, width)))
        branches["text"] = {"words": np.concatenate([zeros(words, num_outputs), vectors], axis=1)}
    elif reading.has_text:
        branches["text"] = branch(reading.width)
    for parts in branches.values():
        parts["absent_bias"] = zeros(num_outputs + width)
    joined = width * (2 * len(branches) - 1)
    return {
        "branches": branches,
        "join": {"weights": normal(joined, width), "bias": zeros(width)},
        "last": {
            "weights": LAST_SCALE * normal(width, num_outputs),
            "bias": zeros(num_outputs),
        },
    }


def weights_only(model: Any) -> Any:
    """True for everything but biases and cuts: what `alpha` acts on."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not str(getattr(path[-1], "key", "")).endswith("bias"), model
    )
