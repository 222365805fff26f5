"""The record: all that is needed to know what ran, and to run it again."""

from __future__ import annotations

from typing import Any

from downslope.report.blocks import Block, Facts, Gap, Notes, Section, Table
from downslope.report.reading import Record, mapping, of_event, text
from downslope.report.run_data import RunData
from downslope.report.words import cell, cut, sentence

MOST = 60
RESULTS = ("optimizer", "batch_size", "learning_rate")  # chosen, where they were "auto"


def section(run: RunData) -> Section:
    """The part of the page."""
    found = run.find("record") or {}
    blocks: list[Block] = [configuration(run)]
    for name, title in (("versions", "Versions"), ("hardware", "Hardware"), ("seeds", "Seeds")):
        blocks.append(_facts(found, name, title))
    blocks += [fingerprints(run, found), command(found), events(run)]
    shuffled = [sentence(text(r.get("shuffling"))) for r in of_event(run.records, "started")]
    if shuffled and shuffled[-1]:
        blocks.append(Notes(title="Order of the rows", items=(("", "", shuffled[-1]),)))
    return Section(
        name="record",
        title="The record",
        lead="What was asked, what was chosen, and on what it ran.",
        blocks=tuple(blocks),
    )


def configuration(run: RunData) -> Table | Gap:
    """Every setting as asked, and as it was at the end where the run chose it."""
    asked = mapping(run.asked.get("training"))
    if not asked:
        return Gap(title="Configuration", reason="run.json holds none")
    rows = []
    for name, value in list(asked.items())[:MOST]:
        end = run.result.get(name) if name in RESULTS else None
        rows.append((cut(name), "none" if value is None else cell(value), cell(end) if end else ""))
    return Table(caption="Configuration", head=("setting", "asked", "at the end"), rows=tuple(rows))


def _facts(record: Record, name: str, title: str) -> Facts | Gap:
    rows = tuple((cut(k), cell(v), "") for k, v in list(_flat(record.get(name)).items())[:MOST])
    if not rows:
        return Gap(title=title, reason="the journal has no such record")
    return Facts(title=title, rows=rows)


def _flat(values: Any) -> dict[str, Any]:
    """Dictionaries inside become names with a dot."""
    found: dict[str, Any] = {}
    for key, value in mapping(values).items():
        if isinstance(value, dict):
            found |= {f"{key}.{k}": v for k, v in value.items()}
        else:
            found[str(key)] = value
    return found


def fingerprints(run: RunData, record: Record) -> Facts:
    """What tells the data and the folder apart from others."""
    metadata = mapping(run.asked.get("metadata"))
    table = text(record.get("table")) or text(metadata.get("path"))
    rows = [("Run", cut(run.folder, 200), ""), ("Table", cut(table, 200) or "none", "")]
    print_ = text(record.get("fingerprint")) or text(run.asked.get("data"))
    rows.append(("Fingerprint of the data", cut(print_, 100) or "not known", ""))
    return Facts(title="Files", rows=tuple(rows))


def command(record: Record) -> Notes | Gap:
    """What to type to run it again."""
    words = text(record.get("command"))
    if not words:
        return Gap(title="Command", reason="the run was started from Python, or before commands "
                   "were kept")  # fmt: skip
    return Notes(title="Command", items=(("code", "", cut(words, 1000)),))


def events(run: RunData) -> Facts:
    """How many records of each event the journal holds."""
    counts: dict[str, int] = {}
    for record in run.records:
        event = cut(text(record.get("event")) or "unnamed", 30)
        counts[event] = counts.get(event, 0) + 1
    words = ", ".join(f"{count:,} {event}" for event, count in list(counts.items())[:30])
    return Facts(title="Journal", rows=(("Records", words or "none yet", ""),))
