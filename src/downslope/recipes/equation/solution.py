"""A trained solution: values, residuals with intervals, coefficients, a file, a picture."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from downslope import DataError, UsageError
from downslope.estimate import Estimate, t_quantile
from downslope.recipes.equation.geometry import Floats
from downslope.recipes.equation.terms import Row, Terms
from downslope.storage import (
    atomic_folder,
    read_json,
    read_tensors,
    verify,
    write_json,
    write_tensors,
)

MODEL, ABOUT = "model.safetensors", "solution.json"


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A trained solution, called with points.

    Attributes:
        terms: what was trained.
        model: parameters of the net, and coefficients in units of their starting values.
        errors: root mean square of each term's residual, on points of its own. A small residual is
            no small error where the equation is stiff.
        coefficients: estimates of the unknown coefficients, by name.
        losses: half the weighted mean square after each step of least squares; empty where
            coefficients are estimated.
    """

    terms: Terms
    model: Any
    errors: dict[str, Estimate]
    coefficients: dict[str, Estimate]
    losses: tuple[float, ...] = ()

    def __call__(self, points: Any) -> Floats:
        """Values at points [n, d]: [n], or [n, num_outputs]."""
        with jax.enable_x64(True):
            x = self._points(points)
            return np.asarray(jax.jit(jax.vmap(self.terms.solution(self.model)))(x))

    def residual(self, points: Any) -> Floats:
        """Residuals of the equation at points [n, d], [n, k]."""
        with jax.enable_x64(True):
            return np.asarray(self.terms.residuals(self.model, 0, (self._points(points),)))

    def describe(self) -> str:
        """Errors and coefficients, in lines for a person."""
        lines = [
            f"{name:<24} {error}" for name, error in {**self.errors, **self.coefficients}.items()
        ]
        return "\n".join(lines)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save parameters and estimates; the equation itself is code.

        Raises:
            DataError: the folder exists.
        """
        leaves = jax.tree.leaves(self.model)
        with atomic_folder(folder) as scratch:
            tensors = {f"{place:04d}": np.asarray(leaf) for place, leaf in enumerate(leaves)}
            write_tensors(scratch / MODEL, tensors)
            kinds = {"errors": self.errors, "coefficients": self.coefficients}
            about: dict[str, Any] = {
                kind: {n: e.to_json() for n, e in found.items()} for kind, found in kinds.items()
            }
            about |= {"net": self._net, "losses": list(self.losses)}
            write_json(scratch / ABOUT, about)

    def loaded(self, folder: str | os.PathLike[str]) -> Solution:
        """The solution that `save` wrote, of the same equation and net.

        Raises:
            DataError: files are missing or damaged, or of another net.
        """
        verify(folder)
        tensors, about = read_tensors(Path(folder) / MODEL), read_json(Path(folder) / ABOUT)
        leaves, structure = jax.tree.flatten(self.model)
        found = [tensors.get(f"{place:04d}") for place in range(len(leaves))]
        if about["net"] != self._net or len(tensors) != len(leaves):
            raise DataError(
                "was saved of another net", path=folder, remedy="solve with the same one"
            )
        kinds = {
            kind: {name: Estimate.from_json(each) for name, each in about[kind].items()}
            for kind in ("errors", "coefficients")
        }
        model, losses = jax.tree.unflatten(structure, found), tuple(about["losses"])
        return dataclasses.replace(self, model=model, losses=losses, **kinds)

    @property
    def _net(self) -> dict[str, Any]:
        """Net and scales as plain values."""
        values = {"scales": self.terms.scales, **dataclasses.asdict(self.terms.net)}
        return json.loads(json.dumps(values))

    def _points(self, points: Any) -> Floats:
        x, dim = np.asarray(points, np.float64), len(self.terms.net.low)
        if x.ndim != 2 or x.shape[1] != dim:
            raise UsageError(f"points must be [n, {dim}]; got {list(x.shape)}")
        return x

    def plot(self, ax: Any = None, num_points: int = 201) -> Any:
        """Values along a line or over a plane, as Matplotlib axes.

        Raises:
            UsageError: more than two coordinates, or several outputs over a plane.
        """
        net = self.terms.net
        if len(net.low) > 2 or (len(net.low) == 2 and net.num_outputs > 1):
            raise UsageError("a plot needs a line, or one output over a plane")
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.figure().add_subplot()
        lines = [np.linspace(a, b, num_points) for a, b in zip(net.low, net.high, strict=True)]
        if len(lines) == 1:
            ax.plot(lines[0], self(lines[0][:, None]))
            return ax
        x, y = np.meshgrid(*lines)
        values = self(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)
        ax.figure.colorbar(ax.pcolormesh(x, y, values, shading="auto"), ax=ax)
        return ax


def term_errors(terms: Terms, model: Any, rows: tuple[Row, ...]) -> dict[str, Estimate]:
    """Root mean square of each term's residual, with the interval of its rows."""
    found = {}
    for place, (term, each) in enumerate(zip(terms.terms, rows, strict=True)):
        squares = np.square(np.asarray(terms.residuals(model, place, each)))
        if term.name == "data":  # what was not measured has none
            known = np.isfinite(each[1]).sum(axis=1)
            squares = squares[known > 0].sum(axis=1) / known[known > 0]
        else:
            squares = squares.mean(axis=1)
        mean, count = float(squares.mean()), len(squares)
        half = (
            t_quantile(count - 1) * float(squares.std(ddof=1)) / math.sqrt(count)
            if count > 1
            else None
        )
        ends = (None, None) if half is None else (max(0.0, mean - half), mean + half)
        lo, hi = (None if end is None else math.sqrt(end) for end in ends)
        found[term.name] = Estimate(
            value=math.sqrt(mean),
            lo=lo,
            hi=hi,
            unit="",
            num_examples=count,
            method="evenly spread points",
        )
    return found
