"""What the loss surface does to the noise: items of an anatomy that need Hessian products."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

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
    trace,
)
from downslope.noise.escape import escape_time, path_diffusion, saddle_escape
from downslope.noise.record import not_estimable
from downslope.noise.scale import from_examples
from downslope.noise.survey.extras import PLAIN, PRODUCT_ROWS, TOP, Extras, Left, is_whole
from downslope.noise.survey.point import Point
from downslope.noise.survey.record import Section

PATH_POINTS = 21  # on the way to another point


def spectrum_of(point: Point) -> Spectrum:
    """Both ends of the Hessian's spectrum and its leading eigenvectors."""
    return extreme_eigenvalues(
        point.matvec,
        point.dim,
        num_vectors=min(TOP, point.dim),
        from_batch=not is_whole(point),
        key=point.setting.seed,
    )


def curvature(point: Point, extras: Extras, spectrum: Spectrum) -> Section:
    """Item 4: curvature, and what it allows."""
    setting, rate = point.setting, point.setting.learning_rate
    total = trace(point.matvec, point.dim, 32, setting.seed)
    records = {
        "lambda_max": spectrum.lambda_max,
        "lambda_min": spectrum.lambda_min,
        "hessian_trace": total,
    }
    sentences = [
        f"largest curvature {spectrum.lambda_max}, from {spectrum.num_products} Hessian products"
    ]
    sharpest, dynamics = spectrum.lambda_max, setting.dynamics
    if extras.preconditioner is not None:
        product = preconditioned(point.matvec, extras.preconditioner)
        sharpest = extreme_eigenvalues(product, point.dim, unit="1", key=setting.seed).lambda_max
        records["preconditioned_lambda_max"] = sharpest
        dynamics = {"momentum": extras.decays.get("b1", 0.0), "momentum_kind": "ema"}
        dynamics = dynamics if dynamics["momentum"] else {}
    known = setting.optimizer in PLAIN or extras.preconditioner is not None
    if rate is None or not known:
        reason = (
            "the learning rate is not known"
            if rate is None
            else (f"{setting.optimizer} needs the state of its run for its preconditioner")
        )
        records["stability_ratio"] = not_estimable(reason, unit="")
    else:
        found = stability_ratio(sharpest, rate, losses=extras.losses, **dynamics)
        records["stability_ratio"] = found.ratio
        records["largest_stable_learning_rate"] = found.largest_stable_rate
        edge = (
            "; at the edge of stability, where nets trained on full batches stay"
            if found.at_edge
            else ""
        )
        sentences.append(
            f"the learning rate is {found.ratio} of the largest stable one: {found.regime}{edge}"
        )
    if not setting.interacts:
        along = directional_curvatures(
            point.losses, point.params, point.rows, spectrum.eigenvectors[:3]
        )
        records["mean_square_limit"] = necessary_limit(
            along, setting.batch_size, num_rows=setting.num_rows, sampling=setting.sampling
        )
        sentences.append(
            f"with batches of {setting.batch_size:,} and plain SGD the mean square grows above "
            f"{records['mean_square_limit']}: rare large excursions, not steady divergence"
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


def covariance(point: Point, extras: Extras, spectrum: Spectrum) -> Section:
    """Item 5: what the noise looks like, and how it lies to the curvature."""
    g, setting = point.gradients, point.setting
    size = setting.batch_size if setting.interacts else 1
    top = top_eigenpairs(g, TOP, batch_size=size)
    total = trace(point.matvec, point.dim, 32, setting.seed)
    few = g[:PRODUCT_ROWS]
    ratio = sharpness_ratio(few, lambda v: np.asarray(point.matvec(v.astype(np.float32))), total)
    records = {
        "effective_rank": effective_rank(g, batch_size=size),
        "trace_of_square": trace_of_square(g, batch_size=size),
        "sharpness_ratio": ratio,
    }
    records |= {f"eigenvalue {k + 1}": value for k, value in enumerate(top.eigenvalues[:3])}
    directions, curvatures, flat = _directions(point, spectrum)
    profile = noise_profile(g, curvatures, directions, num_sharp=min(TOP, len(curvatures) - flat))
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
        tables |= _input_cosines(point, extras)
    words = in_words(ratio, profile.sharp_over_flat, profile.num_sharp)
    return Section(title="Noise and curvature", sentences=(words,), records=records, tables=tables)


def _directions(point: Point, spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray, int]:
    """Sharp eigenvectors, and random directions orthogonal to them: the flat bulk."""
    sharp = np.asarray(spectrum.eigenvectors, np.float64)
    count = min(TOP, point.dim - len(sharp))
    draw = np.random.default_rng(point.setting.seed)
    bulk = draw.standard_normal((count, point.dim))
    bulk -= bulk @ sharp.T @ sharp
    bulk = np.linalg.qr(bulk.T)[0].T if count else bulk
    bends = np.einsum("kd,kd->k", bulk, point.products(bulk)) if count else np.zeros(0)
    return np.concatenate([sharp, bulk]), np.concatenate([spectrum.eigenvalues, bends]), count


def _input_cosines(point: Point, extras: Extras) -> dict[str, Any]:
    """First-layer noise against the inputs' principal components, where there is such a layer."""
    inputs = np.asarray(extras.inputs, np.float64)
    for name, part in point.group_slices().items():
        width = part.stop - part.start
        if width % inputs.shape[1] == 0 and width:
            shape = (-1, inputs.shape[1], width // inputs.shape[1])
            weights = point.gradients[:, part].reshape(shape)
            found = input_alignment(weights, inputs[: len(weights)])
            return {"input_alignment_layer": name, "input_cosines": found.cosines.tolist()}
    return {}


def escape(point: Point, extras: Extras, spectrum: Spectrum) -> Section:
    """Item 8: is this a saddle, and how long until SGD leaves it, or reaches another point?"""
    g, setting = point.gradients, point.setting
    rate = setting.learning_rate
    if rate is None:
        raise Left("the learning rate is not known")
    shared: dict[str, Any] = {"num_rows": setting.num_rows, "sampling": setting.sampling}
    effective = rate / (1 - setting.momentum)
    lowest = extreme_eigenvalues(
        lambda v: -np.asarray(point.matvec(np.asarray(v, np.float32))),
        point.dim, from_batch=not is_whole(point), key=setting.seed,
    )  # fmt: skip
    down = g @ np.asarray(lowest.eigenvectors[0], g.dtype)
    noise = from_examples(g)
    found = saddle_escape(
        spectrum.lambda_min,
        float(down.var(ddof=1)),
        learning_rate=effective,
        batch_size=setting.batch_size,
        distance=1.0,
        gradient_square=noise.signal,
        **shared,
    )
    records = {
        "lambda_min": found.lambda_min,
        "noise_along_it": found.noise_variance,
        "steps_to_distance_1": found.steps,
    }
    sentences, tables = [found.verdict], {}
    if extras.other is not None:
        passage, table = _passage(point, extras.other, effective, shared)
        records |= {"escape_steps": passage.steps, "escape_steps_kramers": passage.kramers_steps}
        tables |= table
        sentences.append(
            f"to the other point: {passage.steps}, with the noise {passage.noise_model} along the "
            "straight path between them"
        )
    return Section(title="Escape", sentences=tuple(sentences), records=records, tables=tables)


def _passage(point: Point, other: Any, rate: float, shared: dict[str, Any]) -> tuple[Any, Any]:
    """The time along the straight line to other parameters, with the noise measured on it."""
    here, there = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (point.params, other)
    )
    length = float(np.linalg.norm(there - here))
    if not length:
        raise Left("the other point is the same")
    along, losses, variances = (there - here) / length, [], []
    shares = np.linspace(-0.25, 1.25, PATH_POINTS)
    for share in shares:
        params = jax.tree.map(
            lambda a, b, s=share: np.asarray(a + s * (b - a), np.asarray(a).dtype),
            point.params,
            other,
        )
        there = point.at(params)
        losses.append(there.mean_loss)
        variances.append(float((there.gradients @ along.astype(np.float32)).var(ddof=1)))
    diffusion = path_diffusion(
        variances, learning_rate=rate, batch_size=point.setting.batch_size, **shared
    )
    positions = shares * length
    found = escape_time(positions, losses, diffusion, learning_rate=rate, start=0.0, target=length)
    table = {"positions": positions.tolist(), "losses": losses, "diffusion": diffusion.tolist()}
    return found, {"path": table}
