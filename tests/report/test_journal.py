"""Tests of `downslope.report.journal`: lines that are only appended, also after a crash."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from downslope.report.journal import Journal, read_journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def write(path, *records):
    journal = Journal(path)
    for event, step in records:
        journal.write(event, step=step)
    journal.close()
    return journal.records


def steps(records):
    return [(r["event"], r["step"]) for r in records]


def test_records_are_lines_that_readers_see_at_once(path):
    """Catches records kept back in a buffer, and readers called with other than what is written."""
    seen = []
    journal = Journal(path, [seen.append])
    journal.write("progress", step=1, loss=0.5, metrics={"a": [1, (2,)]})
    expected = {"event": "progress", "step": 1, "loss": 0.5, "metrics": {"a": [1, [2]]}}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [expected]
    assert seen == journal.records == [expected]
    journal.close()


def test_without_a_file_records_are_kept_in_memory():
    """Catches a journal that needs a folder."""
    journal = Journal(None)
    journal.write("started", step=0)
    journal.close()
    assert steps(journal.records) == [("started", 0)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_become_null(path, value):
    """Catches NaN and Infinity, which no JSON reader must accept."""
    journal = Journal(path)
    journal.write("progress", step=1, loss=value, deep={"x": [value]})
    journal.close()
    (record,) = read_journal(path)
    assert record["loss"] is None and record["deep"] == {"x": [None]}


@pytest.mark.parametrize("rest", ['{"event": "progress", "st', "{", '{"event": "progr\x00\x00'])
def test_a_line_cut_by_a_crash_is_passed_over(path, rest):
    """Catches a journal that cannot be opened again, or one whose next record is lost too."""
    write(path, ("started", 0), ("saved", 5))
    with open(path, "a") as file:
        file.write(rest)
    assert steps(read_journal(path)) == [("started", 0), ("saved", 5)]
    write(path, ("resumed", 5), ("progress", 6))
    expected = [("started", 0), ("saved", 5), ("resumed", 5), ("progress", 6)]
    assert steps(read_journal(path)) == expected
    assert rest in path.read_text()  # lines are only ever appended


def test_a_whole_last_line_gets_no_blank_line(path):
    """Catches a newline added at each opening."""
    write(path, ("started", 0))
    write(path, ("resumed", 0))
    assert len(path.read_text().splitlines()) == 2


def test_what_a_crash_made_the_run_repeat_is_forgotten(path):
    """Catches curves that go back in time, and repeated records counted twice."""
    write(path, ("started", 0), ("progress", 5), ("saved", 10), ("progress", 15), ("evaluated", 20))
    kept = write(path, ("resumed", 10), ("progress", 13), ("saved", 14), ("progress", 18))
    expected = [
        ("started", 0),
        ("progress", 5),
        ("saved", 10),
        ("resumed", 10),
        ("progress", 13),
        ("saved", 14),
        ("progress", 18),
    ]
    assert steps(kept) == steps(read_journal(path)) == expected
    kept = write(path, ("resumed", 14))
    assert steps(kept) == [*expected[:-1], ("resumed", 14)]
    assert len(path.read_text().splitlines()) == 10  # nothing was removed from the file


def test_records_without_a_step_are_kept(path):
    """Catches a KeyError for what has no place in the run."""
    journal = Journal(path)
    journal.write("note", text="hello")
    journal.write("resumed", step=3)
    journal.close()
    assert [r["event"] for r in read_journal(path)] == ["note", "resumed"]


def test_no_journal_yet(path):
    """Catches an error where a run has just been made."""
    assert read_journal(path) == []


FULL = """
import resource, sys
from pathlib import Path
from downslope.errors import CapacityError
from downslope.report.journal import Journal

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
journal = Journal(Path(sys.argv[1]))
try:
    for step in range(100):
        journal.write("progress", step=step)
except CapacityError as error:
    print(step, error, flush=True)
import os
os._exit(0)
"""


def test_a_full_disk(path):
    """Catches a bare OSError, and whole lines that are lost with the one that found no room."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=180
    )
    step, message = done.stdout.split(" ", 1)
    assert message.startswith(f"{path}: the disk is full")
    assert steps(read_journal(path)) == [("progress", i) for i in range(int(step))]


def test_what_was_undone_does_not_count_and_stays_in_the_file(path):
    """Catches a history with updates that were taken back, one without the decision that took
    them back, and a file that is rewritten.
    """
    given = [("progress", 3), ("evaluated", 7), ("undone", 5), ("decided", 5), ("progress", 6)]
    kept = [("progress", 3), ("undone", 5), ("decided", 5), ("progress", 6)]
    assert steps(write(path, *given)) == kept
    assert steps(read_journal(path)) == kept
    assert len(path.read_text().splitlines()) == len(given)


@pytest.mark.parametrize(
    "line",
    ["5", "null", "[]", '{"event":"undone"}', '{"event":5}', '{"event":"progress","step":"a"}'],
)
def test_lines_of_another_shape_are_passed_over(path, line):
    """Catches a damaged journal that ends the report, or a resume, with a traceback."""
    write(path, ("progress", 1))
    path.write_text(path.read_text() + line + "\n")
    write(path, ("progress", 2))
    assert steps(read_journal(path)) == [("progress", 1), ("progress", 2)]


def test_a_reader_that_fails_costs_only_itself():
    """Catches a logger whose lost connection ends the training."""
    seen = []

    def broken(record):
        raise ConnectionError("gone")

    journal = Journal(None, [broken, seen.append])
    with pytest.warns(RuntimeWarning, match="ConnectionError: gone"):
        journal.write("progress", step=1)
    journal.write("progress", step=2)
    assert [r["event"] for r in seen] == ["reader lost", "progress", "progress"]
    assert [r["event"] for r in journal.records] == ["progress", "reader lost", "progress"]
