"""How good an estimate a batch is: items of an anatomy that need gradients alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from downslope.estimate import Estimate
from downslope.noise.gradient import batch_variance, bias_check, expected_angle, one_step_change
from downslope.noise.required import required_batch
from downslope.noise.scale import curvature_weighted, from_examples, from_examples_by_group
from downslope.noise.scale.steps import INTERACTING
from downslope.noise.survey.extras import PLAIN, PRODUCT_ROWS, Extras, in_percent, value_of
from downslope.noise.survey.point import Point
from downslope.noise.survey.record import Section, is_told

NUM_DRAWS = 200  # batches whose mean is compared with that of all rows


def gradient(point: Point, extras: Extras) -> Section:
    """Item 1: the mini-batch gradient as an estimate of the full one."""
    g, setting = point.gradients, point.setting
    batch = setting.unit_batch
    angle = expected_angle(g, batch)
    draw = np.random.default_rng(setting.seed)
    num = min(NUM_DRAWS, point.most)
    picks = draw.integers(len(g), size=(num, min(batch, len(g))))  # with replacement
    shares = np.stack([np.bincount(rows, minlength=len(g)) / len(rows) for rows in picks])
    with np.errstate(invalid="ignore", over="ignore"):
        bias = bias_check(shares.astype(g.dtype) @ g, g.mean(axis=0))
    records = {
        "batch_variance": batch_variance(g, batch, setting.num_units),
        "squared_bias": bias.square_bias,
        "cosine_between_batches": angle.cosine,
        "angle_between_batches": angle.angle_degrees,
        "chance_above_90_degrees": angle.probability_obtuse,
    }
    sentences = []
    if is_told(angle.angle_degrees):
        sentences.append(
            f"two batches of {setting.batch_size:,} point {angle.angle_degrees} apart, and more "
            f"than 90 degrees with a chance of {in_percent(angle.probability_obtuse)}"
        )
    if setting.learning_rate is not None and setting.optimizer in PLAIN:
        step = one_step_change(
            g[:PRODUCT_ROWS],
            point.products,
            learning_rate=setting.learning_rate,
            batch_size=batch,
            batched=True,
            seed=setting.seed,
        )
        records |= {"loss_change_of_one_step": step.change, "chance_of_rise": step.probability_up}
        if is_told(step.probability_up):
            sentences.append(
                "one step of plain SGD raises the full loss with a chance of "
                f"{in_percent(step.probability_up)}: a rising loss on one step is no fault"
            )
    sizes = [4**k for k in range(8) if 4**k <= (setting.num_units or 4**7)]
    law = [[b, value_of(batch_variance(g, b, setting.num_units))] for b in sizes]
    tables = {"variance_by_batch_size": law, "bias_p_value": value_of(bias.p_value)}
    return Section(
        title="Mini-batch gradient", sentences=tuple(sentences), records=records, tables=tables
    )


def scale(point: Point, extras: Extras) -> Section:
    """Item 2: the noise scale, of the whole and by group of parameters."""
    g, setting = point.gradients, point.setting
    rows = setting.num_units
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
        groups = from_examples_by_group({name: g[:, part] for name, part in slices.items()})
        records |= {f"noise_scale {name}": found.scale for name, found in groups.items()}
    if setting.interacts:
        records = {name: _in_batches(found) for name, found in records.items()}
    sentences = ()
    if is_told(noise.scale):
        sentences = (
            f"noise and signal are equal at a batch of {records['noise_scale']}",
            f"at {setting.batch_size:,}, {in_percent(noise.spent_beyond(setting.unit_batch))} of "
            "the examples are spent beyond the least number; twice the batch would save "
            f"{in_percent(noise.steps_saved_by_doubling(setting.unit_batch))} of the steps",
        )
    return Section(title="Noise scale", sentences=sentences, records=records)


def required(point: Point, extras: Extras) -> Section:
    """Item 3: the batch for a given error of the gradient."""
    setting = point.setting
    found = required_batch(
        point.gradients,
        relative_error=setting.relative_error,
        miss_probability=setting.miss_probability,
        num_rows=setting.num_units,
    )
    unit = "batches" if setting.interacts else "examples"
    sentence = (
        f"for an error of at most {100 * setting.relative_error:.3g} % of |G| in "
        f"{100 * (1 - setting.miss_probability):.3g} % of the batches: needed {found.needed}, "
        f"guaranteed {found.guaranteed} by Chebyshev; the law of large numbers gives no number"
    )
    records = {"needed": found.needed, "guaranteed": found.guaranteed}
    records |= {f"rule {name}": rule for name, rule in found.rules.items()}
    if setting.interacts:
        records = {name: _in_batches(r) for name, r in records.items()}
    sentences = (sentence,) if is_told(found.needed) or is_told(found.guaranteed) else ()
    return Section(
        title=f"Batch for a given error, in {unit}", sentences=sentences, records=records
    )


def _in_batches(found: Estimate) -> Estimate:
    """The same, of which the unit is a batch and not an example."""
    unit = found.unit.replace("examples", "batches")
    return dataclasses.replace(found, unit=unit, flags=(*found.flags, INTERACTING))
