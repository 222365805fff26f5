"""The record: all you need to know what ran, and to run it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from downslope.report.blocks import CellTable, Facts, Gap, Notes, SectionPlan, why_not
from downslope.report.reading import mapping, text
from downslope.report.run_data import RunData
from downslope.report.words import cell, cut, sentence

MAX_ROWS = 60
CHOSEN = ("optimizer", "batch_size", "learning_rate")  # by the run, where they were "auto"


def configuration(run: RunData) -> CellTable | Gap:
    """Every setting as asked, and as it was at the end where the run chose it."""
    if not run.training:
        return Gap(title="Configuration", reason="run.json holds none")
    rows = []
    for name, value in list(run.training.items())[:MAX_ROWS]:
        end = run.result.get(name) if name in CHOSEN else None
        rows.append((cut(name), "none" if value is None else cell(value), cell(end) if end else ""))
    return CellTable(
        caption="Configuration", head=("setting", "asked", "at the end"), rows=tuple(rows)
    )


def facts(name: str) -> Callable[[RunData], Facts | Gap]:
    """A function that makes facts of one part of the run's record, such as "versions"."""

    def make(run: RunData) -> Facts | Gap:
        record = run.find("record")
        flat: dict[str, Any] = {}
        for key, value in mapping((record or {}).get(name)).items():
            is_group = isinstance(value, Mapping)
            flat |= {f"{key}.{k}": v for k, v in value.items()} if is_group else {key: value}
        rows = [(cut(key), cell(value), "") for key, value in flat.items()]
        if not rows:
            return Gap(title=name.capitalize(), reason=why_not(record))
        return Facts(title=name.capitalize(), rows=tuple(rows[:MAX_ROWS]))

    return make


def files(run: RunData) -> Facts:
    """Places of the run and its data, with the fingerprint of the data."""
    record = run.find("record") or {}
    table = text(record.get("table")) or text(run.metadata.get("path"))
    fingerprint = text(record.get("fingerprint")) or text(run.asked.get("data"))
    rows = (
        ("Run", cut(run.folder, 200), ""),
        ("Table", cut(table, 200) or "none", ""),
        ("Fingerprint of the data", cut(fingerprint, 100) or "not known", ""),
    )
    return Facts(title="Files", rows=rows)


def command(run: RunData) -> Notes | Gap:
    """The command that runs it again."""
    words = text((run.find("record") or {}).get("command"))
    if not words:
        return Gap(title="Command", reason="the journal holds none, as in runs started from Python")
    return Notes(title="Command", items=(("code", "", cut(words, 1000)),))


def shuffling(run: RunData) -> Notes | None:
    """The order of the rows in training."""
    words = sentence(text((run.find("started") or {}).get("shuffling")))
    return Notes(title="Order of the rows", items=(("", "", words),)) if words else None


PLAN = SectionPlan(
    title="The record",
    lead="What was asked, what was chosen, and on what it ran.",
    blocks=(
        configuration,
        facts("versions"),
        facts("hardware"),
        facts("seeds"),
        files,
        command,
        shuffling,
    ),
)
