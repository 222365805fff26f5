"""Runs of `downslope fit` for several targets, one after the other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from downslope.commands.common import show
from downslope.commands.fit_one import Asked, Fit, configurations, fit_one, free_folder
from downslope.errors import MismatchError, UsageError


def is_of_targets(run: Path) -> bool:
    """True for the folder of the runs of several targets."""
    from downslope.table.targets import TargetRuns

    return TargetRuns.open(run) is not None


def fits_of_targets(
    table: Path | None,
    names: Sequence[str],
    given: dict[str, Any],
    out: Path | None,
    resume: Path | None,
) -> dict[str, Fit]:
    """A run for each of several targets; to resume, for those that are not finished.

    With a new limit all runs are resumed.
    """
    from downslope.table.targets import TargetRuns, check_targets, options_of, share_of

    given = {name: value for name, value in given.items() if name != "target"}
    if resume is None:
        check_targets(names)
        path, (options, model, training) = configurations(table, given, out, None)
        training = share_of(training, len(names))
        folder = out or free_folder(path)
        runs = TargetRuns(folder=folder, targets=tuple(names), table=options)
        return {
            name: Fit(path, [options_of(name, names, options), model, training], run, False, runs)
            for name, run in runs.runs.items()
        }
    found = TargetRuns.open(resume)
    assert found is not None
    if names and tuple(names) != found.targets:
        raise MismatchError(f"--target was {', '.join(found.targets)} when the runs began")
    fits = {}
    path, (_, model, training) = configurations(table, given, out, found.runs[found.targets[0]])
    for name, run in found.runs.items():
        if found.is_finished(name) and not given:
            continue
        configs = [options_of(name, found.targets, found.table), model, training]
        if run.exists():
            path, configs = configurations(table, given, out, run)
        fits[name] = Fit(path, configs, run, run.exists(), found)
    if not fits:
        raise UsageError(f"--resume {resume}: its runs are finished; give a new limit to go on")
    return fits


def fit_several(fits: dict[str, Fit], asked: Asked, json: bool) -> int:
    """Train the model of every target, one after the other; gives an exit code."""
    first = next(iter(fits.values()))
    runs = first.among
    assert runs is not None
    runs.begin()
    values: dict[str, dict[str, Any]] = {name: {} for name in fits}
    code = 0
    try:
        for name, each in fits.items():
            if asked.speaks:
                show(f"target {name!r}", False)
            stopped = fit_one(each, asked, values[name])
            code = code or stopped
            if stopped >= 128:  # a signal
                break
    finally:
        runs.discard_if_empty()
        if json and any(values.values()):
            show("", json, {"run": str(runs.folder), "targets": values})
    words = ["downslope", "fit", "--resume", str(runs.folder)]
    if all(map(runs.is_finished, runs.targets)):
        words = ["downslope", "predict", str(runs.folder), f"NEW{first.path.suffix or '.parquet'}"]
        words += ["--out", "predictions.parquet"]
    if asked.speaks:
        show(f"next       {shlex.join(words)}", False)
    return code
