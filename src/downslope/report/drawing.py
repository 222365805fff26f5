"""Charts in one style: on a reader's own axes, and as pictures inside the page.

The colours are those of Okabe and Ito, told apart by colour-blind readers too; lines differ in
their dashes as well. In the page each colour becomes a CSS variable, so that one picture suits
a light and a dark screen and paper.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from downslope.report.blocks import Chart
from downslope.report.ticks import tidy

WIDTH = 5.2  # inches at 72 units each: narrow enough to be read on a phone
FONT_SIZE = 11
LEFT = 0.135  # share of the width for the numbers of the vertical axis
INK, MUTED, LINE, PAPER = "#1c2024", "#5b636b", "#d8dce0", "#fdfdfe"
BLUE, RED, GREEN, PURPLE, AMBER, SKY = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
)  # fmt: skip
# The variables of page.css that stand for them.
VARIABLES = {
    INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper", BLUE: "--blue",
    RED: "--red", GREEN: "--green", PURPLE: "--purple", AMBER: "--amber", SKY: "--sky",
}  # fmt: skip
# One style a series: where colours fail, dashes tell.
STYLES = (
    (BLUE, "-"), (RED, "--"), (GREEN, "-."), (PURPLE, ":"), (AMBER, (0, (6, 2))),
    (SKY, (0, (4, 1, 1, 1, 1, 1))), (INK, (0, (1, 1))),
)  # fmt: skip

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "downslope", "text.parse_math": False,
    "axes.unicode_minus": True, "font.family": ["DejaVu Sans"], "font.size": FONT_SIZE,
    "axes.edgecolor": MUTED, "axes.labelcolor": MUTED, "axes.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "axes.labelsize": FONT_SIZE, "axes.axisbelow": True, "axes.xmargin": 0.02,
    "axes.grid": True, "grid.color": LINE, "grid.linewidth": 0.7,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE, "xtick.major.size": 3, "ytick.major.size": 0,
    "ytick.minor.size": 0, "xtick.minor.size": 0, "figure.facecolor": "none",
    "legend.frameon": False, "legend.fontsize": FONT_SIZE, "legend.labelcolor": INK,
    "legend.handlelength": 1.9, "legend.columnspacing": 1.6, "legend.handletextpad": 0.5,
    "lines.linewidth": 1.8, "lines.markersize": 4.5, "text.color": INK,
    "path.simplify": True, "path.simplify_threshold": 0.3,
}  # fmt: skip
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_NUMBER = re.compile(r"-?\d+\.\d+")
_FAMILY = re.compile(r"font: ([\d.]+px) [^;]*|font-family: [^;]*")


@contextmanager
def style() -> Iterator[None]:
    """While it lasts, matplotlib draws as the report does; its settings are then as before."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def own_axes(chart: Chart, axes: Any = None) -> Any:
    """The chart on matplotlib's axes: those given, or new ones, without pyplot.

    Args:
        axes: to draw on, in their own style; None for new ones in the report's.
    """
    if axes is not None:
        chart.draw(axes)
        tidy(axes)
        return _literal(axes)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(WIDTH, WIDTH * chart.height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        chart.draw(axes)
        tidy(axes)
    return _literal(axes)


def _literal(axes: Any) -> Any:
    """With a dollar in a name left a dollar."""
    ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    for each in [*axes.texts, *ticks, axes.xaxis.label, axes.yaxis.label, axes.title]:
        each.set_parse_math(False)
    return axes


def legend(axes: Any, columns: int = 3) -> None:
    """The legend above the axes, where no line can run through it."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    axes.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns,
        borderaxespad=0.2,
    )  # fmt: skip


def picture(chart: Chart, left: float = LEFT, prefix: str = "") -> str:
    """The chart as an SVG element to stand inside a page.

    Args:
        left: share of the width for the numbers of the vertical axis.
        prefix: put before its name in ids.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(WIDTH, WIDTH * chart.height), dpi=72)
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_axes((left, 0.15, 0.98 - left, 0.8))
        chart.draw(axes)
        tidy(axes)
        _fit(figure, axes, left)
        file = io.StringIO()
        with warnings.catch_warnings():  # the page's font has the letters that this one lacks
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
            canvas.print_svg(file)
    return for_page(file.getvalue(), prefix=prefix + chart.name, label=chart.title)


def _fit(figure: Any, axes: Any, left: float) -> None:
    """Room for the words around the axes, in so many lines of them: quicker than a layout."""
    line = 1.45 * FONT_SIZE / (72 * figure.get_figheight())
    found = axes.get_legend()
    rows = math.ceil(len(found.get_texts()) / found._ncols) if found else 0
    bottom = 2.45 * line if axes.get_xlabel() else 1.6 * line
    top = 1 - (rows + 0.5 if rows else 0.5) * line
    axes.set_position((left, bottom, 0.985 - left, top - bottom))
    axes.yaxis.set_label_coords(0.012, (bottom + top) / 2, transform=figure.transFigure)
    axes.yaxis.label.set_va("top")
    axes.xaxis.set_label_coords(left + (0.985 - left) / 2, 0.015, transform=figure.transFigure)
    axes.xaxis.label.set_va("bottom")


def for_page(svg: str, *, prefix: str, label: str, variables: Mapping[str, str] = VARIABLES) -> str:
    """matplotlib's SVG as an element of a page that holds others.

    Colours become variables, ids begin with the prefix, fonts are the page's; what is said of
    the file itself is left out, and positions are rounded to a tenth.
    """
    root = ElementTree.fromstring(svg)
    for element in list(root):
        if element.tag.endswith("}metadata"):
            root.remove(element)
    for parent in root.iter(f"{{{_SVG}}}defs"):
        for element in list(parent):
            if element.tag.endswith("}style"):  # it would hold for the whole page
                parent.remove(element)
    view = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": label, "class": "picture"})
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    for element in root.iter():
        _mend(element, prefix, used, variables)
    ElementTree.register_namespace("", _SVG)
    # Surrogates never reach this place; what is left is text that XML can hold.
    return ElementTree.tostring(root, encoding="unicode")


def _mend(element: Any, prefix: str, used: set[str], variables: Mapping[str, str]) -> None:
    for name, value in list(element.attrib.items()):
        if name == "id":
            del element.attrib["id"]
            if value in used:
                element.set("id", f"{prefix}-{value}")
        elif name == _XLINK:
            del element.attrib[name]
            element.set("href", f"#{prefix}-{value[1:]}")
        elif name == "clip-path":
            element.set(name, value.replace("url(#", f"url(#{prefix}-"))
        elif name == "style":
            found = _COLOUR.sub(lambda m: _variable(m[0], variables), value)
            found = _FAMILY.sub(lambda m: f"font-size: {m[1]}" if m[1] else "", found)
            element.set(name, found)
        elif name == "d":
            short = " ".join(_NUMBER.sub(lambda m: f"{float(m[0]):.1f}", value).split())
            element.set(name, short.replace(".0 ", " "))
    if element.tag.endswith("}text"):
        element.set("direction", "ltr")
        element.set("unicode-bidi", "plaintext")
    for part in ("text", "tail"):
        if not (getattr(element, part) or "").strip() and not element.tag.endswith("}text"):
            setattr(element, part, None)


def _variable(colour: str, variables: Mapping[str, str]) -> str:
    return f"var({variables[colour]})" if colour in variables else colour
