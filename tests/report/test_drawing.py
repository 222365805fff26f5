"""Pictures for a page: one colour scheme after another, ids that do not collide, text as text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib
import pytest

from downslope.report import drawing
from downslope.report.blocks import CellTable, Chart

NAME = "$x_1$ </text> #0072b2 <script> \u05e9\u05dc\u05d5\u05dd"


def chart(name="one", words=NAME):
    def draw(ax):
        ax.plot([0, 1, 2], [1, 100, 1e4], color=drawing.BLUE, label=words)
        ax.fill_between([0, 1, 2], [1, 1, 1], [2, 3, 4], color=drawing.RED, alpha=0.2)
        ax.set_yscale("log")
        ax.set_xlabel(words)

    return Chart(name=name, title="<b> & more", reading="", table=CellTable(head=(), rows=()),
                 draw=draw)  # fmt: skip


def test_colours_are_variables_outside_text_only() -> None:
    """Catches a colour that stays light on a dark page, and a name that is taken for one."""
    root = ElementTree.fromstring(drawing.picture(chart()))
    texts = [e.text for e in root.iter() if e.tag.endswith("}text")]
    styles = " ".join(e.get("style", "") for e in root.iter())
    assert texts.count(NAME) == 2  # label and legend
    assert not re.search(r"#[0-9a-f]{6}", styles)
    assert {"var(--blue)", "var(--red)", "var(--line)", "var(--ink)"} <= set(
        re.findall(r"var\(--\w+\)", styles)
    )
    assert "font-family" not in styles and "DejaVu" not in styles


def test_ids_and_references_belong_to_their_picture() -> None:
    """Catches two pictures that clip each other."""
    one, two = drawing.picture(chart("one")), drawing.picture(chart("two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', each)) for each in (one, two)]
    used = [set(re.findall(r'(?:url\(#|href="#)([^")]+)', each)) for each in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    assert ids == used


def test_nothing_of_the_file_is_left() -> None:
    """Catches styles that hold for the whole page, a date, and names of outer places."""
    svg = drawing.picture(chart())
    for word in ("<style", "metadata", "DOCTYPE", "<?xml", "xlink", "Matplotlib"):
        assert word not in svg
    assert set(re.findall(r"https?://[^\"]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert 'role="img" aria-label="&lt;b&gt; &amp; more"' in svg
    assert svg == drawing.picture(chart()), "the same numbers give the same picture"


@pytest.mark.parametrize("values", [(1, 1e4), (12, 17), (0.2, 0.9)])
def test_labels_of_logarithms_are_plain(values) -> None:
    """Also where less than a decade is shown, whose labels are those of minor ticks."""

    def draw(ax):
        ax.plot([1, 2], values)
        ax.set_yscale("log")

    table = CellTable(head=(), rows=())
    svg = drawing.picture(Chart(name="a", title="", reading="", table=table, draw=draw))
    assert "mathdefault" not in svg
    assert svg.count("<text") >= 4


def test_labels_of_powers_of_ten() -> None:
    svg = drawing.picture(chart(words="x"))
    assert "mathdefault" not in svg
    assert ">10k<" in svg and ">100<" in svg


def test_settings_are_as_before() -> None:
    """Catches a reader's own style that is changed by looking at a report."""
    before = dict(matplotlib.rcParams)
    drawing.picture(chart())
    drawing.own_axes(chart())
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("given", [False, True])
def test_axes_for_papers(given) -> None:
    """Catches a dollar that is taken for a formula, which raises when drawn."""
    from matplotlib.figure import Figure

    own = Figure().add_subplot() if given else None
    ax = drawing.own_axes(chart(), own)
    assert (ax is own) is given
    ax.figure.canvas.draw_idle()
    assert ax.get_xlabel() == NAME
    assert ax.lines[0].get_color() == "#0072b2"
