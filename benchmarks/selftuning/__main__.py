"""Run the rivals on the workloads, print the tables and say which bars are met."""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import markdown
from benchmarks.selftuning import score, table
from benchmarks.selftuning.records import RecordFile, sources_digest
from benchmarks.selftuning.rivals import (
    ADAM,
    COSINE,
    DOWNSLOPE,
    NADAMW,
    RIVALS,
    SCHEDULE_FREE,
    VERSION,
)
from benchmarks.selftuning.runs import Bench, run
from benchmarks.selftuning.targets import FILE as TARGETS
from benchmarks.selftuning.targets import Targets
from benchmarks.selftuning.workloads import WORKLOADS, load, missing
from benchmarks.timing import load as busy
from benchmarks.timing import machine

RECORDS = Path(__file__).parent / "records.jsonl"
SEEDS = 5
CARRIED = 5  # rivals that a screening leaves
SCREENED_SECONDS = 60.0  # longest workload of a screening
QUICK_WORKLOADS = ("pima mlp", "flights linear", "digits mixer", "stops mlp")
QUICK_RIVALS = (DOWNSLOPE, SCHEDULE_FREE, NADAMW, ADAM, COSINE)


def main(argv: list[str] | None = None) -> None:
    """Run what is asked for and not recorded yet, then print the tables."""
    options = _options(argv)
    print(json.dumps(machine(), indent=1), flush=True)
    begin, records = time.perf_counter(), RecordFile(options.file)
    workloads = _installed(options.workloads)
    rivals = list(options.rivals)
    if options.report:
        pass
    elif options.screen:
        results = _screen(workloads, rivals, records, options)
        times = {
            rival: t for rival, t in results.times.items() if rival in set(rivals) - {DOWNSLOPE}
        }
        chosen = score.screened(
            times, results.workloads, always=(SCHEDULE_FREE, NADAMW), count=CARRIED
        )
        print(f"carried to all seeds: {', '.join(chosen)}", flush=True)
        rivals = [DOWNSLOPE, *chosen] if DOWNSLOPE in rivals else chosen
        _run(workloads, rivals, range(options.seeds), records, options.version)
    else:
        _run(workloads, rivals, range(options.seeds), records, options.version)
    _print(_results(records, options, workloads), options)
    print(f"- {time.perf_counter() - begin:.0f} s, {busy()} at the end")


def _screen(
    workloads: Sequence[str], rivals: Sequence[str], records: RecordFile,
    options: argparse.Namespace,
) -> table.Results:  # fmt: skip
    """Run every rival on the first seed of the workloads of at most a minute, and print it."""
    searches = Targets(options.targets).searches
    short = [
        name for name in workloads
        if name in searches and searches[name].horizon_seconds <= SCREENED_SECONDS
    ]  # fmt: skip
    if not short:
        raise SystemExit("a screening needs targets: python -m benchmarks.selftuning.targets")
    _run(short, rivals, [0], records, options.version)
    found = _results(records, options, short)
    first = dataclasses.replace(found, records=[r for r in found.records if r.seed == 0])
    print(f"\nscreening, up to {SCREENED_SECONDS:g} s:\n\n{table.standings(first)}\n", flush=True)
    return first


def _installed(names: Sequence[str]) -> list[str]:
    for name in names:
        if missing(name):
            print(f"{name}: left out, {', '.join(missing(name))} not installed", flush=True)
    return [name for name in names if not missing(name)]


def _run(
    workloads: Sequence[str],
    rivals: Sequence[str],
    seeds: Sequence[int],
    records: RecordFile,
    version: str,
) -> None:
    """All runs that are not recorded; on each seed the rivals take turns."""
    for name in workloads:
        left = [
            (seed, rival)
            for seed in seeds
            for rival in rivals
            if not records.has(name, rival, seed, version_of(rival, version))
        ]
        if not left:
            continue
        print(f"{name}: {busy()}", flush=True)
        bench = Bench(load(name))
        for seed, rival in left:
            begin = time.perf_counter()
            record = run(bench, RIVALS[rival], seed=seed, version=version_of(rival, version))
            records.append(record)
            print(
                f"  seed {seed}, {rival}: {record.lowest_loss:.5g} at best, "
                f"{record.final_loss:.5g} at the end, {record.num_steps:,} updates, "
                f"batch {record.batch_size}, {record.seconds:.1f} of "
                f"{record.horizon_seconds:g} s, {record.end}; "
                f"{time.perf_counter() - begin:.0f} s in all",
                flush=True,
            )


def version_of(rival: str, version: str) -> str:
    """Version of a rival's settings; downslope's is given."""
    return version if rival == DOWNSLOPE else str(VERSION)


def _results(
    records: RecordFile, options: argparse.Namespace, workloads: Sequence[str]
) -> table.Results:
    versions = {rival: version_of(rival, options.version) for rival in RIVALS}
    if options.report and not options.version_given:
        del versions[DOWNSLOPE]  # that of the last record
    kept = table.latest(records.records, versions)
    return table.Results(
        records=[r for r in kept if r.workload in workloads],
        searches=Targets(options.targets).searches,
        asked=workloads,
    )


def _print(results: table.Results, options: argparse.Namespace) -> None:
    rows = table.bars(results)
    if options.quick:  # sizes at which no bar means anything
        rows = [dataclasses.replace(row, met=None) for row in rows]
    if results.workloads:
        print(f"\n{table.standings(results)}\n\n{table.by_workload(results)}\n\n{markdown(rows)}\n")
    for text in (table.without_target(results), table.branches(results)):
        print(text)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selftuning", description=__doc__)
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rivals", nargs="+", metavar="NAME", help=f"of {', '.join(RIVALS)}")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="by default 5")
    parser.add_argument(
        "--screen", action="store_true",
        help=f"every rival on one seed of the shorter workloads; the best {CARRIED} on all",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="four workloads, five rivals, a seed")
    parser.add_argument("--report", action="store_true", help="run nothing, print the tables")
    parser.add_argument("--file", type=Path, metavar="FILE", help="of the records")
    parser.add_argument("--targets", type=Path, default=TARGETS, metavar="FILE")
    parser.add_argument(
        "--version", metavar="TEXT",
        help="of downslope; by default a digest of its sources, so that a change runs it again",
    )  # fmt: skip
    options = parser.parse_args(argv)
    for given, known in ((options.workloads, WORKLOADS), (options.rivals, RIVALS)):
        unknown = set(given or ()) - set(known)
        if unknown:
            parser.error(f"no such name: {', '.join(sorted(unknown))}")
    if options.seeds < 1:
        parser.error("--seeds must be 1 or more")
    if options.quick:
        options.seeds = 1
        options.file = options.file or Path(tempfile.mkdtemp()) / "records.jsonl"
    options.file = options.file or RECORDS
    options.workloads = options.workloads or list(QUICK_WORKLOADS if options.quick else WORKLOADS)
    options.rivals = options.rivals or list(QUICK_RIVALS if options.quick else RIVALS)
    options.version_given = options.version is not None
    options.version = options.version or sources_digest()
    return options


if __name__ == "__main__":
    main()
