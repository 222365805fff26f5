"""First choices and needs of a run on a table, without training."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from downslope import ModelOptions, TableOptions, Training
from downslope.check.findings import Finding
from downslope.choose import Decision
from downslope.table.check import check_table
from downslope.table.model import choose_model
from downslope.table.run import opened
from downslope.table.training import settings_of
from downslope.train.preview import preview


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """First choices of a run, and what it needs.

    Attributes:
        table, num_train, num_held_out: the table and its rows.
        loss: the loss that would be minimised.
        decisions: the first choices.
        findings: memory, and time of an epoch.
    """

    table: str
    num_train: int
    num_held_out: int
    loss: str
    decisions: tuple[Decision, ...]
    findings: tuple[Finding, ...]

    @property
    def fits(self) -> bool:
        """True if the run fits into memory, as far as can be told."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            **vars(self),
            "decisions": [decision.to_json() for decision in self.decisions],
            "findings": [finding.to_json() for finding in self.findings],
        }

    def __str__(self) -> str:
        choices = [(d.knob.replace("_", " "), _shown(d.new), d.because) for d in self.decisions]
        lines = [
            f"rows        {self.num_train:,} to train on, {self.num_held_out:,} held out",
            f"loss        {self.loss}",
            *(f"{knob:<11} {value}: {because}" for knob, value, because in choices),
            *map(str, self.findings),
            "nothing was trained: leave out --dry-run to train",
        ]
        return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def dry_run(
    path: str | os.PathLike[str],
    table: TableOptions,
    model: ModelOptions | None = None,
    training: Training | None = None,
) -> DryRun:
    """First choices of `downslope.table.fit.fit`, and the memory and time it needs.

    The table is converted, as for training; the program is compiled and timed on a few
    updates whose result is thrown away.

    Args:
        path, table, model, training: as for `downslope.table.fit.fit`.

    Raises:
        DataError, UsageError: as for `downslope.table.fit.fit`.
    """
    training = training or Training(seed=table.seed)
    with opened(path, table) as stored:
        chosen = choose_model(stored, model or ModelOptions())
        decisions = preview(
            chosen.loss_fn, chosen.init(training.seed), stored.train,
            settings_of(chosen, training, stored.num_train), penalize=chosen.penalized,
        )  # fmt: skip
        counts = {"num_train": stored.num_train, "num_held_out": stored.num_held_out}
    searches = all(decision.new != "solve" for decision in decisions)
    findings = check_table(
        path, table, model, training, only=("memory", "pace") if searches else ("memory",)
    )
    return DryRun(
        table=str(path), loss=chosen.loss, decisions=decisions, findings=findings, **counts
    )
