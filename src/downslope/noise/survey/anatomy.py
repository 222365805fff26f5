"""Survey of gradient noise at one point, by subject."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from typing import Any

from downslope.errors import UsageError
from downslope.estimate import as_json
from downslope.noise.survey import gradients, landscape, process
from downslope.noise.survey import rows as rows_of
from downslope.noise.survey.point import Extras, Point, PointSettings
from downslope.noise.survey.record import Anatomy, NotMeasured, Section

SECTIONS: dict[str, Callable[..., Section]] = {
    "gradient": gradients.gradient,
    "scale": gradients.scale,
    "required": gradients.required,
    "curvature": landscape.curvature,
    "covariance": landscape.covariance,
    "tails": rows_of.tails,
    "temperature": process.temperature,
    "escape": landscape.escape,
    "memory": process.memory,
    "order": rows_of.order,
    "trajectory": process.trajectory,
}


def check_sections(sections: Collection[str] | None) -> None:
    """Raise UsageError unless every name is that of a subject, and there is one."""
    if sections is None:
        return
    wrong = [sections] if isinstance(sections, str) else sorted(set(sections) - set(SECTIONS))
    if wrong or not sections:
        got = repr(wrong[0]) if wrong else "none"
        raise UsageError(f"sections must be names of {', '.join(SECTIONS)}; got {got}")


def anatomy(
    losses: Callable[[Any, Any], Any],
    params: Any,
    rows: Any,
    settings: PointSettings,
    *,
    extras: Extras = Extras(),  # noqa: B008 - immutable
    sections: Collection[str] | None = None,
    seconds: float | None = None,
) -> Anatomy:
    """Survey of the gradient noise at one point of training, by subject.

    Args:
        losses: `losses(params, rows) -> [n]`, one loss a row; where the rows of a batch
            interact (`settings.interacts`), every row's loss inside a batch.
        params: a pytree of floating arrays.
        rows: a pytree of arrays [n, ...]: a random sample of the data, without replacement.
        settings: batch size, learning rate, optimizer: how the point is trained.
        extras: facts about data and optimizer, which open more subjects.
        sections: subjects to measure, of `gradient`, `scale`, `required`, `curvature`,
            `covariance`, `tails`, `temperature`, `escape`, `memory`, `order`, `trajectory`;
            all by default. What cannot be measured is left out, with the reason.
        seconds: begin no further subject after so long.

    Raises:
        UsageError: an unknown subject, or settings out of range.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 3)).astype("float32")
        >>> y = x @ np.float32([1, -2, 3]) + rng.normal(size=500).astype("float32")
        >>> def losses(params, rows):
        ...     return 0.5 * (rows[0] @ params["w"] - rows[1]) ** 2
        >>> found = anatomy(losses, {"w": np.zeros(3, "float32")}, (x, y),
        ...                 PointSettings(batch_size=32, num_rows=500, learning_rate=0.1),
        ...                 sections=["scale", "tails"])
        >>> found.sections["scale"].records["noise_scale"].unit
        'examples'
    """
    begin = time.perf_counter()
    check_sections(sections)
    if settings.num_rows is not None and settings.batch_size > settings.num_rows:
        settings = dataclasses.replace(settings, batch_size=settings.num_rows)
    point = Point(losses=losses, params=params, rows=rows, settings=settings)
    found: dict[str, Section] = {}
    skipped: dict[str, str] = {}
    for name, measure in SECTIONS.items():
        if sections is not None and name not in sections:
            continue
        start = time.perf_counter()
        if seconds is not None and start - begin >= seconds:
            skipped[name] = f"the time of {seconds:.3g} s was used up"
            continue
        try:
            section = measure(point, extras)
        except NotMeasured as reason:
            skipped[name] = str(reason)
        else:
            took = time.perf_counter() - start
            found[name] = dataclasses.replace(section, tables=as_json(section.tables), seconds=took)
    return Anatomy(sections=found, skipped=skipped, seconds=time.perf_counter() - begin)
