"""Charts in one style: on your own matplotlib axes, and as SVG inside the page.

The colours are those of Okabe and Ito, distinct for colour-blind readers too; lines also differ
in their dashes. In the page each colour becomes a CSS variable, so that one picture suits a
light screen, a dark screen and paper.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from downslope.report.blocks import Chart
from downslope.report.words import MINUS, brief

WIDTH = 5.2  # inches at 72 units each: narrow enough to be read on a phone
FONT_SIZE = 11
LEFT = 0.135  # share of the width for the numbers of the vertical axis
MAX_MARKERS = 60  # points of a line with markers; more would hide it
MAX_TICKS = 6
INK, MUTED, LINE, PAPER = "#1c2024", "#5b636b", "#d8dce0", "#fdfdfe"
BLUE, RED, GREEN, PURPLE, AMBER, SKY = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
)  # fmt: skip
# The variables of page.css in place of the colours.
VARIABLES = {
    INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper", BLUE: "--blue",
    RED: "--red", GREEN: "--green", PURPLE: "--purple", AMBER: "--amber", SKY: "--sky",
}  # fmt: skip
# A colour and dashes for each series of a chart.
STYLES = (
    (BLUE, "-"), (RED, "--"), (GREEN, "-."), (PURPLE, ":"), (AMBER, (0, (6, 2))),
    (SKY, (0, (4, 1, 1, 1, 1, 1))), (INK, (0, (1, 1))),
)  # fmt: skip

_STYLE_FILE = Path(__file__).parent / "templates" / "page.mplstyle"
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_NUMBER = re.compile(r"-?\d+\.\d+")
_FAMILY = re.compile(r"font: ([\d.]+px) [^;]*|font-family: [^;]*")


def style() -> Any:
    """The report's style, for a `with` block; matplotlib's settings are restored after it."""
    import matplotlib

    return matplotlib.rc_context(fname=_STYLE_FILE)


def own_axes(chart: Chart, axes: Any = None) -> Any:
    """The chart on matplotlib's axes: those given, or new ones, without pyplot.

    Args:
        axes: to draw on, in their own style; None for new ones in the report's.
    """
    if axes is not None:
        return _drawn(chart, axes)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(WIDTH, WIDTH * chart.height), layout="constrained")
        FigureCanvasAgg(figure)
        return _drawn(chart, figure.add_subplot())


def _drawn(chart: Chart, axes: Any) -> Any:
    """The axes with the chart on them, its legend and plain ticks."""
    chart.draw(axes)
    handles, labels = axes.get_legend_handles_labels()
    if handles:  # above the axes, where no line runs through it
        columns = 2 if max(map(len, labels)) > 13 else 3
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns,
                    borderaxespad=0.2)  # fmt: skip
    plain_ticks(axes)
    texts = [axes.xaxis.label, axes.yaxis.label, axes.title, *axes.texts]
    for each in [*texts, *axes.get_xticklabels(), *axes.get_yticklabels()]:
        each.set_parse_math(False)  # a dollar in a name stays a dollar
    return axes


def plain_ticks(axes: Any) -> None:
    """Set few ticks with plain labels, such as 20k, where a chart has set none itself.

    Matplotlib's own labels of logarithms are formulas, which the page does not render.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        is_log = axis.get_scale() == "log"
        if is_log:
            axis.set_minor_locator(NullLocator())
        if isinstance(axis.get_major_locator(), FixedLocator):
            continue
        lo, hi = sorted(limits)
        decades = math.log10(hi / lo) if is_log and lo > 0 else 0.0
        if decades > 2:
            locator = LogLocator(numticks=MAX_TICKS + 1)
        elif decades > 0.7:
            locator = LogLocator(subs=(1, 2, 5), numticks=MAX_TICKS + 1)
        else:
            locator = MaxNLocator(MAX_TICKS - 1, steps=[1, 2, 2.5, 5, 10])
        axis.set_major_locator(locator)
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))


def tick_label(value: float) -> str:
    """A tick in few characters.

    Example:
        >>> [tick_label(each) for each in (0.0, 0.25, 50_000, 1.5e6, 1e-5)]
        ['0', '0.25', '50k', '1.5M', '1e-05']
    """
    shown = brief(value, 6)
    return MINUS + shown[1:] if shown.startswith("-") else shown


def markers(points: Sequence[Any]) -> str:
    """Marker of a line of these points; none where they are many."""
    return "o" if len(points) < MAX_MARKERS else ""


def band(
    axes: Any,
    points: Sequence[tuple[float, float | None, float, float]],
    colour: str,
    label: str | None = None,
) -> None:
    """Draw a line with the band of its intervals, or one point with its bar.

    Args:
        points: place, value (None where only bounds are known) and ends of the interval.
    """
    if len(points) > 1:
        xs, _, los, his = zip(*points, strict=True)
        axes.fill_between(xs, los, his, color=colour, alpha=0.16, linewidth=0)
    known = [(x, y, lo, hi) for x, y, lo, hi in points if y is not None]
    if not known:
        return
    _, y, lo, hi = known[0]
    bar = [[max(0.0, y - lo)], [max(0.0, hi - y)]] if len(known) == 1 else None
    axes.errorbar([p[0] for p in known], [p[1] for p in known], yerr=bar, color=colour,
                  fmt=f"{markers(known)}-", markersize=3.5, label=label)  # fmt: skip


def picture(chart: Chart, left: float = LEFT, prefix: str = "") -> str:
    """The chart as an SVG element for use inside a page.

    Args:
        left: share of the width for the numbers of the vertical axis.
        prefix: put before its name in ids.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(WIDTH, WIDTH * chart.height), dpi=72)
        canvas = FigureCanvasSVG(figure)
        _fit(figure, _drawn(chart, figure.add_axes((left, 0.15, 0.98 - left, 0.8))), left)
        file = io.StringIO()
        with warnings.catch_warnings():  # the page's font has the letters that this one lacks
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
            canvas.print_svg(file)
    return for_page(file.getvalue(), prefix=prefix + chart.name, label=chart.title)


def _fit(figure: Any, axes: Any, left: float) -> None:
    """Leave room around the axes for their lines of text: faster than a layout engine."""
    line = 1.45 * FONT_SIZE / (72 * figure.get_figheight())
    found = axes.get_legend()
    rows = math.ceil(len(found.get_texts()) / found._ncols) if found else 0
    bottom = 2.45 * line if axes.get_xlabel() else 1.6 * line
    top = 1 - (rows + 0.5) * line
    axes.set_position((left, bottom, 0.985 - left, top - bottom))
    axes.yaxis.set_label_coords(0.012, (bottom + top) / 2, transform=figure.transFigure)
    axes.yaxis.label.set_va("top")
    axes.xaxis.set_label_coords(left + (0.985 - left) / 2, 0.015, transform=figure.transFigure)
    axes.xaxis.label.set_va("bottom")


def for_page(svg: str, *, prefix: str, label: str) -> str:
    """Matplotlib's SVG as an element of a page that holds others.

    Colours become variables, ids begin with the prefix, fonts are the page's; metadata and
    styles are removed, and positions are rounded to a tenth.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for element in list(parent):
            if element.tag.endswith(("}metadata", "}style")):  # a style would apply to the page
                parent.remove(element)
    view = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": label, "class": "picture"})
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    for element in root.iter():
        _adapt(element, prefix, used)
    ElementTree.register_namespace("", _SVG)
    # Surrogates never get this far; what is left is text that XML can hold.
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: Any, prefix: str, used: set[str]) -> None:
    """Adapt the attributes of one element to the page."""
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
            found = _COLOUR.sub(lambda m: f"var({VARIABLES[m[0]]})" if m[0] in VARIABLES else m[0],
                                value)  # fmt: skip
            element.set(name, _FAMILY.sub(lambda m: f"font-size: {m[1]}" if m[1] else "", found))
        elif name == "d":
            short = " ".join(_NUMBER.sub(lambda m: f"{float(m[0]):.1f}", value).split())
            element.set(name, short.replace(".0 ", " "))
    if element.tag.endswith("}text"):
        element.set("direction", "ltr")
        element.set("unicode-bidi", "plaintext")
    elif not (element.text or "").strip():
        element.text = None
    if not (element.tail or "").strip():
        element.tail = None
