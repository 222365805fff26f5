"""Images: a convolutional net with augmentation, and a mixer of patches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.selftuning.workloads.draws import Draws, ones, zeros
from benchmarks.selftuning.workloads.workload import Workload, random_parts
from benchmarks.trials import digits, mnist
from downslope.losses import softmax

SIDE, CLASSES = 28, 10
SHIFT = 2  # pixels to each side
TURN, STRETCH = 0.2, 0.1  # radians, share of the side: largest of either sign

PATCH = 2  # pixels
TOKENS, PIXELS = (8 // PATCH) ** 2, PATCH**2
WIDTH, BLOCKS = 48, 3


def mnist_cnn() -> Workload:
    """Convolutional net on 5,000 images of handwritten digits, each seen shifted and turned."""
    x, y = mnist()
    parts = random_parts((x.reshape(-1, SIDE, SIDE), y), 0.15, 0.15)
    return Workload(
        name="mnist cnn",
        kind="convolutions",
        loss=augmented,
        model=convolutional,
        **vars(parts),
        test_loss=classified,
        horizon_seconds=30,
    )


def convolutional(seed: int) -> dict[str, Any]:
    """Two convolutions, each followed by pooling, and two dense layers."""
    draws = Draws(seed)

    def convolution(inputs: int, outputs: int) -> dict[str, np.ndarray]:
        weights = draws.normal(3, 3, inputs, outputs, scale=(2 / (9 * inputs)) ** 0.5)
        return {"weights": weights, "bias": zeros(outputs)}

    def dense(inputs: int, outputs: int) -> dict[str, np.ndarray]:
        return {"weights": draws.dense(inputs, outputs, 2**0.5), "bias": zeros(outputs)}

    flat = (SIDE // 4) ** 2 * 32
    return {
        "convolutions": [convolution(1, 16), convolution(16, 32)],
        "dense": [dense(flat, 64), dense(64, CLASSES)],
    }


def classified(model: Any, batch: Any, key: Any) -> Any:
    """Cross-entropy of the images as they are."""
    images, labels = batch
    h = images[..., None]
    for layer in model["convolutions"]:
        h = jax.nn.relu(convolved(h, layer["weights"]) + layer["bias"])
        halved = h.reshape(len(h), h.shape[1] // 2, 2, h.shape[2] // 2, 2, h.shape[3])
        h = halved.max(axis=(2, 4))
    h = h.reshape(len(h), -1)
    hidden, last = model["dense"]
    h = jax.nn.relu(h @ hidden["weights"] + hidden["bias"])
    return softmax(h @ last["weights"] + last["bias"], labels)


def convolved(images: Any, weights: Any) -> Any:
    """Convolution [n, h, w, in] with [3, 3, in, out], as a product of matrices.

    XLA's own convolution on a CPU takes ten times as long inside a loop (measured).
    """
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1) @ weights.reshape(-1, weights.shape[-1])


def augmented(model: Any, batch: Any, key: Any) -> Any:
    """Cross-entropy of the images, each shifted, turned and stretched at random."""
    images, labels = batch
    keys = jax.random.split(key, len(images))
    return classified(model, (jax.vmap(distorted)(images, keys), labels), key)


def distorted(image: Any, key: Any) -> Any:
    """Image [28, 28], shifted, turned and stretched at random, interpolated linearly."""
    draw = jax.random.uniform(key, (4,), minval=-1, maxval=1)
    turn, stretch, shift = TURN * draw[0], 1 + STRETCH * draw[1], SHIFT * draw[2:]
    middle = (SIDE - 1) / 2
    at = jnp.arange(SIDE) - middle
    row, column = jnp.meshgrid(at, at, indexing="ij")
    sine, cosine = jnp.sin(turn), jnp.cos(turn)
    places = [
        stretch * (cosine * row - sine * column) + middle + shift[0],
        stretch * (sine * row + cosine * column) + middle + shift[1],
    ]
    return jax.scipy.ndimage.map_coordinates(image, places, order=1)


def digits_mixer() -> Workload:
    """Mixer of patches (Tolstikhin et al. 2021) on scikit-learn's 8 by 8 digits."""
    x, y = digits()
    patches = x.reshape(-1, 8 // PATCH, PATCH, 8 // PATCH, PATCH).transpose(0, 1, 3, 2, 4)
    parts = random_parts((patches.reshape(-1, TOKENS, PIXELS).copy(), y), 0.2, 0.2)
    return Workload(
        name="digits mixer",
        kind="convolutions",
        loss=mixed,
        model=mixer,
        **vars(parts),
        horizon_seconds=15,
    )


def mixer(seed: int) -> dict[str, Any]:
    """Initial weights of a mixer of three blocks."""
    draws, quiet = Draws(seed), (2 * BLOCKS) ** -0.5

    def block() -> dict[str, np.ndarray]:
        return {
            "scale_tokens": ones(WIDTH),
            "tokens_up": draws.dense(TOKENS, 2 * TOKENS),
            "tokens_down": draws.dense(2 * TOKENS, TOKENS, quiet),
            "scale_channels": ones(WIDTH),
            "channels_up": draws.dense(WIDTH, 2 * WIDTH),
            "channels_down": draws.dense(2 * WIDTH, WIDTH, quiet),
        }

    return {
        "patches": draws.dense(PIXELS, WIDTH),
        "places": draws.normal(TOKENS, WIDTH, scale=0.02),
        "blocks": [block() for _ in range(BLOCKS)],
        "logits": draws.dense(WIDTH, CLASSES),
        "bias": zeros(CLASSES),
    }


def mixed(model: Any, batch: Any, key: Any) -> Any:
    """Cross-entropy of the patches, mixed over places and over channels in turn."""
    patches, labels = batch
    h = patches @ model["patches"] + model["places"]
    for block in model["blocks"]:
        across = (standardised(h) * block["scale_tokens"]).swapaxes(1, 2)
        inner = jax.nn.gelu(across @ block["tokens_up"])
        h = h + (inner @ block["tokens_down"]).swapaxes(1, 2)
        inner = jax.nn.gelu(standardised(h) * block["scale_channels"] @ block["channels_up"])
        h = h + inner @ block["channels_down"]
    return softmax(standardised(h).mean(axis=1) @ model["logits"] + model["bias"], labels)


def standardised(x: Any) -> Any:
    """Each vector minus its mean, over its deviation."""
    return jax.nn.standardize(x, axis=-1)
