"""What `--help` costs and loads, and what reaches a terminal and a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from downslope.cli import COMMANDS

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
HEAVY = {"jax", "numpy", "scipy", "pyarrow", "optax", "matplotlib", "jinja2", "pydantic"}
LIGHT = """
import sys
from downslope.cli import main
assert main({words!r}) == 0
print(sorted({heavy!r} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_needs_no_heavy_module(words):
    """Catches an import that makes every `--help` wait."""
    program = LIGHT.format(words=words, heavy=HEAVY)
    command = [sys.executable, "-W", "error", "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert found.stdout.endswith("[]\n"), found.stderr
    assert not found.stderr
    if words == ["fit", "--help"]:
        assert "--learning-rate X|auto" in found.stdout


@pytest.mark.slow
def test_help_is_quick():
    """The bar is 0.25 s, or where slower, four times some imports of Python (seen: twice)."""
    help_, imports = [], []
    for _ in range(5):
        help_.append(_processor_seconds("-m", "downslope.cli", "--help"))
        imports.append(_processor_seconds("-c", "import asyncio, http.client, pydoc, unittest"))
        if min(help_) < 0.25:
            return
    assert min(help_) < 4 * min(imports)


def _processor_seconds(*words):
    """What a command of Python takes, which other tests on the same cores change little."""
    before = sum(os.times()[2:4])
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, env=ENVIRONMENT, check=True)
    return sum(os.times()[2:4]) - before


COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3|4|9|10)\d[\d;]*m")  # bold is none


def shown(*words, **more):
    """What a terminal gets from Python with these words."""
    control, terminal = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "120", **more}
    with subprocess.Popen(
        [sys.executable, *words], stdout=terminal, stderr=terminal, env=environment
    ):
        os.close(terminal)
        found = b""
        while part := _read(control):
            found += part
    os.close(control)
    return found


def _read(descriptor):
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # what Linux says when the other end is closed
        return b""


@pytest.mark.parametrize("words", [["fit", "--help"], ["fut"]], ids=" ".join)
def test_no_color_is_obeyed(words):
    """Catches colours where NO_COLOR is set, or where the terminal knows none."""
    assert not COLOUR.search(shown("-m", "downslope.cli", *words, NO_COLOR="1"))
    assert not COLOUR.search(shown("-m", "downslope.cli", *words, TERM="dumb"))


def test_progress_has_no_colour():
    """Catches colours of the library, and square brackets read as its markup."""
    program = (
        "import sys\nfrom downslope.report.progress import Progress\n"
        "with Progress(sys.stderr) as p:\n"
        "    p.say('12 [red]words[/red] at 3.5')\n"
        "    p({'event': 'progress', 'epoch': 1, 'step': 2, 'loss': 0.5, 'fraction': 0.5,\n"
        "       'seconds': 1.0, 'examples_per_second': 1e3, 'waiting_share': 0.1})\n"
    )
    found = shown("-c", program, NO_COLOR="1")
    assert b"12 [red]words[/red] at 3.5" in found and b"epoch 1, step 2" in found
    assert not COLOUR.search(found)
