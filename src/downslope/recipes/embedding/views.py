"""How several views of one unlabelled row are made: functions `view(key, rows) -> rows`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from downslope import UsageError
from downslope.arguments import whole

View = Callable[[Array, Array], Array]
NOISE, SHARE, PIXELS = 0.5, 0.3, 2  # of "noise", "mask" and "shift"; assumed
NAMES = ("noise", "mask", "shift")


def noise(size: Any = NOISE) -> View:
    """Views with normal noise added.

    Args:
        size: standard deviation, a number or one a column, in the columns' units.

    Example:
        >>> view = noise(0.0)
        >>> view(jax.random.key(0), jnp.ones((1, 2))).tolist()
        [[1.0, 1.0]]
    """
    size = _number("size", size, 0.0, math.inf)
    return lambda key, rows: rows + size * jax.random.normal(key, rows.shape, rows.dtype)


def mask(share: float = SHARE, fill: Any = 0.0) -> View:
    """Views in which a share of the columns is hidden, others in every view.

    Args:
        share: of the columns, 0 to 1.
        fill: what stands in a hidden column, a number or one a column.

    Example:
        >>> hidden = mask(0.25)(jax.random.key(0), jnp.ones((400, 100))) == 0
        >>> round(float(hidden.mean()), 2)
        0.25
    """
    share, fill = _number("share", share, 0.0, 1.0), np.float32(fill)

    def view(key: Array, rows: Array) -> Array:
        hidden = jax.random.bernoulli(key, share, rows.shape)
        return jnp.where(hidden, jnp.asarray(fill, rows.dtype), rows)

    return view


def shift(pixels: int = PIXELS, shape: tuple[int, ...] | None = None, fill: float = 0.0) -> View:
    """Views of images moved by up to so many pixels, up or down and sideways.

    Args:
        pixels: largest shift, 0 or more.
        shape: (height, width) or (height, width, channels) of a row's image; None for square
            images of one channel.
        fill: what comes in at the edge.

    Example:
        >>> row = jnp.arange(9.0)[None]
        >>> shift(1)(jax.random.key(0), row).shape
        (1, 9)
    """
    whole("pixels", pixels, least=0)

    def view(key: Array, rows: Array) -> Array:
        height, width, channels = _image(rows.shape[1], shape)
        images = rows.reshape(len(rows), height, width, channels)
        edge = (pixels, pixels)
        images = jnp.pad(images, ((0, 0), edge, edge, (0, 0)), constant_values=fill)
        places = jax.random.randint(key, (len(rows), 2), 0, 2 * pixels + 1)

        def cut(image: Array, place: Array) -> Array:
            return lax.dynamic_slice(image, (place[0], place[1], 0), (height, width, channels))

        moved: Any = jax.vmap(cut)(images, places)
        return moved.reshape(rows.shape)

    return view


def view_of(views: Any, rows: np.ndarray) -> View:
    """The function that `views` names, with scales and means of these rows' columns; or itself.

    Raises:
        UsageError: an unknown name, or rows that are no square images for "shift".
    """
    if callable(views):
        return cast(View, views)
    if views == "noise":
        return noise(NOISE * rows.std(0))
    if views == "mask":
        return mask(SHARE, rows.mean(0))
    if views == "shift":
        _image(rows.shape[1], None)
        return shift()
    raise UsageError(f"views must be one of {', '.join(NAMES)}, or a function; got {views!r}")


def _image(columns: int, shape: tuple[int, ...] | None) -> tuple[int, int, int]:
    side = math.isqrt(columns)
    found = shape or (side, side)
    if math.prod(found) != columns:
        given = f"shape {shape}" if shape else "no shape, which is for square images"
        raise UsageError(f"shift needs images of as many pixels as columns, {columns}; got {given}")
    return found[0], found[1], found[2] if len(found) > 2 else 1


def _number(name: str, value: Any, low: float, high: float) -> Any:
    found = np.float32(value)
    if not (np.all(found >= low) and np.all(found <= high) and np.isfinite(found).all()):
        most = "" if high == math.inf else f" and {high:g} or less"
        raise UsageError(f"{name} must be {low:g} or more{most}; got {value!r}")
    return found
