"""The report as a file: whole or absent, small, by itself, also for odd and damaged runs."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
import subprocess
import sys
from importlib import resources

import pytest

import downslope
from downslope.errors import DataError, DownslopeError, UsageError
from downslope.report import RunReader, page, write_report

PARTS = ("verdict", "descent", "noise", "machine", "landscape", "data", "record")


@pytest.mark.slow
def test_one_file_by_itself(told, tmp_path) -> None:
    """Catches a script, an outer address, a part left out, a page that grows."""
    path = write_report([told], tmp_path / "a.html")
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 500_000
    assert all(f'<section id="{part}">' in text for part in PARTS)
    assert "default-src 'none'" in text
    assert not re.search(r"<script|@import|\ssrc=|url\((?!#)|javascript:", text)
    outer = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert outer == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "cannot be" not in text
    assert text.count("<summary>Numbers</summary>") == text.count("<svg") == 16


@pytest.mark.slow
def test_it_lies_in_the_run_unless_told(bare, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(bare, run)
    assert write_report(run) == run / "report.html"
    assert sorted(p.name for p in run.glob(".*")) == []
    assert RunReader(run).report(tmp_path / "b.html") == tmp_path / "b.html"


@pytest.fixture
def blank(monkeypatch):
    """Pages without charts, for tests of how they are written."""
    monkeypatch.setattr(page, "one_run", lambda run: "<!DOCTYPE html>")


@pytest.mark.usefixtures("blank")
def test_a_failed_writing_leaves_the_old_file(bare, tmp_path, monkeypatch) -> None:
    """Catches a report written in place, which a full disk would cut short."""
    path = tmp_path / "a.html"
    path.write_text("old")

    def full(scratch, content):
        scratch.write_bytes(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "write_bytes", full)
    with pytest.raises(downslope.CapacityError):
        write_report([bare], path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]


@pytest.mark.usefixtures("blank")
def test_who_reads_the_old_report_meanwhile_reads_it_to_its_end(bare, tmp_path) -> None:
    """Catches a file that is emptied and filled again."""
    path = tmp_path / "a.html"
    path.write_text("old")
    with open(path) as reader:
        write_report([bare], path)
        assert reader.read() == "old"


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("out", ["folder", "absent/a.html", "file/a.html"])
def test_where_nothing_can_be_written(bare, tmp_path, out) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        write_report([bare], tmp_path / out)
    assert "\n" not in str(error.value) and str(tmp_path / out) in str(error.value)


def _edit(name, change):
    def spoil(run):
        path = run / name
        path.write_text(change(path.read_text()))

    return spoil


@pytest.mark.parametrize("spoil", [
    shutil.rmtree,
    lambda run: (run / "run.json").unlink(),
    _edit("run.json", lambda text: text[:-20]),
    _edit("run.json", lambda text: text.replace('"epochs": 4', '"epochs": 5')),
    _edit("run.json", lambda text: "[]"),
    _edit("run.json", lambda text: '{"format": "another"}'),
    _edit("result.json", lambda text: "[1]"),
    _edit("result.json", lambda text: "{"),
    lambda run: ((run / "journal.jsonl").unlink(), (run / "journal.jsonl").mkdir()),
])  # fmt: skip
def test_damaged_and_foreign_folders(bare, tmp_path, spoil) -> None:
    """One line that names the folder or file; never a traceback of ours."""
    run = tmp_path / "run"
    shutil.copytree(bare, run)
    spoil(run)
    with pytest.raises(DataError) as error:
        write_report([run])
    assert str(run) in str(error.value) and "\n" not in str(error.value)
    assert not (run / "report.html").exists()


def test_damaged_lines_cost_only_themselves(bare, tmp_path) -> None:
    """Catches a page that is refused for a line that holds no record."""
    run = tmp_path / "run"
    shutil.copytree(bare, run)
    before = RunReader(run).records
    lines = ["[1, 2]", '{"event": "resumed"}', '{"event": "x", "step": "y"}', '{"step": 3}']
    _edit("journal.jsonl", lambda text: "\n".join([text, *lines, ""]))(run)
    assert RunReader(run).records == before
    assert write_report([run]).exists()


def test_a_run_cut_short_by_a_crash(told, tmp_path) -> None:
    """A journal that ends in the middle of a line, and no summary."""
    run = tmp_path / "run"
    shutil.copytree(told, run)
    (run / "result.json").unlink()
    text = (run / "journal.jsonl").read_text()
    (run / "journal.jsonl").write_text(text[: len(text) // 2])
    shown = write_report([run]).read_text(encoding="utf-8")
    assert "This run has not ended" in shown and "cannot be read" not in shown
    (run / "journal.jsonl").unlink()
    assert "its latest record is of step 0" in write_report([run]).read_text(encoding="utf-8")


ODD = (None, "text", -1, 0, 1e308, -1e308, 10**30, [], {}, [None], {"value": None}, True, "<b>")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_odd_values_never_cost_the_page(told, tmp_path, seed) -> None:
    """Values of records replaced at random: each part is still shown, and no number is NaN."""
    draw = random.Random(seed)
    run = tmp_path / "run"
    shutil.copytree(told, run)
    lines = (run / "journal.jsonl").read_text().splitlines()
    records = [_spoiled(json.loads(line), draw) for line in lines]
    (run / "journal.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    try:
        text = write_report([run]).read_text(encoding="utf-8")
    except DownslopeError as error:
        pytest.fail(str(error))
    assert not re.findall(r"cannot be (?:read|drawn)[^<]*", text)
    assert not re.search(r"\b(nan|inf)\b", text)


def _spoiled(record, draw):
    """A value somewhere in the record is replaced; its event is not, and it stays a record."""
    record = copy.deepcopy(record)
    place, path = record, []
    for _ in range(draw.randrange(1, 5)):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        keys = [key for key in keys if path or key not in ("event", "step")]
        if not keys:
            return record
        path = [*path, draw.choice(keys)]
        if not isinstance(place[path[-1]], (dict, list)) or draw.random() < 0.3:
            place[path[-1]] = draw.choice(ODD)
            return record
        place = place[path[-1]]
    return record


@pytest.mark.slow
def test_hostile_names_are_escaped(hostile, tmp_path) -> None:
    path = write_report([hostile], tmp_path / "a.html")
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 500_000
    assert not re.search(r"<script|<img|<b o", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\u202e" not in text and "\\u202e" in text
    assert "x" * 100 not in text and "(1,000,000 characters)" in text
    assert "{{ 7 * 7 }}" in text


def test_several_runs_side_by_side(told, bare, hostile, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_report([told, bare, hostile])
    assert path.resolve() == tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    assert "Key figures" in text and "Settings that differ" in text
    assert "trained on different data" in text
    assert "trained on the same data" in write_report([told, bare]).read_text(encoding="utf-8")
    assert text.count("<svg") == 2


@pytest.mark.parametrize("count", [0, 9])
def test_how_many_runs(bare, count) -> None:
    with pytest.raises(UsageError, match=f"1 to 8 folders; got {count}"):
        write_report([bare] * count)


def test_importing_is_light() -> None:
    code = (
        "import sys, downslope.report, downslope.report.run\n"
        "heavy = {'matplotlib', 'jinja2', 'jax', 'scipy', 'numpy.testing'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "downslope.RunReader\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=180)


@pytest.mark.slow
def test_a_report_loads_no_jax(told, tmp_path) -> None:
    code = (
        "import sys\nfrom downslope.report import write_report\n"
        f"write_report({str(told)!r}, {str(tmp_path / 'a.html')!r})\n"
        "assert not {'jax', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=180)


# --- colours ---------------------------------------------------------------------------------


def _schemes():
    text = (resources.files("downslope.report") / "templates" / "page.css").read_text()
    blocks = [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.split("@media", text)]
    light, dark, paper = (block for block in blocks if "ink" in block)
    return {"light": light, "dark": light | dark, "print": light | paper}


def _light(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_contrast(scheme) -> None:
    """4.5:1 for every colour of words on every ground (WCAG 2.2, 1.4.3); 3:1 for lines, but the
    two palest of the palette, which their dashes tell apart.
    """
    colours = _schemes()[scheme]

    def ratio(one, other):
        high, low = sorted((_light(colours[one]), _light(colours[other])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    words = ("ink", "muted", "accent", "error", "warning", "note", "fine")
    grounds = ("paper", "card", "wash")
    assert min(ratio(w, g) for w in words for g in grounds) >= 4.5
    assert min(ratio(line, "card") for line in ("blue", "red", "green")) >= 3
    assert min(ratio(line, "card") for line in ("purple", "amber", "sky")) >= 2


# --- Run -------------------------------------------------------------------------------------


def test_run_in_a_notebook(told) -> None:
    run = downslope.RunReader(told)
    text = run._repr_html_()
    assert text.count("<svg") == 1 and "Most worth doing next" in text and "<script" not in text
    assert run.asked["training"]["epochs"] == 4
    assert run.summary["num_steps"] == run.records[-12]["step"]  # evidence follows "stopped"


def test_plots_for_papers(told) -> None:
    from matplotlib.figure import Figure

    run = downslope.RunReader(told)
    for name in ("descent", "noise", "signal", "step_time", "stability", "slice", "path",
                 "importance", "calibration", "residuals"):  # fmt: skip
        ax = getattr(run, f"plot_{name}")()
        assert ax.has_data() and ax.get_xlabel(), name
    ax = Figure().add_subplot()
    assert run.plot_descent(ax, over="time") is ax and ax.get_xlabel() == "seconds"


def test_plots_that_cannot_be(bare) -> None:
    run = downslope.RunReader(bare)
    with pytest.raises(DataError, match="no chart of 'slice'"):
        run.plot_slice()
    with pytest.raises(UsageError, match="got 'slope'"):
        run.plot("slope")
