"""A run's folder as a reader sees it: what was asked, what happened, what came out."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from downslope.errors import DataError
from downslope.report.journal import read_journal
from downslope.report.reading import Clock, Course, last, mapping, number, without_undone
from downslope.storage import read_json

FORMAT = "downslope run 1"
RESTORE = "restore it from a copy"


class Run:
    """What a run's folder tells, also of one that is under way; reading it loads no JAX.

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
        >>> run = downslope.Run(folder)
        >>> run.summary["num_steps"], run.asked["training"]["batch_size"]
        (20, 50)
        >>> run.plot_descent().get_xlabel()
        'examples'
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.asked: dict[str, Any] = _asked(self.folder)
        self.records: list[dict[str, Any]] = _records(self.folder / "journal.jsonl")
        self.summary: dict[str, Any] | None = _summary(self.folder / "result.json")

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.resolve().name

    @cached_property
    def kept(self) -> list[dict[str, Any]]:
        """The records without what a divergence took back."""
        return without_undone(self.records)  # type: ignore[return-value]

    @cached_property
    def course(self) -> Course:
        """Examples used and batch size at each step."""
        training = mapping(self.asked.get("training"))
        return Course(self.kept, number(training.get("batch_size")))

    @cached_property
    def clock(self) -> Clock:
        """Seconds at each step."""
        return Clock(self.kept)

    @property
    def is_over(self) -> bool:
        """Whether it has ended: a summary was written, and no resumption came after it."""
        events = [record.get("event") for record in self.records]
        ends = [i for i, event in enumerate(events) if event == "stopped"]
        resumed = [i for i, event in enumerate(events) if event == "resumed"]
        if ends and resumed:
            return resumed[-1] < ends[-1]
        return self.summary is not None and not resumed

    @property
    def result(self) -> dict[str, Any]:
        """The summary of a run that has ended, else empty: that of a sitting before is old."""
        return (self.summary or {}) if self.is_over else {}

    def find(self, event: str) -> dict[str, Any] | None:
        """The newest record of an event, or None."""
        return last(self.records, event)  # type: ignore[return-value]

    def report(self, out: str | os.PathLike[str] | None = None) -> Path:
        """Writes the report, one HTML file, and gives its path.

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
        return f"Run({str(self.folder)!r})"

    def plot(self, name: str, ax: Any = None) -> Any:
        """A chart of the report on matplotlib's axes.

        Args:
            name: of the chart, such as "noise-scale"; the report's page has them as ids.
            ax: axes to draw on; None for new ones.

        Returns:
            The axes; `.figure.savefig(...)` keeps them.

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
        """Whether neighbouring updates agree or undo each other, over the run."""
        return self.plot("stability", ax)

    def plot_slice(self, ax: Any = None) -> Any:
        """The loss along two directions through the end point."""
        return self.plot("slice", ax)

    def plot_path(self, ax: Any = None) -> Any:
        """The way of the parameters on its two main directions."""
        return self.plot("path", ax)

    def plot_importance(self, ax: Any = None) -> Any:
        """How much each column's values matter to the held-out loss."""
        return self.plot("importance", ax)

    def plot_calibration(self, ax: Any = None) -> Any:
        """Predicted against observed shares, of a run on classes."""
        return self.plot("calibration", ax)

    def plot_residuals(self, ax: Any = None) -> Any:
        """What is left of the target over the prediction, of a run on numbers."""
        return self.plot("residuals", ax)


def _asked(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.is_file():
        raise DataError("not the folder of a run", path=folder, remedy="name one made by fit --out")
    asked = read_json(path)
    if not isinstance(asked, dict) or asked.get("format") != FORMAT:
        raise DataError(f"not in the format {FORMAT!r}", path=path, remedy=RESTORE)
    digest = asked.pop("sha256", None)
    # the file is replaced as a whole, so what does not match was changed by other hands
    if digest != hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest():
        raise DataError("does not match its SHA-256", path=path, remedy=RESTORE)
    return asked


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        records = read_journal(path)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise DataError("a line is no record of a run", path=path, remedy=RESTORE) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path, remedy=RESTORE) from error
    if not all(isinstance(record, dict) for record in records):
        raise DataError("a line is no record of a run", path=path, remedy=RESTORE)
    return records


def _summary(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path, remedy=RESTORE) from error
    if not isinstance(found, dict):
        raise DataError("no summary of a run", path=path, remedy=RESTORE)
    return found
