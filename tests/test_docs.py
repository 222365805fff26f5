"""Code blocks of the documentation that stand by themselves run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCKS = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("quick_compilation")
def test_the_page_on_choices(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an example left behind by a change of names, and one that no longer chooses."""
    page = (DOCS / "choosing.md").read_text(encoding="utf-8")
    exec(compile(BLOCKS.findall(page)[0], "choosing.md", "exec"), {})
    *decisions, last = capsys.readouterr().out.splitlines()
    assert decisions[0].startswith("learning_rate 0.01 -> ")
    assert decisions[-1].startswith("stop None -> converged: ")
    assert last.startswith("converged ")
