"""Text that every Python ships: characters for transformers, words for an embedding.

The text is that of the modules at the top of the standard library, so its size differs a little
between versions of Python.
"""

from __future__ import annotations

import functools
import math
import re
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.selftuning.workloads.draws import Draws, ones
from benchmarks.selftuning.workloads.workload import Workload, random_parts
from downslope.losses import logistic, softmax

CONTEXT = 64  # characters
HEAD = 32  # width of an attention head
VALIDATION_CONTEXTS, TEST_CONTEXTS = 2000, 300  # the test is read some twenty times a run

VOCABULARY = 6000  # most frequent words
WINDOW = 4  # words to either side
NEGATIVES = 8  # drawn words per pair
WIDTH = 64  # of a word's vector
SHARE_OF_PAIRS = 0.25  # of all pairs of words, drawn once
FLATTENING = 0.75  # power of the frequencies that negatives are drawn with (Mikolov et al. 2013)


@functools.cache
def library_text() -> str:
    """ASCII text of the standard library's top modules."""
    root = Path(sysconfig.get_paths()["stdlib"])
    text = "".join(p.read_text(errors="ignore") for p in sorted(root.glob("*.py")))
    return text.encode("ascii", "ignore").decode("ascii")


def characters(*, width: int, layers: int, name: str, horizon_seconds: float) -> Workload:
    """Decoder-only transformer that predicts the next character.

    An example is a context of 64 characters; its loss is the mean over them, in nats.
    """
    raw = np.frombuffer(library_text().encode("ascii"), np.uint8)
    kept, ids = np.unique(raw, return_inverse=True)
    count = len(ids) // (CONTEXT + 1)
    contexts = ids[: count * (CONTEXT + 1)].reshape(count, CONTEXT + 1).astype(np.int32)
    parts = random_parts(contexts, VALIDATION_CONTEXTS / count, TEST_CONTEXTS / count)
    return Workload(
        name=name,
        kind="attention",
        loss=next_character,
        model=lambda seed: transformer(len(kept), width, layers, seed),
        **vars(parts),
        horizon_seconds=horizon_seconds,
    )


def transformer(vocabulary: int, width: int, layers: int, seed: int) -> dict[str, Any]:
    """Initial weights; those that end a branch are smaller, by the number of branches."""
    draws, quiet = Draws(seed), (2 * layers) ** -0.5

    def layer() -> dict[str, np.ndarray]:
        return {
            "scale_attention": ones(width),
            "qkv": draws.dense(width, 3 * width),
            "out": draws.dense(width, width, quiet),
            "scale_mlp": ones(width),
            "up": draws.dense(width, 4 * width),
            "down": draws.dense(4 * width, width, quiet),
        }

    return {
        "characters": draws.normal(vocabulary, width, scale=0.02),
        "places": draws.normal(CONTEXT, width, scale=0.02),
        "layers": [layer() for _ in range(layers)],
        "scale": ones(width),
        "logits": draws.dense(width, vocabulary),
    }


def next_character(model: Any, batch: Any, key: Any) -> Any:
    """Mean cross-entropy of the characters of each context."""
    x, y = batch[:, :-1], batch[:, 1:]
    h = model["characters"][x] + model["places"]
    for layer in model["layers"]:
        h = h + attention(layer, root_mean_square(h, layer["scale_attention"]))
        inner = jax.nn.gelu(root_mean_square(h, layer["scale_mlp"]) @ layer["up"])
        h = h + inner @ layer["down"]
    logits = root_mean_square(h, model["scale"]) @ model["logits"]
    return softmax(logits.reshape(-1, logits.shape[-1]), y.reshape(-1)).reshape(y.shape).mean(-1)


def attention(layer: Any, x: Any) -> Any:
    """Causal attention in heads of 32."""
    batch, length, width = x.shape
    q, k, v = (
        part.reshape(batch, length, width // HEAD, HEAD)
        for part in jnp.split(x @ layer["qkv"], 3, axis=-1)
    )
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(HEAD)
    seen = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e9), axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights, v).reshape(x.shape) @ layer["out"]


def root_mean_square(x: Any, scale: Any) -> Any:
    """Each vector over its root mean square, times a learned scale."""
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def words() -> Workload:
    """Skip-gram with negative sampling on words of the standard library's text.

    An example is a pair of a word and one near it; its negatives are drawn with the key.
    """
    found = re.findall(r"[a-z]+", library_text().lower())
    frequent = Counter(found).most_common(VOCABULARY)
    number = {word: i for i, (word, _) in enumerate(frequent)}
    ids = np.array([number[word] for word in found if word in number], np.int32)
    pairs = np.concatenate(
        [np.column_stack([ids[apart:], ids[:-apart]]) for apart in range(1, WINDOW + 1)]
    )
    count = round(SHARE_OF_PAIRS * len(pairs))
    pairs = pairs[np.random.default_rng(0).permutation(len(pairs))[:count]]
    parts = random_parts((pairs[:, 0].copy(), pairs[:, 1].copy()), 0.05, 0.05)
    weights = np.array([times for _, times in frequent], float) ** FLATTENING
    return Workload(
        name="words",
        kind="embedding",
        loss=skip_gram(np.cumsum(weights / weights.sum()).astype(np.float32)),
        model=word_vectors,
        **vars(parts),
        horizon_seconds=15,
    )


def word_vectors(seed: int) -> dict[str, np.ndarray]:
    """Initial vectors of words and of their contexts."""
    draws = Draws(seed)
    return {
        "words": draws.normal(VOCABULARY, WIDTH, scale=WIDTH**-0.5),
        "contexts": draws.normal(VOCABULARY, WIDTH, scale=0.1 * WIDTH**-0.5),
    }


def skip_gram(cumulative: np.ndarray) -> Any:
    """Loss: a logistic one of the pair and of each negative, summed.

    Args:
        cumulative: distribution of negatives over the words, up to and including each.
    """

    def loss(model: Any, batch: Any, key: Any) -> Any:
        word, near = batch
        drawn = jax.random.uniform(key, (len(word), NEGATIVES))
        others = jnp.minimum(jnp.searchsorted(jnp.asarray(cumulative), drawn), VOCABULARY - 1)
        vector = model["words"][word]
        pair = (vector * model["contexts"][near]).sum(-1)
        apart = jnp.einsum("bd,bnd->bn", vector, model["contexts"][others])
        return logistic(pair, jnp.ones_like(pair)) + logistic(apart, jnp.zeros_like(apart)).sum(-1)

    return loss
