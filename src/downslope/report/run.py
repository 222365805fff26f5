"""The reader of a run's folder: its records, its report, its charts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from downslope.errors import DataError
from downslope.estimate import Estimate, not_estimable
from downslope.report.journal import read_journal
from downslope.report.reading import (
    Clock,
    Course,
    Record,
    estimate,
    listing,
    mapping,
    number,
    of_event,
    step_of,
    text,
    without_undone,
)
from downslope.storage import read_json, read_signed

FORMAT = "downslope run 1"
RESTORE = "restore it from a copy"
NOT_HELD_OUT = not_estimable("no rows were held out", unit="")


class RunReader:
    """Records, report and charts of a run, also of one under way; reading it loads no JAX.

    Args:
        folder: made by `fit` with `out`.

    Attributes:
        folder: where it lies.
        asked: what was asked, from `run.json`.
        records: the journal's records that count, oldest first.
        summary: the numbers of `result.json`, or None before the run has ended.

    Raises:
        DataError: the folder is no run, or a file in it is damaged.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import downslope
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> found = downslope.fit(
        ...     lambda w, rows, key: (rows["y"] - rows["x"] @ w) ** 2, np.zeros(2),
        ...     {"x": x, "y": x @ [1.0, 2.0]}, batch_size=50, steps=20, out=folder)
        >>> run = downslope.RunReader(folder)
        >>> run.summary["num_steps"], run.asked["training"]["batch_size"]
        (20, 50)
        >>> run.plot_descent().get_xlabel()
        'examples'
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.asked: dict[str, Any] = _asked(self.folder)
        self.records: list[dict[str, Any]] = _read(read_journal, self.folder / "journal.jsonl")
        self.summary: dict[str, Any] | None = _summary(self.folder / "result.json")

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @cached_property
    def kept(self) -> list[dict[str, Any]]:
        """The records without those of updates that a divergence took back."""
        return without_undone(self.records)  # type: ignore[return-value]

    @cached_property
    def course(self) -> Course:
        """Examples used and batch size at each step."""
        return Course(self.kept, number(self.training.get("batch_size")))

    @cached_property
    def clock(self) -> Clock:
        """Seconds at each step."""
        return Clock(self.kept)

    @property
    def is_over(self) -> bool:
        """True once it has ended: a summary was written, and no resumption came after it."""
        events = [record["event"] for record in of_event(self.records, "stopped", "resumed")]
        return events[-1] == "stopped" if "resumed" in events else self.summary is not None

    @property
    def result(self) -> dict[str, Any]:
        """The summary of a run that has ended; empty for one under way, resumed ones included."""
        return (self.summary or {}) if self.is_over else {}

    @property
    def training(self) -> Record:
        """Training settings, as asked."""
        return mapping(self.asked.get("training"))

    @property
    def metadata(self) -> Record:
        """Settings of the recipe, as asked."""
        return mapping(self.asked.get("metadata"))

    def find(self, *events: str) -> dict[str, Any] | None:
        """The newest record of an event, or None; further names are those of older versions."""
        found = of_event(self.records, *events)
        return found[-1] if found else None  # type: ignore[return-value]

    def of(self, *events: str) -> list[Record]:
        """The records of an event in order, without those that a divergence took back."""
        return of_event(self.kept, *events)

    @cached_property
    def num_steps(self) -> float:
        """Updates made, so far where the run is under way."""
        found = number(self.result.get("num_steps"))
        return max((step_of(r) for r in self.kept), default=0.0) if found is None else found

    @cached_property
    def seconds(self) -> float | None:
        """Time spent training, so far where the run is under way."""
        found = number(self.result.get("seconds"))
        known = [s for r in self.records if (s := number(r.get("seconds"))) is not None]
        return max(known, default=None) if found is None else found

    @cached_property
    def size(self) -> tuple[int, float] | None:
        """Number of parameters and their bytes, or None where `run.json` does not say."""
        count, size = 0, 0.0
        shapes = mapping(self.asked.get("params"))
        for shape in shapes.values():
            kind, *sides = listing(shape) or [""]
            lengths = [number(side) for side in sides]
            if not text(kind) or None in lengths:
                return None
            here = math.prod(int(length or 0) for length in lengths)
            bits = text(kind)[len(text(kind).rstrip("0123456789")) :]  # of float32, bool
            count, size = count + here, size + here * int(bits or 8) / 8
        return (count, size) if shapes else None

    def score(self, *names: str) -> tuple[str, Estimate]:
        """The first of these held-out metrics that has a value: of the model that was kept, or the
        latest of a run under way.
        """
        values = mapping(self.result.get("validation"))
        ends = mapping(self.result.get("validation_intervals"))
        newest = mapping([{}, *self.of("evaluated")][-1].get("metrics"))
        kept: list[tuple[str, Estimate]] = []
        for name in names:
            lo, hi = (*listing(ends.get(name)), None, None)[:2]
            kept.append((name, estimate({"value": values.get(name), "lo": lo, "hi": hi}, "")))
        every = [*kept, *((name, estimate(newest.get(name))) for name in names)]
        return next((each for each in every if each[1].is_measured), (names[-1], NOT_HELD_OUT))

    def report(self, out: str | os.PathLike[str] | None = None) -> Path:
        """Write the report, one HTML file, and return its path.

        Args:
            out: the file; None for `report.html` in the run's folder.
        """
        from downslope.report.page import write_report

        return write_report([self.folder], out)

    def _repr_html_(self) -> str:
        """The short form in notebooks: the verdict and the descent."""
        from downslope.report.page import short_form

        return short_form(self)

    def __repr__(self) -> str:
        return f"RunReader({str(self.folder)!r})"

    def plot(self, name: str, ax: Any = None) -> Any:
        """A chart of the report on matplotlib's axes.

        Args:
            name: of the chart, such as "noise-scale", as in the links of the report.
            ax: axes to draw on; None for new ones.

        Returns:
            The axes; `.figure.savefig(...)` saves them.

        Raises:
            UsageError: there is no chart of this name.
            DataError: the run's folder has nothing to draw it from.
        """
        from downslope.report.charts import chart
        from downslope.report.drawing import own_axes

        return own_axes(chart(self, name), ax)

    def plot_descent(self, ax: Any = None, *, over: str = "examples") -> Any:
        """Training and held-out loss, over "examples" or "time"."""
        return self.plot(f"descent-over-{over}", ax)

    def plot_noise(self, ax: Any = None) -> Any:
        """The noise scale with its interval, beside the batch size in use."""
        return self.plot("noise-scale", ax)

    def plot_signal(self, ax: Any = None) -> Any:
        """Squared length of the gradient and of the noise in a batch."""
        return self.plot("signal", ax)

    def plot_step_time(self, ax: Any = None) -> Any:
        """Seconds of a step by batch size, with the sweet spot."""
        return self.plot("step-time", ax)

    def plot_stability(self, ax: Any = None) -> Any:
        """Correlation of neighbouring updates over the run."""
        return self.plot("stability", ax)

    def plot_slice(self, ax: Any = None) -> Any:
        """The loss along lines through the end point."""
        return self.plot("slice", ax)

    def plot_path(self, ax: Any = None) -> Any:
        """The trajectory of the parameters on its two main directions."""
        return self.plot("path", ax)

    def plot_importance(self, ax: Any = None) -> Any:
        """Rise of the held-out loss when a column's values are permuted."""
        return self.plot("importance", ax)

    def plot_calibration(self, ax: Any = None) -> Any:
        """Predicted against observed shares, of a classification."""
        return self.plot("calibration", ax)

    def plot_residuals(self, ax: Any = None) -> Any:
        """Target less prediction over the prediction, of a regression."""
        return self.plot("residuals", ax)


def _asked(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.is_file():
        raise DataError("not the folder of a run", path=folder, remedy="name one made by fit --out")
    asked = read_signed(path)
    if asked.get("format") != FORMAT:
        raise DataError(f"not in the format {FORMAT!r}", path=path, remedy=RESTORE)
    return asked


def _read(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except (OSError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"cannot be read ({why})", path=path, remedy=RESTORE) from error


def _summary(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found = _read(read_json, path)
    if not isinstance(found, dict):
        raise DataError("no summary of a run", path=path, remedy=RESTORE)
    return found
