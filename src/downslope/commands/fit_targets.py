"""Runs of `downslope fit` for several targets, one after the other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downslope.commands.common import show
from downslope.commands.fit_one import Asked, Fit, configurations, fit_one, free_folder
from downslope.errors import DataError, MismatchError, UsageError
from downslope.flags import CONFIGS, configured

if TYPE_CHECKING:
    from downslope.table.targets import TargetRuns


def fits_of_targets(
    table: Path | None,
    names: Sequence[str],
    given: dict[str, Any],
    out: Path | None,
    resume: Path | None,
) -> list[Fit]:
    """A run for each of several targets; to resume, for those that are not finished.

    With a new limit all runs are resumed. None where one run is asked for.
    """
    if resume is None and len(names) < 2:
        return []
    from downslope.table.targets import (
        TargetRuns,
        check_each,
        check_target_columns,
        options_of,
        share_of,
    )
    from downslope.train.run_folder import check_free

    given = {name: value for name, value in given.items() if name != "target"}
    if resume is None:
        path, (options, model, training) = configurations(table, given, out, None)
        check_target_columns(names, options)
        training = share_of(training, len(names))
        folder = out or free_folder(path)
        check_free(folder)
        tables = [options_of(name, names, options) for name in names]
        prints = check_each(path, tables, model)
        runs = TargetRuns.of(folder, names, path, options, model, training, prints)
        return [
            Fit(path, [each, model, training], run, False, runs)
            for each, run in zip(tables, runs.runs.values(), strict=True)
        ]
    found = TargetRuns.open(resume)
    if found is None:
        if len(names) > 1:
            raise MismatchError(f"{resume} is a run of one target; leave out --target")
        return []
    if out is not None:
        raise UsageError("--out and --resume exclude each other: a resumed run keeps its folder")
    if names and tuple(names) != found.targets:
        raise MismatchError(f"--target was {', '.join(found.targets)} when the runs began")
    return _resumed(table, found, given)


def _resumed(table: Path | None, runs: TargetRuns, given: dict[str, Any]) -> list[Fit]:
    from downslope.table.targets import check_rows, options_of
    from downslope.train.run_folder import LIMITS

    path = runs.options["path"]
    if path is None:
        remedy = "train its targets with downslope.table.fit.fit and resume"
        raise DataError("was trained on a data frame", path=runs.folder, remedy=remedy)
    if table is not None and str(table.resolve()) != path:
        raise MismatchError(
            f"TABLE was {path} when the runs began and is now {table}; leave it out"
        )
    is_longer = bool(given.keys() & LIMITS)
    left = [name for name in runs.targets if is_longer or not runs.is_finished(name)]
    if not left:
        raise UsageError(f"--resume {runs.folder}: its runs are finished; give a limit to go on")
    if given.get("seconds") is not None:
        given = {**given, "seconds": given["seconds"] / len(left)}
    fits, prints = [], dict(zip(runs.targets, runs.options["fingerprints"], strict=True))
    for name in left:
        run = runs.runs[name]
        if run.exists():
            _, configs = configurations(None, given, None, run)
        else:
            configs = [
                configured(config, given, runs.options[part], LIMITS)
                for part, config in CONFIGS.items()
            ]
            configs[0] = options_of(name, runs.targets, configs[0])
            check_rows(path, configs[0], prints[name])
        fits.append(Fit(Path(path), configs, run, run.exists(), runs))
    return fits


def fit_several(fits: list[Fit], asked: Asked, json: bool, *, resumes: bool) -> int:
    """Train the model of every target, one after the other; gives an exit code."""
    runs = fits[0].among
    assert runs is not None
    if not resumes:
        runs.begin()
    values: dict[str, dict[str, Any]] = {str(each.target): {} for each in fits}
    code = 0
    try:
        for each in fits:
            if asked.speaks:
                show(f"target {each.target!r}", False)
            stopped = fit_one(each, asked, values[str(each.target)])
            code = stopped if stopped >= 128 else code or stopped
            if code >= 128:  # a signal
                break
    finally:
        if not resumes:
            runs.discard_if_empty()
        if json and any(values.values()):
            show("", json, {"run": str(runs.folder), "targets": values})
    if asked.speaks:
        from downslope.table.fit import predict_command

        command = shlex.join(["downslope", "fit", "--resume", str(runs.folder)])
        if all(map(runs.is_finished, runs.targets)):
            command = predict_command(runs.folder, fits[0].path)
        show(f"next       {command}", False)
    return code
