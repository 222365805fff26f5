"""Results of a survey: sections of estimates, in words and as plain values."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from downslope.estimate import Estimate, as_json

COLUMNS = 100  # of text, where the words allow it


class NotMeasured(Exception):
    """A subject that cannot be measured, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One subject: its estimates, and what they mean.

    Attributes:
        title: the subject.
        sentences: the outcome in words, one sentence each.
        records: estimates by name.
        tables: curves and lists by name, plain values in what `anatomy` returns.
        seconds: time spent on it.
    """

    title: str
    sentences: tuple[str, ...] = ()
    records: Mapping[str, Estimate] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {
            "title": self.title,
            "sentences": list(self.sentences),
            "records": {name: found.to_json() for name, found in self.records.items()},
            "tables": as_json(self.tables),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        lines = [self.title, *(_wrapped("  ", sentence) for sentence in self.sentences)]
        shown = {name: found for name, found in self.records.items() if found.is_bounded}
        missing: dict[str, list[str]] = {}  # names by reason: one reason may hold for many
        for name, found in self.records.items():
            if name not in shown:
                missing.setdefault(str(found.reason), []).append(name)
        width = max((len(name) for name in shown), default=0)
        for name, found in shown.items():
            lines.append(_wrapped(f"  {name:<{width}}  ", str(found)))
            lines += [_wrapped(" " * (width + 6), f"({flag})") for flag in found.flags]
        for reason, names in missing.items():
            lines.append(_wrapped("  not estimable: ", f"{', '.join(names)} ({reason})"))
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Gradient noise at one point, by subject.

    Attributes:
        sections: what was measured, by the name of the subject.
        skipped: reasons why other subjects were left out, by name.
        seconds: time spent on all of it.
    """

    sections: Mapping[str, Section]
    skipped: Mapping[str, str]
    seconds: float

    def records(self) -> dict[str, Estimate]:
        """All estimates, named `section/estimate`."""
        return {
            f"{name}/{record}": found
            for name, section in self.sections.items()
            for record, found in section.records.items()
        }

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {
            "sections": {name: section.to_json() for name, section in self.sections.items()},
            "skipped": dict(self.skipped),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        parts = [str(section) for section in self.sections.values()]
        if self.skipped:
            width = max(len(name) for name in self.skipped)
            lines = [_wrapped(f"  {name:<{width}}  ", why) for name, why in self.skipped.items()]
            parts.append("\n".join(["Left out", *lines]))
        return "\n\n".join(parts)


def in_percent(share: Estimate) -> str:
    """A share or a probability in per cent, with its interval."""
    return str(share.scaled(100, unit="%"))


def _wrapped(head: str, text: str) -> str:
    """The text after its head, in as many lines as it needs, those that follow indented."""
    room = max(COLUMNS - len(head), 40)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return head + f"\n{' ' * len(head)}".join(lines or [""])
