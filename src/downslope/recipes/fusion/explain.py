"""Which branch and which words moved a prediction, by two ways that must agree.

The quick way is gradient times input: to first order, what the output would lose if the input
went to 0 (Simonyan, Vedaldi & Zisserman 2014; Shrikumar, Greenside & Kundaje 2017). The slow way
takes a branch or a word out and predicts again. Both are given, with their correlation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.recipes.fusion.columns import Reading
from downslope.recipes.fusion.network import BRANCHES, Task, outputs
from downslope.recipes.fusion.values import Columns

PIECE_ROWS = 256  # rows explained at once: each of their words is taken out in turn
FEW = 3  # a correlation of fewer pairs says nothing


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a row.

    Attributes:
        word: the term; words that share a hashed code are joined by "/".
        moved: gradient times input.
        without: what the output loses when this word alone is taken out.
    """

    word: str
    moved: float
    without: float


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What moved each row's output.

    Attributes:
        explained: what the output is.
        unit: of every number but correlations.
        output: [n].
        branches: by branch, what the output gains over the prediction without it, [n]; 0 where
            the row lacks it.
        by_gradient: by branch, the sum of gradient times input, [n]: the gain over mean numbers,
            no known category, no words.
        columns: by column of numbers or categories, gradient times input, [n].
        words: each row's words, the strongest first; empty where the text is an embedding.
        agreement: by branch, the correlation over the rows of gradient times input with the
            output's loss when all inputs of the branch go to 0; `words`: over all words, with
            taking each out. None where it cannot be estimated.
        reasons: why, by the same names.
    """

    explained: str
    unit: str
    output: np.ndarray
    branches: dict[str, np.ndarray]
    by_gradient: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    words: list[list[Word]]
    agreement: dict[str, float | None]
    reasons: dict[str, str]


def explained(
    model: Any, reading: Reading, columns: Columns, *, task: Task, top: int, unit: str, scale: float
) -> Explanation:
    """The explanation of rows; see `FusionClassifier.explain`."""
    num = len(next(iter(columns.values())))
    pieces = []
    for start in range(0, num, PIECE_ROWS):
        rows = np.arange(start, start + PIECE_ROWS) % num  # the last piece goes round: one shape
        batch = reading.arrays({name: column[rows] for name, column in columns.items()})
        if reading.categories:
            batch["gates"] = np.ones((len(rows), len(reading.categories)), np.float32)
        found = jax.device_get(_look(task, tuple(model["branches"]))(model, batch))
        found |= {"terms": batch.get("terms", np.zeros((len(rows), 0), np.int32))}
        pieces.append(found)
    every = jax.tree.map(lambda *a: np.concatenate(a)[:num], *pieces)
    terms = every.pop("terms")
    every = {k: jax.tree.map(lambda a: scale * np.float64(a), v) for k, v in every.items()}
    agreement, reasons = _agreement(every, terms)
    parts = every["columns"]
    slots = {"x": [*reading.numbers, *(f"{name} is missing" for name in reading.gaps)]}
    slots["gates"] = list(reading.categories)
    return Explanation(
        explained={
            "logistic": "log-odds of the second class",
            "softmax": "log-odds of the most probable class against the others",
            "ordinal": "score of the ordered classes",
            "squared": "predicted number",
        }[task],
        unit=unit,
        output=every["output"],
        branches=every["branches"],
        by_gradient=every["by_gradient"],
        columns={
            name: parts[key][:, i]
            for key, names in slots.items()
            if key in parts
            for i, name in enumerate(names)
        },
        words=_words(reading, columns, terms, every, top),
        agreement=agreement,
        reasons=reasons,
    )


@functools.cache
def _look(task: Task, branches: tuple[str, ...]) -> Any:
    """A compiled function that takes a model and a batch apart."""
    inputs = {"numbers": ("x", "gates"), "text": ("weights", "vector")}

    def output(model: Any, batch: Any) -> Any:
        out = outputs(model, batch, batch["present"], jnp)
        if task != "softmax":
            return out[:, 0]
        # by the prediction of the whole row: what is taken out must not change the question
        is_chosen = batch["chosen"][:, None] == jnp.arange(out.shape[1])
        others = jax.nn.logsumexp(jnp.where(is_chosen, -jnp.inf, out), axis=1)
        return jnp.where(is_chosen, out, 0.0).sum(1) - others

    @jax.jit
    def look(model: Any, batch: Any) -> Any:
        batch = batch | {"chosen": outputs(model, batch, batch["present"], jnp).argmax(1)}
        names = [name for name in ("x", "gates", "weights", "vector") if name in batch]
        whole = output(model, batch)

        def total(values: dict[str, Any]) -> Any:
            return output(model, batch | values).sum()  # rows do not meet: one gradient for all

        values = {name: batch[name] for name in names}
        moved = {k: g * values[k] for k, g in jax.grad(total)(values).items()}
        found: dict[str, Any] = {"output": whole, "branches": {}, "by_gradient": {}, "zeroed": {}}
        for branch in branches:
            its = [name for name in inputs[branch] if name in values]
            absent = batch["present"].at[:, BRANCHES.index(branch)].set(0)
            found["branches"][branch] = whole - output(model, batch | {"present": absent})
            found["by_gradient"][branch] = sum(moved[name].sum(1) for name in its)
            zeros = {name: jnp.zeros_like(values[name]) for name in its}
            found["zeroed"][branch] = whole - output(model, batch | zeros)
        found["columns"] = {name: moved[name] for name in ("x", "gates") if name in moved}
        if "weights" in values:
            weights = values["weights"]

            def taken_out(slot: Any) -> Any:
                return whole - output(model, batch | {"weights": weights.at[:, slot].set(0)})

            found["without"] = jax.lax.map(taken_out, jnp.arange(weights.shape[1])).T
            found["moved"] = moved["weights"]
        return found

    return look


def _agreement(
    every: dict[str, Any], terms: np.ndarray
) -> tuple[dict[str, float | None], dict[str, str]]:
    pairs = {b: (every["by_gradient"][b], every["zeroed"][b]) for b in every["branches"]}
    if "moved" in every:
        pairs["words"] = (every["moved"][terms > 0], every["without"][terms > 0])
    agreement: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name, (quick, slow) in pairs.items():
        agreement[name] = None
        if len(quick) < FEW:
            reasons[name] = f"{len(quick)} pairs; a correlation needs {FEW}"
        elif not quick.std() or not slow.std():
            reasons[name] = "one of the two is the same everywhere"
        else:
            agreement[name] = float(np.corrcoef(quick, slow)[0, 1])
    return agreement, reasons


def _words(
    reading: Reading, columns: Columns, terms: np.ndarray, every: dict[str, Any], top: int
) -> list[list[Word]]:
    """Each row's words with what they moved, the strongest first."""
    if "moved" not in every or not set(reading.text) <= set(columns):
        return [[] for _ in terms]
    assert reading.words is not None
    found = []
    names = reading.words.names(reading.texts(columns))
    for i, row in enumerate(terms):
        slots = [slot for slot in np.argsort(-np.abs(every["moved"][i])) if row[slot]]
        found.append(
            [
                Word(
                    word=names[i].get(int(row[slot]), "?"),
                    moved=float(every["moved"][i, slot]),
                    without=float(every["without"][i, slot]),
                )
                for slot in slots[:top]
            ]
        )
    return found
