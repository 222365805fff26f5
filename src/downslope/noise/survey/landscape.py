"""What the loss surface does to the noise: items of an anatomy that need Hessian products."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from downslope.estimate import Estimate, not_estimable
from downslope.noise.covariance import (
    effective_rank,
    in_words,
    input_alignment,
    noise_profile,
    sharpness_ratio,
    top_eigenpairs,
    trace_of_square,
)
from downslope.noise.curvature import (
    Spectrum,
    condition_number,
    directional_curvatures,
    extreme_eigenvalues,
    necessary_limit,
    preconditioned,
    stability_ratio,
)
from downslope.noise.escape import saddle_escape
from downslope.noise.scale import from_examples
from downslope.noise.survey.extras import PLAIN, PRODUCT_ROWS, TOP, Extras
from downslope.noise.survey.point import Point
from downslope.noise.survey.record import Left, Section, is_told
from downslope.noise.temperature.dynamics import effective_rate
from downslope.noise.temperature.report import PRECONDITIONED

COVARIANCE = "Noise and curvature"


def spectrum_of(point: Point) -> Spectrum:
    """Both ends of the Hessian's spectrum and its leading eigenvectors."""
    return extreme_eigenvalues(
        point.matvec,
        point.dim,
        num_vectors=min(TOP, point.dim),
        from_batch=not point.is_whole,
        key=point.setting.seed,
    )


def curvature(point: Point, extras: Extras, spectrum: Spectrum) -> Section:
    """Item 4: curvature, and what it allows."""
    setting = point.setting
    records = {
        "lambda_max": spectrum.lambda_max,
        "lambda_min": spectrum.lambda_min,
        "hessian_trace": point.hessian_trace,
    }
    sentences = []
    if is_told(spectrum.lambda_max):
        num = spectrum.num_products
        sentences.append(f"largest curvature {spectrum.lambda_max}, from {num} Hessian products")
    more, told = _stability(point, extras, spectrum)
    records |= more
    sentences += told
    if not setting.interacts and len(spectrum.eigenvectors):
        along = directional_curvatures(
            point.losses, point.params, point.rows, spectrum.eigenvectors[:3]
        )
        limit = necessary_limit(along, **setting.draws)
        records["mean_square_limit"] = limit
        if limit.is_measured:
            sentences.append(
                f"with batches of {setting.batch_size:,} and plain SGD the mean square grows above "
                f"{limit}: rare large excursions, not steady divergence"
            )
    if extras.inputs is not None:
        condition = condition_number(extras.inputs)
        records["input_condition_number"] = condition.before
        records["input_condition_number_standardised"] = condition.after
    tables = {
        "eigenvalues": spectrum.eigenvalues.tolist(),
        "residuals": spectrum.residuals.tolist(),
    }
    return Section(title="Curvature", sentences=tuple(sentences), records=records, tables=tables)


def _stability(
    point: Point, extras: Extras, spectrum: Spectrum
) -> tuple[dict[str, Estimate], list[str]]:
    """The learning rate against the largest stable one, with the optimizer's preconditioner."""
    setting, rate = point.setting, point.setting.learning_rate
    sharpest, dynamics, records = spectrum.lambda_max, setting.dynamics, {}
    if extras.preconditioner is not None:
        divisor = np.asarray(extras.preconditioner, np.float64)
        if not (divisor > 0).all():  # NaN fails too
            reason = "the state of the optimizer is not finite, or it has not moved yet"
            return {"stability_ratio": not_estimable(reason, unit="")}, []
        product = preconditioned(point.matvec, divisor)
        sharpest = extreme_eigenvalues(product, point.dim, unit="1", key=setting.seed).lambda_max
        records["preconditioned_lambda_max"] = sharpest
        beta = extras.decays.get("b1", 0.0)
        dynamics = {"momentum": beta, "momentum_kind": "ema"} if beta else {}
    elif setting.optimizer not in PLAIN:
        reason = f"the preconditioner of {setting.optimizer} is not known"
        return {"stability_ratio": not_estimable(reason, unit="")}, []
    if rate is None:
        reason = "the learning rate is not known"
        return {**records, "stability_ratio": not_estimable(reason, unit="")}, []
    found = stability_ratio(sharpest, rate, losses=extras.losses, **dynamics)
    records["stability_ratio"] = found.ratio
    records["largest_stable_learning_rate"] = found.largest_stable_rate
    edge = "; at the edge of stability, where nets trained on full batches stay"
    sentence = f"the learning rate is {found.ratio} of the largest stable one: {found.regime}"
    if not is_told(found.ratio):
        return records, []
    return records, [sentence + edge if found.at_edge else sentence]


def covariance(point: Point, extras: Extras, spectrum: Spectrum) -> Section:
    """Item 5: what the noise looks like, and how it lies to the curvature."""
    g, setting = point.gradients, point.setting
    size = setting.batch_size if setting.interacts else 1
    top = top_eigenpairs(g, TOP, batch_size=size)
    ratio = sharpness_ratio(g[:PRODUCT_ROWS], point.matvec, point.hessian_trace)
    records = {
        "effective_rank": effective_rank(g, batch_size=size),
        "trace_of_square": trace_of_square(g, batch_size=size),
        "sharpness_ratio": ratio,
    }
    records |= {f"eigenvalue {k + 1}": value for k, value in enumerate(top.eigenvalues[:3])}
    if not len(spectrum.eigenvectors):
        return Section(title=COVARIANCE, sentences=(in_words(ratio),), records=records)
    directions, curvatures = _directions(point, spectrum)
    profile = noise_profile(g, curvatures, directions, num_sharp=len(spectrum.eigenvectors))
    records |= {
        "noise_over_curvature_rank_correlation": profile.rank_correlation,
        "noise_over_curvature_slope": profile.slope,
        "sharp_over_flat": profile.sharp_over_flat,
    }
    tables: dict[str, Any] = {
        "curvatures": profile.curvatures.tolist(),
        "variances": profile.variances.tolist(),
    }
    if extras.inputs is not None and not setting.interacts:
        tables |= _input_cosines(point, np.asarray(extras.inputs, np.float64))
    words = in_words(ratio, profile.sharp_over_flat, profile.num_sharp)
    return Section(title=COVARIANCE, sentences=(words,), records=records, tables=tables)


def _directions(point: Point, spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Sharp eigenvectors, and random directions orthogonal to them: the flat bulk."""
    sharp = np.asarray(spectrum.eigenvectors, np.float64)
    count = min(TOP, point.dim - len(sharp))
    draw = np.random.default_rng(point.setting.seed)
    bulk = draw.standard_normal((count, point.dim))
    bulk -= bulk @ sharp.T @ sharp
    bulk = np.linalg.qr(bulk.T)[0].T if count else bulk
    bends = np.einsum("kd,kd->k", bulk, point.products(bulk)) if count else np.zeros(0)
    return np.concatenate([sharp, bulk]), np.concatenate([spectrum.eigenvalues, bends])


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
            return {"input_alignment_layer": name, "input_cosines": found.cosines.tolist()}
    return {}


def escape(point: Point, extras: Extras, spectrum: Spectrum) -> Section:
    """Whether the point is a saddle, and how many steps SGD takes to leave it."""
    g, setting = point.gradients, point.setting
    rate = setting.learning_rate
    if rate is None:
        raise Left("the learning rate is not known")
    if setting.optimizer not in PLAIN:
        raise Left(f"{setting.optimizer}: {PRECONDITIONED}")
    effective = effective_rate(rate, **setting.dynamics)
    lowest = extreme_eigenvalues(
        lambda v: -np.asarray(point.matvec(v)), point.dim, key=setting.seed
    )
    if not len(lowest.eigenvectors):
        raise Left(str(lowest.lambda_max))
    found = saddle_escape(
        spectrum.lambda_min,
        _variance(g, lowest.eigenvectors[0]),
        learning_rate=effective,
        distance=1.0,
        gradient_square=from_examples(g).signal,
        **setting.draws,
    )
    records = {
        "lambda_min": found.lambda_min,
        "noise_along_it": found.noise_variance,
        "steps_to_distance_1": found.steps,
    }
    return Section(title="Escape", sentences=(found.verdict,), records=records)


def _variance(gradients: np.ndarray, direction: np.ndarray) -> float | Estimate:
    """Variance of the units' gradients along a unit vector."""
    with np.errstate(invalid="ignore", over="ignore"):
        value = float((gradients.astype(np.float64) @ direction).var(ddof=1))
    if np.isfinite(value):
        return value
    return not_estimable("a gradient is not finite", unit="(loss / parameter)^2")
