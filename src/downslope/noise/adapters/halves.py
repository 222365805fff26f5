"""Gradient noise of any training loop, from the gradients of two halves of its batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from downslope.arguments import number, whole
from downslope.errors import UsageError
from downslope.noise.scale.steps import Noise, from_halves


class HalfBatches:
    """Noise scale from the gradients of two half batches, collected step by step.

    A step costs one dot product and one distance; only these two numbers are kept. Gradients may
    come from PyTorch, NumPy or anything that NumPy reads. Both halves of a step must be taken at
    the same parameters. `examples/torch_noise.py` is a whole PyTorch loop.

    Args:
        interacting: examples of a batch act on each other's gradients (batch normalisation in
            training mode, contrastive losses): the unit of noise is then the batch.

    Example:
        >>> rng = np.random.default_rng(0)  # |G|^2 = 4, tr Sigma = 100: B_simple = 25
        >>> halves = HalfBatches()
        >>> for _ in range(50):
        ...     g1, g2 = 0.2 + rng.normal(size=(2, 100)) / 8**0.5
        ...     halves.add({"w": g1[:90], "b": g1[90:]}, {"w": g2[:90], "b": g2[90:]}, 8, 8)
        >>> print(halves.noise().scale)
        24.1 (21.5 to 27.4) examples
    """

    def __init__(self, *, interacting: bool = False):
        self.interacting = interacting
        self._terms: list[tuple[float, float, float, float]] = []

    def add(self, first: Any, second: Any, size_first: float, size_second: float) -> None:
        """Add one step: the mean gradients of its two halves and their numbers of examples.

        Args:
            first, second: an array, or arrays in dictionaries, lists and iterators, in the same
                order in both; None stands for a parameter without gradient and is left out.
            size_first, size_second: examples behind each, above 0.

        Raises:
            UsageError: halves that do not match, a size that is not above 0.
        """
        for name, size in (("size_first", size_first), ("size_second", size_second)):
            number(name, size, above=0)
        dot = distance = 0.0
        one, two = dict(_leaves(first)), dict(_leaves(second))
        if one.keys() != two.keys():
            name = sorted(one.keys() ^ two.keys())[0]
            raise UsageError(f"first, second must hold the same arrays; got {name!r} in one alone")
        if not one:
            raise UsageError("first, second must hold at least one array; got none")
        for name, a in one.items():
            b = two[name]
            if a.shape != b.shape:
                raise UsageError(
                    f"first, second must have the same shapes; got {name!r} of {a.shape}, {b.shape}"
                )
            with np.errstate(over="ignore", invalid="ignore"):  # not finite: reported by `noise`
                dot += float(np.vdot(a, b))
                gap = (a - b).ravel()
                distance += float(gap @ gap)
        self._terms.append((dot, distance, float(size_first), float(size_second)))

    def noise(self, last: int | None = None) -> Noise:
        """Noise over all steps so far, or over the `last` ones.

        Raises:
            UsageError: last below 1.
        """
        whole("last", last, optional=True)
        terms = self._terms if last is None else self._terms[-last:]
        columns = np.array(terms, dtype=np.float64).reshape(-1, 4).T
        return from_halves(*columns, interacting=self.interacting)


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Path and float64 array of every leaf that is not None."""
    if tree is None:
        return
    if isinstance(tree, Mapping):
        for key, branch in tree.items():
            yield from _leaves(branch, f"{path}[{key!r}]")
    elif hasattr(tree, "detach"):  # PyTorch; bfloat16 has no NumPy type of its own
        yield path, tree.detach().cpu().double().numpy()
    elif hasattr(tree, "__array__") or isinstance(tree, (int, float)):
        yield path, np.asarray(tree, dtype=np.float64)
    elif isinstance(tree, Iterable) and not isinstance(tree, (str, bytes)):
        for index, branch in enumerate(tree):
            yield from _leaves(branch, f"{path}[{index}]")
    else:
        raise UsageError(
            f"gradients must be arrays or collections of them; got {type(tree).__name__}"
        )
