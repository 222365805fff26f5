"""What an anatomy gives back: sections of measurements, in words and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from downslope.noise.record import Measurement


@dataclass(frozen=True, kw_only=True)
class Section:
    """One subject: what was measured of it, and what that means.

    Attributes:
        title: the subject.
        sentences: what the measurements say, one sentence each.
        records: measurements by name.
        tables: curves and lists as plain values, by name.
        seconds: time that it took.
    """

    title: str
    sentences: tuple[str, ...] = ()
    records: Mapping[str, Measurement] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {
            "title": self.title,
            "sentences": list(self.sentences),
            "records": {name: found.to_json() for name, found in self.records.items()},
            "tables": dict(self.tables),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        lines = [self.title, *(f"  {sentence}" for sentence in self.sentences)]
        width = max((len(name) for name in self.records), default=0)
        for name, found in self.records.items():
            lines.append(f"  {name:<{width}}  {found}")
            lines += [f"  {'':<{width}}    ({flag})" for flag in found.flags]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The noise at one point, by subject.

    Attributes:
        sections: what was measured, by the name of the subject.
        skipped: why other subjects were left out, by name.
        seconds: time that all of it took.
    """

    sections: Mapping[str, Section]
    skipped: Mapping[str, str]
    seconds: float

    def records(self) -> dict[str, Measurement]:
        """All measurements, named `section/measurement`."""
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
            lines = [f"  {name:<{width}}  {why}" for name, why in self.skipped.items()]
            parts.append("\n".join(["Left out", *lines]))
        return "\n\n".join(parts)
