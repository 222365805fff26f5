"""The line that says how a run is doing."""

from __future__ import annotations

import contextlib
import io
import pty
import re

import pytest

from downslope.report import progress
from downslope.report.progress import (
    Progress,
    duration,
    held_out_text,
    noise_text,
    progress_text,
)
from downslope.report.words import brief


def record(step, **more):
    values = {"epoch": 1, "loss": 0.5, "fraction": 0.25, "seconds": 30.0, "waiting_share": 0.0}
    values |= {"examples_per_second": 1000.0}
    return {"event": "progress", "step": step} | values | more


STARTED = {"event": "started", "step": 0, "shuffling": "rows are shuffled"}
EVALUATED = {"event": "evaluated", "metrics": {"accuracy": {"value": 0.98765}, "auc": {"value": 1}}}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_now_and_then(clock, capsys):
    """Catches a log with a line for every record, control codes in it, and a wrong stream."""
    stream = io.StringIO()
    with Progress(stream) as show:
        show(STARTED)
        show(EVALUATED)
        for second in range(45):
            clock[0] = 100.0 + second
            show(record(second))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "rows are shuffled"
    assert [re.search(r"step (\d+)", line)[1] for line in lines[1:]] == ["10", "20", "30", "40"]
    assert lines[1].endswith("; held out: accuracy 0.9877")
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()
    assert capsys.readouterr() == ("", "")


def test_a_long_sentence_stays_one_line():
    """Catches a message cut or wrapped at 80 columns, which a script could not search."""
    stream = io.StringIO()
    sentence = "column 'a' [bold]" + " and so on" * 30
    with Progress(stream) as show:
        show.say(sentence)
    assert stream.getvalue() == sentence + "\n"


def test_what_happened_is_said():
    """Catches a divergence or a resumption passed over in silence."""
    stream = io.StringIO()
    with Progress(stream) as show:
        show({"event": "resumed", "step": 1234, "shuffling": "shuffled"})
        show({"event": "diverged", "step": 1000, "bad_step": 1100})
        show({"event": "saved", "step": 1})
        show({"event": "stopped", "step": 1})
    assert stream.getvalue().splitlines() == [
        "resumed at step 1,234",
        "shuffled",
        "diverged at step 1,100; back to step 1,000",
    ]


def test_a_terminal_gets_one_line_that_moves_on(monkeypatch, capsys):
    """Catches lines that pile up, and one that stays when all is over."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    control, descriptor = pty.openpty()
    with open(descriptor, "w") as terminal, Progress(terminal) as show:
        show(STARTED)
        show(record(1))
        show(record(2))
        show.say("a sentence above the line")
        show(record(3))
    shown = drained(control)
    for text in ("step 1,", "step 2,", "step 3,", "a sentence above the line", "rows are shuffled"):
        assert text in shown
    final = screen(shown)
    assert [line for line in final if line] == ["rows are shuffled", "a sentence above the line"]
    assert max(map(len, final)) <= 60
    assert capsys.readouterr() == ("", "")


def drained(control):
    """All that was written to a terminal that is closed now."""
    shown = b""
    with open(control, "rb", buffering=0) as stream, contextlib.suppress(OSError):
        while part := stream.read(1 << 16):
            shown += part
    return shown.decode()


def screen(shown):
    """What is on the screen in the end, with the few control codes that are used here."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", shown):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token == "\x1b[1A":
            row -= 1
        elif not token.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + token
            column += len(token)
    return lines


def test_the_line_ends_with_an_error(monkeypatch):
    """Catches a terminal left without a cursor when training raises."""
    monkeypatch.setenv("TERM", "xterm")
    control, descriptor = pty.openpty()
    with (
        open(descriptor, "w") as terminal,
        pytest.raises(ZeroDivisionError),
        Progress(terminal) as show,
    ):
        show(record(1))
        raise ZeroDivisionError
    shown = drained(control)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is shown again


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"loss": None}, "loss not finite"),
        ({"loss": 0.0001234567}, "loss 0.0001235"),
        ({"fraction": None}, "waiting for data"),
        ({"fraction": 0.25, "seconds": 30.0}, "1 min 30 s left"),
        ({"fraction": 1.7, "seconds": 30.0}, "0 s left"),
        ({"waiting_share": 1.0}, "100 % waiting for data"),
    ],
)
def test_the_line(more, words):
    """Catches a number that is missing, negative or shown in full length."""
    line = progress_text(record(1500, **more))
    assert line.startswith("epoch 1, step 1,500, loss ")
    assert words in line
    assert ("left" in line) == (record(1, **more)["fraction"] is not None)


def test_the_held_out_metric_that_is_looked_for_first():
    """Catches a line without a score, or an error where there is none."""
    assert held_out_text({"loss": {"value": 1.5}, "rmse": {"value": 2.0}}).endswith("rmse 2")
    assert held_out_text({"loss": {"value": 1.5}}).endswith("loss 1.5")
    assert held_out_text({}) == ""


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ({"value": 44.9, "lo": 38.2, "hi": 52.9}, "; noise scale 44.9 (38.2 to 52.9)"),
        ({"value": 44.9}, "; noise scale 44.9"),
        ({"lo": 310.0, "reason": "signal lost in noise"}, "; noise scale at least 310"),
        ({"reason": "1 measured step(s): at least 2 are needed"}, ""),
    ],
)
def test_the_noise_scale_stays_on_the_line(scale, words, clock):
    """Catches a bound that is shown as a value, and a scale that is seen for one line only."""
    assert noise_text({"noise_scale": scale}) == words
    own = {"noise_scale": {"value": 3.0}, "preconditioned_noise_scale": scale}
    assert noise_text(own) == words.replace("noise scale", "preconditioned noise scale")
    stream = io.StringIO()
    with Progress(stream) as show:
        show(STARTED)
        show(EVALUATED)
        show({"event": "measured", "step": 5, "noise_scale": scale})
        for second in (10.0, 20.0):
            clock[0] = 100.0 + second
            show(record(second))
    for line in stream.getvalue().splitlines()[1:]:
        assert line.endswith("; held out: accuracy 0.9877" + words)
    assert len(stream.getvalue().splitlines()) == 3


def test_numbers_in_few_digits():
    """Catches units a thousandfold off, at the borders."""
    numbers = {0: "0", 999: "999", 1000: "1k", 999_000: "999k", 2e6: "2M", 1.5e9: "1.5G"}
    assert {n: brief(n) for n in numbers} == numbers
    times = {0.2: "0 s", 59.6: "1 min 0 s", 3599: "59 min 59 s", 3600: "1 h 0 min"}
    assert {t: duration(t) for t in times} == times


@pytest.mark.parametrize("explain", [True, False])
def test_where_the_time_went_is_said_at_the_end(explain):
    """Catches a line that nobody asked for, and one of nothing."""
    stream = io.StringIO()
    with Progress(stream, explain=explain) as show:
        show({"event": "stopped", "step": 5, "spent_seconds": {"updates": 9.0, "other": 1.0}})
        show({"event": "stopped", "step": 5, "spent_seconds": {}})
        longer = {"value": 0.36, "lo": 0.3, "hi": 0.4, "unit": "nats"}
        show({"event": "stopped", "step": 5, "twice_as_long": longer})
        show({"event": "stopped", "step": 5, "twice_as_long": None})
    said = "time: 90 % updates, 10 % starting and other work\n"
    said += "held-out loss of a run twice as long: 0.360 (0.300 to 0.400) nats\n"
    assert stream.getvalue() == (said if explain else "")
