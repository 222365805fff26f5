"""The run as a stochastic process: temperature, memory, path."""

from __future__ import annotations

from typing import Any

from downslope.estimate import Estimate, not_estimable
from downslope.noise import averages
from downslope.noise.scale import from_examples
from downslope.noise.survey.point import Extras, Point
from downslope.noise.survey.record import NotMeasured, Section
from downslope.noise.temperature import direction_temperatures, temperature_record
from downslope.noise.trajectory import (
    autocorrelation_time,
    displacement_exponent,
    principal_path,
)


def temperature(point: Point, extras: Extras) -> Section:
    """Temperatures and equilibrium, with what speaks against them."""
    g, settings, spectrum = point.gradients, point.settings, point.spectrum
    if settings.learning_rate is None:
        raise NotMeasured("the learning rate is not known")
    shared: dict[str, Any] = {
        "learning_rate": settings.learning_rate,
        **settings.draws,
        **settings.dynamics,
    }
    directions = None
    if settings.is_plain:
        directions = direction_temperatures(g @ spectrum.eigenvectors.T, **shared)
    positive = spectrum.eigenvalues[spectrum.eigenvalues > 0]
    found = temperature_record(
        from_examples(g).trace,
        point.dim,
        is_plain=settings.is_plain,
        measured_temperature=extras.readings.get("measured_temperature"),
        equilibrium=extras.readings.get("equilibrium_ratio"),
        directions=directions,
        curvatures=positive if len(positive) else None,
        **shared,
    )
    records = {
        "temperature": found.effective,
        "measured_temperature": found.measured,
        "equilibrium_ratio": found.equilibrium,
        "anisotropy": found.anisotropy,
    }
    tables: dict[str, Any] = {}
    if directions is not None:
        tables["by_direction"] = directions.temperatures
    if found.reshuffling is not None:
        tables["share_left_by_reshuffling"] = found.reshuffling
    return Section(title="Temperature", sentences=found.flags, records=records, tables=tables)


def memory(point: Point, extras: Extras) -> Section:
    """Memory of the optimizer's moving averages, and whether AdaGrad stalls."""
    if not extras.decays and extras.accumulator is None:
        none = "has moving averages whose decays are not known"
        if point.settings.is_plain:
            none = "keeps no moving average"
        raise NotMeasured(f"{point.settings.optimizer} {none}")
    rows, batch = point.settings.num_rows, point.settings.batch_size
    epoch = None if rows is None else max(1.0, rows / batch)
    found = {name: averages.memory(decay, epoch) for name, decay in extras.decays.items()}
    sentences = [f"{name} = {length.decay:g}: {length}" for name, length in found.items()]
    tables = {name: vars(length) for name, length in found.items()}
    records = {}
    if extras.accumulator is not None:
        total, left = extras.accumulator
        records["adagrad_stall_ratio"] = averages.stall_ratio(total, _mean_square(point), left)
    return Section(title="Memory", sentences=tuple(sentences), records=records, tables=tables)


def _mean_square(point: Point) -> float | Estimate:
    """Mean over the parameters of a mini-batch gradient's square: (|G|^2 + tr Sigma / B) / d."""
    now = from_examples(point.gradients)
    if now.signal.value is None or now.trace.value is None:
        return not_estimable(now.trace.reason or "not measured", unit="(loss / parameter)^2")
    square = (now.signal.value + now.trace.value / point.settings.unit_batch) / point.dim
    return max(square, 0.0)


def trajectory(point: Point, extras: Extras) -> Section:
    """The path so far: random walk, drift, or settled."""
    path = extras.trajectory
    if path is None or not len(path.steps):
        raise NotMeasured("no path was kept")
    points, steps = path.points, path.steps
    records = {
        "autocorrelation_time": autocorrelation_time(points, steps, path.stride),
        "displacement_exponent": displacement_exponent(points, steps),
    }
    tables = vars(principal_path(points, steps, 2))
    sentence = (
        f"{len(steps)} points kept; squared displacement grows as the lag to the power "
        f"{records['displacement_exponent']} (1: random walk, 2: straight line)"
    )
    return Section(title="Trajectory", sentences=(sentence,), records=records, tables=tables)
