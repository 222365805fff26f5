"""The report: one self-contained HTML file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from downslope.errors import DataError, UsageError
from downslope.report import words
from downslope.report.blocks import Chart, Gap, PageSection, SectionPlan
from downslope.report.compare import comparison
from downslope.report.drawing import LEFT, picture
from downslope.report.run_data import RunData
from downslope.report.sections import data, descent, landscape, machine, noise, record, verdict
from downslope.storage import atomic_file, write_bytes

SECTIONS = {
    part.PLAN.name: part.PLAN
    for part in (verdict, descent, noise, machine, landscape, data, record)
}
MAX_RUNS = 8  # side by side: there are styles of line and room for no more
NAME = "report.html"
WIDE_LABELS = 0.32  # share of a chart's width for the names of columns


def write_report(
    runs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a report on one run, or on several side by side, and return its path.

    It is one HTML file, complete or absent even if writing is interrupted. A run under way can
    be reported on.

    Args:
        runs: folders of one to eight runs.
        out: the file; None for `report.html` in the run's folder, or in the working directory
            for several runs.

    Raises:
        UsageError: no run, or more than eight.
        DataError: a folder is no run, or is damaged; or `out` cannot be written.
        CapacityError: the disk is full.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import downslope
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> found = downslope.fit(
        ...     lambda w, rows, key: (rows["y"] - rows["x"] @ w) ** 2, np.zeros(2),
        ...     {"x": x, "y": x @ [1.0, 2.0]}, batch_size=50, steps=20, out=folder)
        >>> page = write_report([folder])
        >>> page.name, page.stat().st_size < 500_000
        ('report.html', True)
    """
    folders = [runs] if isinstance(runs, (str, os.PathLike)) else list(runs)
    if not 1 <= len(folders) <= MAX_RUNS:
        raise UsageError(f"runs must be 1 to {MAX_RUNS} folders; got {len(folders)}")
    read = [RunData(folder) for folder in folders]
    if len(read) == 1:
        home, page = read[0].folder, one_run(read[0])
    else:
        title = ", ".join(words.cut(run.name, 30) for run in read)
        home, page = Path(), _render("page.html.j2", title=title, sections=comparison(read))
    path = home / NAME if out is None else Path(out)
    _replace(path, page.encode("utf-8", "replace"))
    return path


def one_run(run: RunData) -> str:
    """The page on one run."""
    found = [_guarded(plan, run) for plan in SECTIONS.values()]
    return _render("page.html.j2", title=run.name, sections=found)


def short_form(run: RunData) -> str:
    """The verdict and one chart, for notebooks."""
    section = _guarded(verdict.PLAN, run)
    chart = descent.over_examples(run)
    # a notebook may show several runs: ids of one page must differ
    return _render("short.html.j2", section=section, chart=chart, title=run.name,
                   prefix=secrets.token_hex(4))  # fmt: skip


def _guarded(plan: SectionPlan, run: RunData) -> PageSection:
    """The section, or in its place a line saying why its records cannot be read.

    A journal may have been edited, or written by another version: one odd record must not
    cost the reader the rest of the page.
    """
    try:
        return plan.section(run)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"its records cannot be read ({type(error).__name__}: {words.cut(error, 100)})"
        gap = Gap(title="Left out", reason=reason)
        return PageSection(name=plan.name, title=plan.title, lead="", blocks=(gap,))


def _render(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(**values, css=_file("page.css"))


@cache
def _templates() -> Any:
    import jinja2

    loader = jinja2.FunctionLoader(_file)
    templates = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    templates.filters["cell"] = words.cell
    templates.globals["picture"] = _picture
    templates.globals["now"] = lambda: datetime.now().strftime("%Y-%m-%d %H:%M")
    return templates


def _picture(chart: Chart, prefix: str = "") -> Any:
    """The chart as markup; its texts are escaped by matplotlib."""
    from markupsafe import Markup, escape

    left = WIDE_LABELS if chart.name == "importance" else LEFT
    try:
        return Markup(picture(chart, left, prefix))
    except (ArithmeticError, ValueError) as error:  # the rest of the page is worth having
        return escape(
            f"This chart cannot be drawn ({type(error).__name__}); its numbers are below."
        )


def _file(name: str) -> str:
    folder = resources.files("downslope.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _replace(path: Path, content: bytes) -> None:
    if path.is_dir():
        raise DataError("is a folder", path=path, remedy="name a file with --out")
    try:
        with atomic_file(path) as scratch:
            write_bytes(scratch, content)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        remedy = "name a file in a folder that exists and can be written"
        raise DataError(
            f"cannot be written ({error.strerror})", path=path, remedy=remedy
        ) from error
