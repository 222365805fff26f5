"""The mini-batch gradient as an estimate: subjects that need gradients alone."""

from __future__ import annotations

import dataclasses

from downslope.estimate import Estimate
from downslope.noise.gradient import batch_variance, expected_angle, one_step_change
from downslope.noise.required import required_batch
from downslope.noise.scale import curvature_weighted, from_examples
from downslope.noise.scale.steps import INTERACTING
from downslope.noise.survey.point import PRODUCT_ROWS, Extras, Point
from downslope.noise.survey.record import Section, in_percent


def gradient(point: Point, extras: Extras) -> Section:
    """Variance and angle of the mini-batch gradient, and the effect of one step."""
    g, settings = point.gradients, point.settings
    batch = settings.unit_batch
    angle = expected_angle(g, batch)
    records = {
        "batch_variance": batch_variance(g, batch, settings.num_units),
        "cosine_between_batches": angle.cosine,
        "angle_between_batches": angle.angle_degrees,
        "chance_above_90_degrees": angle.probability_obtuse,
    }
    sentences = []
    if angle.angle_degrees.is_bounded:
        sentences.append(
            f"gradients of two batches of {settings.batch_size:,} lie {angle.angle_degrees} apart, "
            f"more than 90 degrees with probability {in_percent(angle.probability_obtuse)}"
        )
    if settings.learning_rate is not None and settings.is_plain:
        step = one_step_change(
            g[:PRODUCT_ROWS],
            point.products,
            learning_rate=settings.learning_rate,
            batch_size=batch,
            batched=True,
            seed=settings.seed,
        )
        records |= {"loss_change_of_one_step": step.change, "chance_of_rise": step.probability_up}
        if step.probability_up.is_bounded:
            sentences.append(
                "one step of plain SGD raises the full loss with probability "
                f"{in_percent(step.probability_up)}: a rise on one step is no cause for concern"
            )
    return Section(title="Mini-batch gradient", sentences=tuple(sentences), records=records)


def scale(point: Point, extras: Extras) -> Section:
    """Gradient noise scale, of the whole model and by group of parameters."""
    g, settings = point.gradients, point.settings
    rows = settings.num_units
    noise = from_examples(g)
    records = {
        "noise_scale": noise.scale,
        "gradient_signal": noise.signal,
        "gradient_noise": noise.trace,
        "curvature_weighted_noise_scale": curvature_weighted(
            g[:PRODUCT_ROWS], point.products, batched=True
        ),
    }
    if rows is not None and rows >= len(g):
        of_data = from_examples(g, target="dataset", num_rows=rows)
        records["noise_scale_of_the_data_set"] = of_data.scale
    slices = point.group_slices()
    if len(slices) > 1:
        for name, part in slices.items():
            records[f"noise_scale {name}"] = from_examples(g[:, part]).scale
    if settings.interacts:
        records = {name: _in_batches(found) for name, found in records.items()}
    sentences = ()
    if noise.scale.is_bounded:
        sentences = (
            f"noise and signal are equal at a batch size of {records['noise_scale']}",
            f"at batch size {settings.batch_size:,}, "
            f"{in_percent(noise.spent_beyond(settings.unit_batch))} of the examples exceed the "
            "minimum that the smallest batches need; doubling it would save "
            f"{in_percent(noise.steps_saved_by_doubling(settings.unit_batch))} of the steps",
        )
    return Section(title="Noise scale", sentences=sentences, records=records)


def required(point: Point, extras: Extras) -> Section:
    """Smallest batch for a given error of the gradient."""
    settings = point.settings
    found = required_batch(
        point.gradients,
        relative_error=settings.relative_error,
        miss_probability=settings.miss_probability,
        num_rows=settings.num_units,
    )
    unit = "batches" if settings.interacts else "examples"
    sentence = (
        f"for an error of at most {100 * settings.relative_error:.3g} % of |G| in "
        f"{100 * (1 - settings.miss_probability):.3g} % of the batches: {found.needed} needed, "
        f"{found.guaranteed} guaranteed to suffice (Chebyshev)"
    )
    records = {"needed": found.needed, "guaranteed": found.guaranteed}
    records |= {f"rule {name}": rule for name, rule in found.rules.items()}
    if settings.interacts:
        records = {name: _in_batches(r) for name, r in records.items()}
    sentences = (sentence,) if found.needed.is_bounded or found.guaranteed.is_bounded else ()
    return Section(
        title=f"Batch for a given error, in {unit}", sentences=sentences, records=records
    )


def _in_batches(found: Estimate) -> Estimate:
    """The same with batches as its unit, flagged."""
    unit = found.unit.replace("examples", "batches")
    return dataclasses.replace(found, unit=unit, flags=(*found.flags, INTERACTING))
