"""The scripts of the story run, at a small size, and the claim of each chapter holds in them."""

from __future__ import annotations

import re
import runpy
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "examples" / "story"
PAGES = ROOT / "docs" / "story"
MOST_BYTES = 60_000
TEXT = "{http://www.w3.org/2000/svg}text"

Numbers = dict[str, float]


def three_descents(found: Numbers) -> None:
    rows, steps = (
        {way: found[f"{what}, {way}"] for way in ("all rows", "one row", "32 rows")}
        for what in ("rows", "steps")
    )
    assert rows["one row"] < rows["32 rows"] < rows["all rows"] / 4
    assert steps["all rows"] < steps["32 rows"] < steps["one row"] / 4
    assert found["uphill, all rows"] == 0 < found["uphill, one row"]
    assert found["largest difference in parts"] < 1e-5


def saw_tooth(found: Numbers) -> None:
    assert 0.35 < found["rises at the floor, batch 8"] < 0.6
    assert abs(found["rises on the way, seen"] - found["rises on the way, told"]) < 0.12
    assert found["mean loss at the floor, batch 128"] < found["mean loss at the floor, batch 8"]
    assert found["median of those angles, 200 weights"] < 97  # obtuse, not opposite
    assert found["median of those angles, 2 weights"] > 105
    assert found["over 90 degrees at one row, 200 weights"] > 0.4
    assert found["over 90 degrees at 64 rows, 200 weights"] < 0.05


def shuffling(found: Numbers) -> None:
    assert found["loss, downslope.fit"] < 0.8 * found["loss, buffer of 5 %"]
    assert found["loss, buffer of 5 %"] < found["loss, front to back"]
    assert found["factor, sorted"] == pytest.approx(50, rel=0.02)
    assert found["factor, buffer 5%"] > 25
    assert found["factor, buffer 100%"] == pytest.approx(1, abs=0.25)


def sweet_spot(found: Numbers) -> None:
    """Times are not held: another program may run beside the test."""
    steps = {size: found[f"steps at {size}"] for size in (16, 64, 256, 1024)}
    assert steps[16] > 2 * steps[64] > 4 * steps[256] > 4 * steps[1024]
    assert 16 * steps[16] < 1024 * steps[1024] / 1.5  # and pays in rows
    assert found["near from"] <= found["best batch, by the law"] <= found["near to"]
    assert found["near to"] > 2 * found["near from"]


def saddle(found: Numbers) -> None:
    assert found["all rows, start 0: largest distance"] == 0
    assert found["two factors, one row a step: largest distance"] == 0
    assert found["steps, most noise"] == pytest.approx(found["told, most noise"], rel=0.15)
    assert found["steps, least noise"] == pytest.approx(found["told, least noise"], rel=0.15)
    assert found["times longer"] < 3  # a hundred times longer would be the root of the variance
    assert found["all rows, from beside: steps"] == pytest.approx(
        found["all rows, from beside: told"], rel=0.02
    )


def temperature(found: Numbers) -> None:
    assert found["largest of three at one ratio, over least"] < 1.25
    assert found["plain, seen over told"] == pytest.approx(1, abs=0.15)
    assert found["momentum, seen over rate / (2 batch)"] == pytest.approx(10, rel=0.2)
    assert found["slowest direction, share of its heat"] == pytest.approx(
        found["slowest direction, told"], rel=0.5
    )
    assert found["fastest direction, share of its heat"] == pytest.approx(1, abs=0.2)
    hot, cold = (found[f"height at the end, {name}"] for name in ("hot", "cold"))
    for cooled in ("rate / 4 at 60", "batch x 4 at 60"):
        assert 0.15 * hot < found[f"height at the end, {cooled}"] < 0.4 * hot < cold


def heavy_tails(found: Numbers) -> None:
    assert found["slope, Gaussian"] == pytest.approx(-0.5, abs=0.08)
    assert found["slope, alpha = 1.5"] == pytest.approx(-1 / 3, abs=0.08)
    assert found["slope, alpha = 1"] == pytest.approx(0, abs=0.08)
    assert found["variance x 64 over the table's"] == pytest.approx(1, abs=0.25)
    rests = [found[f"rests at, threshold {t}"] for t in ("0.5", "1", "2", "4")]
    told = [found[f"told, threshold {t}"] for t in ("0.5", "1", "2", "4")]
    assert rests == pytest.approx(told, abs=0.05)
    assert rests[0] < 0.8 < 0.9 < found["rests at, not clipped"]
    assert found["furthest away, at 3"] < found["furthest away, not clipped"] / 2


CHAPTERS: dict[Callable[[Numbers], None], dict[str, Any]] = {
    three_descents: {"rows": 512, "most": 800, "tries": 1},
    saw_tooth: {"rows": 2048, "steps": 200, "pairs": 300},
    shuffling: {"epochs": 3, "shares": 4},
    sweet_spot: {"rows": 8192, "sizes": (16, 64, 256, 1024), "repeats": 3},
    saddle: {"num": 100, "steps": 1500, "noises": (1.0, 0.01)},
    temperature: {"walkers": 32, "steps": 2500},
    heavy_tails: {"num": 32_000, "steps": 12_000},
}
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
@every_chapter
def test_the_claim_of_a_chapter(
    chapter: Callable[[Numbers], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a chapter whose numbers no longer say what it says."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    main = runpy.run_path(str(SCRIPTS / f"{chapter.__name__}.py"))["main"]
    found = main(out=tmp_path / "picture.svg", **CHAPTERS[chapter])
    chapter(found)
    _check_picture(tmp_path / "picture.svg")


@every_chapter
def test_the_picture_of_a_chapter(chapter: Callable[[Numbers], None]) -> None:
    """Catches a page without its picture, and a picture that is too large or has raw TeX in it."""
    name = chapter.__name__.replace("_", "-")
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert re.search(rf"!\[[^\]]{{20,}}\]\(pictures/{name}\.svg\)", page), "with a text instead"
    assert f"examples/story/{chapter.__name__}.py" in page
    _check_picture(PAGES / "pictures" / f"{name}.svg")


def _check_picture(picture: Path) -> None:
    assert picture.stat().st_size < MOST_BYTES
    words = [each.text or "" for each in ElementTree.parse(picture).iter(TEXT)]
    assert len(words) > 10
    assert not [word for word in words if "mathdefault" in word or "$" in word]


def test_every_script_has_a_chapter() -> None:
    """Catches a script that is added and never run."""
    names = {script.stem for script in SCRIPTS.glob("*.py")} - {"trail"}
    assert names == {chapter.__name__ for chapter in CHAPTERS}
    pages = {page.stem.replace("-", "_") for page in PAGES.glob("*.md")} - {"index"}
    assert pages == names
