"""The reader of a run's folder: its records, its report, its charts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from downslope.report.run_data import RunData


class RunReader(RunData):
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
