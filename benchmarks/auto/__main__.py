"""Run the tasks, print the table and say which bars are met."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

from benchmarks.auto import table
from benchmarks.auto.study import Notebook, Study, go
from benchmarks.auto.tasks import RECIPES, load
from benchmarks.report import markdown
from benchmarks.timing import has, machine
from benchmarks.timing import load as busy

QUICK_TASKS = ("diabetes",)
QUICK_BUDGET = 0.25  # of the seconds of a run


def main(argv: list[str] | None = None) -> None:
    options = _options(argv)
    about = machine()
    print(json.dumps(about, indent=1), flush=True)
    print(f"{busy()} at the beginning", flush=True)
    notebook = Notebook(options.json or options.resume_from, about)
    if options.resume_from:
        notebook.resume(options.resume_from)
    begin = time.perf_counter()
    for name in options.tasks or (QUICK_TASKS if options.quick else RECIPES):
        missing = [package for package in RECIPES[name].needs if not has(package)]
        if missing:
            print(f"{name}: left out, {', '.join(missing)} not installed", flush=True)
            continue
        _task(name, notebook, options)
    studies = notebook.studies.values()
    print(f"\n{table.markdown(studies)}\n")
    rows = table.bars(studies)
    if options.quick:  # sizes at which no bar means anything
        rows = [dataclasses.replace(row, met=None) for row in rows]
    print(f"{markdown(rows)}\n")
    for note in table.NOTES:
        print(f"- {note}")
    print(f"- {time.perf_counter() - begin:.0f} s, {busy()} at the end")
    notebook.save(now=True)


def _task(name: str, notebook: Notebook, options: argparse.Namespace) -> None:
    task, begin = load(name), time.perf_counter()
    if options.quick:
        task = dataclasses.replace(task, budget_seconds=QUICK_BUDGET * task.budget_seconds)
    print(f"{name}: {task.num_rows:,} rows, {busy()}", flush=True)
    study = notebook.studies.setdefault(
        name,
        Study(name=name, num_rows=task.num_rows, budget_seconds=task.budget_seconds),
    )
    task = dataclasses.replace(task, budget_seconds=study.budget_seconds)  # that of its beginning
    go(
        task, study, seeds=options.seeds, quick=options.quick, save=notebook.save,
        say=lambda text: print(text, flush=True),
    )  # fmt: skip
    notebook.save(now=True)
    print(f"  {time.perf_counter() - begin:.0f} s", flush=True)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.auto", description=__doc__)
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="by default 3")
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every run there")
    parser.add_argument(
        "--resume-from", type=Path, metavar="FILE",
        help="continue with the runs kept there; also written there, without --json",
    )  # fmt: skip
    options = parser.parse_args(argv)
    unknown = set(options.tasks or ()) - set(RECIPES)
    if unknown:
        parser.error(f"no task named {', '.join(sorted(unknown))}")
    if options.seeds < 1:
        parser.error("--seeds must be 1 or more")
    if options.quick:
        options.seeds = 1
    return options


if __name__ == "__main__":
    main()
