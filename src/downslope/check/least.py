"""The work of solving: the Hessian and its factor, or conjugate gradients, and refinements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.check.certificate import Certificate, with_bound, with_factor
from downslope.check.conjugate import conjugate_gradients
from downslope.check.factor import Factor, take_apart
from downslope.check.passes import Passes
from downslope.check.precision import flatten
from downslope.noise.statistics.ranges import Floats
from downslope.objective import Objective, Params

AT_ONCE = 1e-10  # of the way down from the start: enough where the loss itself ends at 0
REFINED = 1e-12  # of the loss: about what rounding float32 parameters leaves
REFINEMENTS = 6
RESTARTS = 12  # of conjugate gradients
# Condition of the scaled Hessian up to which one in float32 serves: each refinement then
# shrinks the error by about this times 4e-7.
FLOAT32_CONDITION = 1e4
NOISE = {"float32": 4e-7, "float64": 8e-16}  # of an entry of the Hessian: a few roundings
UNBOUNDED = 1e-4  # of the gradient, along directions without curvature


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where the work ended, in flat vectors; the fields are those of `Solution`."""

    x: Floats
    loss: float
    certificate: Certificate | None
    start_gap: float
    lambda_min: float
    lambda_max: float
    num_flat: int | None
    method: str
    precision: str
    num_products: int
    norm: float
    reason: str | None = None


class Work:
    """One solution in the making; used inside `wide`.

    Attributes:
        start: the parameters given, flat.
        exact: precision of gradients.
    """

    def __init__(
        self, objective: Objective, params: Params, source: Any, regularizer: Any,
        part_rows: int | None, tolerance: float, deadline: float = math.inf,
    ):  # fmt: skip
        self.params, self.tolerance = params, tolerance
        self.start, self.unravel = flatten(params, np.float64)

        def passes(dtype: Any) -> Passes:
            _, unravel = flatten(params, dtype)
            size = self.start.size
            return Passes(objective, unravel, size, source, regularizer, dtype, part_rows, deadline)

        self._passes: dict[str, Passes] = {}
        self._make = passes
        try:
            exact = passes(np.float64)
            if exact.precision == np.float64:
                self._passes["float64"] = exact
        except (TypeError, ValueError):
            pass  # made for 32 bits: float32 has to do
        self.exact = "float64" if "float64" in self._passes else "float32"

    def at(self, precision: str) -> Passes:
        """The passes at this precision, made when first needed."""
        if precision not in self._passes:
            self._passes[precision] = self._make(np.dtype(precision))
        return self._passes[precision]

    def rounded(self, x: Floats) -> Floats:
        """The point as the parameters' own types can hold it."""
        held = jax.tree.map(lambda p, q: np.asarray(p, q.dtype), self.unravel(x), self.params)
        return flatten(held, np.float64)[0]

    def dense(self) -> Outcome:
        """By the whole Hessian."""
        x, directions, products = self.start, np.eye(self.start.size), 0
        for precision in ("float32", "float64"):
            if precision == "float64" and self.exact != precision:
                break
            loss, gradient, hessian = self.at(precision).products(x, directions)
            products += len(directions)
            if not (np.isfinite(gradient).all() and np.isfinite(hessian).all()):
                return self._failed(gradient, loss, products, precision, "it is not finite")
            noise, used = NOISE[precision], precision
            factor = take_apart(hessian, noise)
            if factor.method == "cholesky" and factor.condition <= FLOAT32_CONDITION:
                break
        return self._refine(factor, noise, used, loss, gradient, products)

    def _refine(
        self, factor: Factor, noise: float, used: str, loss: float, gradient: Floats, products: int
    ) -> Outcome:
        def certify(gradient: Floats, loss: float, precision: str) -> Certificate:
            epsilon = float(jnp.finfo(precision).eps)
            return with_factor(factor, gradient, noise=noise, epsilon=epsilon, loss=loss)

        first = certify(gradient, loss, used)
        reason = None if factor.is_convex else "it curves downward along some direction"
        best, x = (first, self.start, loss, gradient), self.start
        for turn in range(REFINEMENTS if reason is None else 0):
            x = self.rounded(factor.nearest(x - factor.solve(gradient)))
            loss, gradient = self.at(self.exact).gradient(x)
            if not np.isfinite(gradient).all():
                break
            found = certify(gradient, loss, self.exact)
            better = turn == 0 or found.gap < best[0].gap
            shrunk = found.gap < best[0].gap / 4
            best = (found, x, loss, gradient) if better else best
            refined = found.gap <= REFINED * max(abs(loss), first.gap / 100)
            if refined or (turn and not shrunk):
                break
        certificate, x, loss, gradient = best
        flat = factor.null.T @ gradient if factor.null.size else np.zeros(1)
        scale = factor.lambda_max * max(1.0, float(np.linalg.norm(x)))
        if reason is None and np.linalg.norm(flat) > UNBOUNDED * min(
            scale, max(float(np.linalg.norm(gradient)), 1e-12 * scale)
        ):
            reason = "it falls for ever along a direction without curvature"
        return Outcome(
            x=x, loss=loss, certificate=certificate if reason is None else None,
            start_gap=first.gap, lambda_min=factor.lambda_min, lambda_max=factor.lambda_max,
            num_flat=factor.null.shape[1], method=factor.method, precision=used,
            num_products=products, norm=certificate.gradient_norm, reason=reason,
        )  # fmt: skip

    def iterate(self, max_products: int) -> Outcome:
        """By conjugate gradients, begun anew where rounding has led the residual astray."""
        precision = "float32" if self.exact == "float64" else self.exact
        x, spent, least, most, reason = self.start, 0, math.inf, 0.0, None
        loss, gradient = self.at(self.exact).gradient(x)
        start_gap, convex = 0.0, True
        for _ in range(RESTARTS):
            floor = 1e-12 * float(np.linalg.norm(gradient))
            found = conjugate_gradients(
                lambda v, x=x: self.at(precision).products(x, v[None])[2][0],
                gradient,
                gap=self.tolerance * abs(loss) / 20,
                max_products=max_products - spent,
                floor=floor,
                least=least,
            )
            spent += found.num_products
            convex = convex and found.is_convex
            least, most = min(least, found.lambda_min or least), max(most, found.lambda_max)
            start_gap = start_gap or found.decrease
            x = self.rounded(x + found.move)
            loss, gradient = self.at(self.exact).gradient(x)
            if not np.isfinite(gradient).all():
                return self._failed(gradient, loss, spent, precision, "it is not finite")
            certificate = with_bound(gradient, least if math.isfinite(least) else 0.0)
            if (
                not convex
                or spent >= max_products
                or self.fits(certificate.gap, loss, start_gap, self.tolerance / 2)
            ):
                break
        if not convex:
            reason = "along some direction it does not curve upward"
        return Outcome(
            x=x, loss=loss, certificate=certificate if reason is None else None,
            start_gap=start_gap, lambda_min=least if math.isfinite(least) else 0.0,
            lambda_max=most, num_flat=None, method="conjugate gradients", precision=precision,
            num_products=spent, norm=certificate.gradient_norm, reason=reason,
        )  # fmt: skip

    def _failed(
        self, gradient: Floats, loss: float, products: int, precision: str, reason: str
    ) -> Outcome:
        return Outcome(
            x=self.start, loss=loss, certificate=None, start_gap=0.0, lambda_min=0.0,
            lambda_max=0.0, num_flat=None, method="none", precision=precision,
            num_products=products, norm=float(np.linalg.norm(gradient)), reason=reason,
        )  # fmt: skip

    def num_passes(self) -> int:
        """Passes over the data, at both precisions."""
        return sum(passes.num_passes for passes in self._passes.values())

    def fits(self, gap: float, loss: float, start_gap: float, share: float) -> bool:
        """Whether the gap is small beside the loss, or beside the way down from the start."""
        return gap <= max(share * abs(loss), AT_ONCE * start_gap)
