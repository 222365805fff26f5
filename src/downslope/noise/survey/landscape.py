"""Gradient noise against the loss surface: subjects that need Hessian products."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from downslope.estimate import Estimate, not_estimable
from downslope.noise.covariance import (
    in_words,
    input_alignment,
    noise_profile,
    sharpness_ratio,
    top_eigenpairs,
    trace_of_square,
)
from downslope.noise.curvature import (
    condition_number,
    directional_curvatures,
    extreme_eigenvalues,
    necessary_limit,
    preconditioned,
    stability_ratio,
)
from downslope.noise.escape import saddle_escape
from downslope.noise.scale import from_examples
from downslope.noise.survey.point import NUM_DIRECTIONS, PRODUCT_ROWS, Extras, Point
from downslope.noise.survey.record import NotMeasured, Section
from downslope.noise.temperature.dynamics import PRECONDITIONED, effective_rate

COVARIANCE = "Noise and curvature"


def curvature(point: Point, extras: Extras) -> Section:
    """Extreme curvatures, and the learning rates that they allow."""
    settings, spectrum = point.settings, point.spectrum
    records = {
        "lambda_max": spectrum.lambda_max,
        "lambda_min": spectrum.lambda_min,
        "hessian_trace": point.hessian_trace,
    }
    sentences = []
    if spectrum.lambda_max.is_bounded:
        num = spectrum.num_products
        sentences.append(f"largest curvature {spectrum.lambda_max}, from {num} Hessian products")
    stability, sentence = _stability(point, extras)
    records |= stability
    sentences += [sentence] if sentence else []
    if not settings.interacts and len(spectrum.eigenvectors):
        along = directional_curvatures(
            point.losses, point.params, point.rows, spectrum.eigenvectors[:3]
        )
        limit = necessary_limit(along, **settings.draws)
        records["mean_square_limit"] = limit
        if limit.is_measured:
            sentences.append(
                f"with plain SGD and batches of {settings.batch_size:,} the mean square of the "
                f"error grows at learning rates above {limit}: rare large excursions, not steady "
                "divergence"
            )
    if extras.inputs is not None:
        condition = condition_number(extras.inputs)
        records["input_condition_number"] = condition.before
        records["input_condition_number_standardised"] = condition.after
    tables = {"eigenvalues": spectrum.eigenvalues, "residuals": spectrum.residuals}
    return Section(title="Curvature", sentences=tuple(sentences), records=records, tables=tables)


def _stability(point: Point, extras: Extras) -> tuple[dict[str, Estimate], str | None]:
    """The learning rate against the largest stable one, with the optimizer's preconditioner."""
    settings, rate = point.settings, point.settings.learning_rate
    sharpest, dynamics, records = point.spectrum.lambda_max, settings.dynamics, {}
    reason = None
    if extras.preconditioner is not None:
        divisor = np.asarray(extras.preconditioner, np.float64)
        if (divisor > 0).all():  # NaN fails too
            product = preconditioned(point.matvec, divisor)
            found = extreme_eigenvalues(product, point.dim, unit="1", key=settings.seed)
            records["preconditioned_lambda_max"] = sharpest = found.lambda_max
            beta = extras.decays.get("b1", 0.0)
            dynamics = {"momentum": beta, "momentum_kind": "ema"} if beta else {}
        else:
            reason = "the state of the optimizer is not finite, or it has not moved yet"
    elif not settings.is_plain:
        reason = f"the preconditioner of {settings.optimizer} is not known"
    if rate is None:
        reason = reason or "the learning rate is not known"
    if reason or rate is None:
        return {**records, "stability_ratio": not_estimable(str(reason), unit="")}, None
    found = stability_ratio(sharpest, rate, losses=extras.losses, **dynamics)
    records["stability_ratio"] = found.ratio
    records["largest_stable_learning_rate"] = found.largest_stable_rate
    if not found.ratio.is_bounded:
        return records, None
    if not found.largest_stable_rate.is_bounded:
        return records, f"no limit on the learning rate: {found.largest_stable_rate.reason}"
    edge = "; at the edge of stability, where full-batch training stays" if found.at_edge else ""
    return records, (
        f"the learning rate is {found.ratio} times the largest stable one; the error along the "
        f"sharpest direction {found.regime}{edge}"
    )


def covariance(point: Point, extras: Extras) -> Section:
    """Noise covariance and its alignment with the Hessian."""
    g, settings, spectrum = point.gradients, point.settings, point.spectrum
    size = settings.batch_size if settings.interacts else 1
    top = top_eigenpairs(g, NUM_DIRECTIONS, batch_size=size)
    ratio = sharpness_ratio(g[:PRODUCT_ROWS], point.matvec, point.hessian_trace)
    records = {
        "effective_rank": top.effective_rank,
        "trace_of_square": trace_of_square(g, batch_size=size),
        "sharpness_ratio": ratio,
    }
    records |= {f"eigenvalue {k + 1}": value for k, value in enumerate(top.eigenvalues[:3])}
    if top.eigenvalues:
        records["eigenvalue 1"] = top.eigenvalues[0].flagged(*top.flags)
    if not len(spectrum.eigenvectors):
        return Section(title=COVARIANCE, sentences=(in_words(ratio),), records=records)
    directions, curvatures = _directions(point)
    profile = noise_profile(g, curvatures, directions, num_sharp=len(spectrum.eigenvectors))
    records["sharp_over_flat"] = profile.sharp_over_flat
    tables: dict[str, Any] = {"curvatures": profile.curvatures, "variances": profile.variances}
    if extras.inputs is not None and not settings.interacts:
        tables |= _input_cosines(point, np.asarray(extras.inputs, np.float64))
    words = in_words(ratio, profile.sharp_over_flat, profile.num_sharp)
    return Section(title=COVARIANCE, sentences=(words,), records=records, tables=tables)


def _directions(point: Point) -> tuple[np.ndarray, np.ndarray]:
    """Sharp eigenvectors and random directions orthogonal to them, [k, d], with curvatures [k]."""
    sharp = np.asarray(point.spectrum.eigenvectors, np.float64)
    count = min(NUM_DIRECTIONS, point.dim - len(sharp))
    draw = np.random.default_rng(point.settings.seed)
    bulk = draw.standard_normal((count, point.dim))
    bulk -= bulk @ sharp.T @ sharp
    bulk = np.linalg.qr(bulk.T)[0].T if count else bulk
    bends = np.einsum("kd,kd->k", bulk, point.products(bulk)) if count else np.zeros(0)
    return np.concatenate([sharp, bulk]), np.concatenate([point.spectrum.eigenvalues, bends])


def _input_cosines(point: Point, inputs: np.ndarray) -> dict[str, Any]:
    """First-layer noise against the inputs' principal components, where there is such a layer."""
    g, width = point.gradients, inputs.shape[1]
    if len(inputs) != point.num_rows:
        return {}
    leaves = jax.tree.leaves(point.params)
    for leaf, (name, part) in zip(leaves, point.group_slices().items(), strict=True):
        shape = np.shape(leaf)
        if len(shape) in (1, 2) and shape[0] == width:  # the first of the weights [inputs, outputs]
            weights = g[:, part].reshape(len(g), *shape)
            found = input_alignment(weights, inputs[: len(g)])
            return {"input_alignment_layer": name, "input_cosines": found}
    return {}


def escape(point: Point, extras: Extras) -> Section:
    """Verdict on the point as a saddle, and the steps that SGD takes to leave it."""
    g, settings = point.gradients, point.settings
    if settings.learning_rate is None:
        raise NotMeasured("the learning rate is not known")
    if not settings.is_plain:
        raise NotMeasured(f"{settings.optimizer}: {PRECONDITIONED}")
    lowest = extreme_eigenvalues(
        lambda v: -np.asarray(point.matvec(v)), point.dim, key=settings.seed
    )
    if not len(lowest.eigenvectors):
        raise NotMeasured(str(lowest.lambda_max))
    found = saddle_escape(
        point.spectrum.lambda_min,
        _variance(g, lowest.eigenvectors[0]),
        learning_rate=effective_rate(settings.learning_rate, **settings.dynamics),
        distance=1.0,
        gradient_square=from_examples(g).signal,
        **settings.draws,
    )
    records = {
        "lambda_min": found.lambda_min,
        "noise_along_it": found.noise_variance,
        "steps_to_distance_1": found.steps,
    }
    return Section(title="Escape", sentences=(found.verdict,), records=records)


def _variance(gradients: np.ndarray, direction: np.ndarray) -> float:
    """Variance of the units' gradients along a unit vector."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float((gradients.astype(np.float64) @ direction).var(ddof=1))
