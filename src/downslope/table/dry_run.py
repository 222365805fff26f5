"""What training on a table would do, said without doing it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import downslope
from downslope import ModelOptions, TableOptions, Training
from downslope.check.findings import Finding
from downslope.choose import Decision
from downslope.data.stored import StoredTable
from downslope.models import weights_only
from downslope.table.check import check_table
from downslope.table.fit import choose_model
from downslope.train.preview import preview

ASKED = ("memory", "pace")


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run would begin with, and what it needs.

    Attributes:
        table, num_train, num_held_out: what it would be trained on.
        loss: what would be minimised.
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
        """Whether the run fits into memory, as far as can be told."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "table": self.table,
            "num_train": self.num_train,
            "num_held_out": self.num_held_out,
            "loss": self.loss,
            "decisions": [decision.to_json() for decision in self.decisions],
            "findings": [finding.to_json() for finding in self.findings],
        }

    def __str__(self) -> str:
        lines = [
            f"rows        {self.num_train:,} to train on, {self.num_held_out:,} held out",
            f"loss        {self.loss}",
            *(
                f"{d.knob.replace('_', ' '):<11} {_shown(d.new)}: {d.because}"
                for d in self.decisions
            ),
            *map(str, self.findings),
            "nothing was trained: leave out --dry-run to train",
        ]
        return "\n".join(lines)


def _shown(value: Any) -> str:
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.3g}"
        if isinstance(value, float)
        else str(value)
    )


def dry_run(
    path: str | os.PathLike[str],
    table: TableOptions,
    model: ModelOptions | None = None,
    training: Training | None = None,
) -> DryRun:
    """What `downslope.table.fit.fit` would begin with, and what it needs.

    The table is converted, as for training; the program is compiled and timed on a few
    updates whose result is thrown away.

    Args:
        path, table, model, training: as for `downslope.table.fit.fit`.

    Raises:
        DataError, UsageError: as for `downslope.table.fit.fit`.
    """
    training = training or Training(seed=table.seed)
    stored = downslope.open(path, table)
    assert isinstance(stored, StoredTable)
    with contextlib.closing(stored):
        chosen = choose_model(stored.encoding, model or ModelOptions())
        decisions = preview(
            chosen.loss_fn, chosen.init(training.seed), stored.train, training,
            penalize=weights_only,
        )  # fmt: skip
        counts = {"num_train": stored.num_train, "num_held_out": stored.num_held_out}
    searches = all(decision.new != "solve" for decision in decisions)
    asked = ASKED if searches else ASKED[:1]
    findings = check_table(path, table, model, training, only=asked)
    return DryRun(
        table=str(path), loss=chosen.loss, decisions=decisions, findings=findings, **counts
    )
