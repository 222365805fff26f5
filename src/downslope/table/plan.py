"""Answers from a run's journal: another batch size, another machine, more workers."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downslope.choose import Answer, RunFacts, Scenario, what_if
from downslope.estimate import spoken
from downslope.report.plan import read_run

WIDTH = 88  # of the lines that say why
LABELS = {
    "same_batch_size": "time at the batch sizes it had",
    "batch_size": "best batch size",
    "seconds": "time at that batch size",
    "largest_cost": "largest part of its step",
    "num_workers": "best number of workers",
    "slower_beyond": "more make it slower beyond",
    "workers_step_seconds": "a step shared by workers",
    "workers_largest_cost": "largest part of it",
    "workers_batch_size": "best batch size for them",
    "workers_seconds": "time at that batch size",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The answers about a run.

    Attributes:
        run: its folder.
        seen: what its journal told.
        answers: one for each question.
        scenario: what was to be otherwise.
    """

    run: str
    seen: RunFacts
    scenario: Scenario
    answers: tuple[Answer, ...]

    def to_json(self) -> dict[str, Any]:
        """The answers by question, with what they are about, as plain values."""
        answers = {answer.question: answer.to_json() for answer in self.answers}
        for answer in answers.values():
            del answer["question"]
        about = {"run": self.run, "num_steps": self.seen.num_steps, "seconds": self.seen.seconds}
        return {**about, "answers": answers}

    def __str__(self) -> str:
        took = spoken(self.seen.seconds)
        lines = [f"{self.run}: {self.seen.num_steps:,} steps, {took}"]
        told: set[str] = set()
        for answer in self.answers:
            label = LABELS[answer.question]
            if answer.question == "seconds" and self.scenario.batch_size is not None:
                label = f"time at batch size {self.scenario.batch_size:,}"
            lines.append(f"{label:<31} {answer}")
            for text in (answer.because, *(f"note: {flag}" for flag in answer.flags)):
                if text not in told:  # said once: several answers rest on the same
                    indent = "    "
                    lines += textwrap.wrap(
                        text, WIDTH, initial_indent=indent, subsequent_indent=indent
                    )
                told.add(text)
        return "\n".join(lines)


def plan(run: str | os.PathLike[str], scenario: Scenario | None = None) -> Plan:
    """Answers about a run from its journal alone; nothing is trained or timed.

    Args:
        run: the run's folder.
        scenario: what is to be otherwise.

    Raises:
        DataError: the folder is no run, or its journal has no step.
        UsageError: a scenario that no batch size fits.
    """
    scenario = scenario or Scenario()
    seen = RunFacts(**read_run(run))
    return Plan(run=str(Path(run)), seen=seen, answers=what_if(seen, scenario), scenario=scenario)
