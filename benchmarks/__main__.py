"""Run the benchmarks and print the table of the README."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import time
from typing import Any

from benchmarks.report import Findings, markdown
from benchmarks.timing import load, machine

NAMES = ("linear", "mlp", "sweep", "disk", "start", "critical", "overhead")


def main(argv: list[str] | None = None) -> None:
    options = _options(argv)
    about = machine()
    print(json.dumps(about, indent=1), flush=True)
    found: dict[str, Findings] = {}
    loads = {}
    for name in options.names or NAMES:
        begin, before = time.perf_counter(), load()
        print(f"{name} ...", flush=True)
        found[name] = _run(name, options)
        if options.quick:  # sizes at which no bar means anything
            rows = [dataclasses.replace(row, met=None) for row in found[name].rows]
            found[name].rows = rows
        loads[name] = f"{before} at its beginning, {load()} at its end"
        print(f"{markdown(found[name].rows)}\n", flush=True)
        for note in found[name].notes:
            print(f"- {note}")
        took = time.perf_counter() - begin
        print(f"- {name}: {took:.0f} s on {about['cores']} cores, {loads[name]}\n", flush=True)
    if len(found) > 1:
        print(markdown([row for part in found.values() for row in part.rows]))
    if options.json:
        document = {"machine": about, "load": loads} | {
            "findings": {name: dataclasses.asdict(part) for name, part in found.items()}
        }
        with open(options.json, "w") as file:
            json.dump(document, file, indent=1)


def _run(name: str, options: argparse.Namespace) -> Findings:
    arguments: dict[str, Any] = {"quick": options.quick}
    if name == "disk":
        arguments["table_gb"] = 0.01 if options.quick else options.table_gb
    return importlib.import_module(f"benchmarks.{name}").run(**arguments)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    parser.add_argument(
        "--table-gb", type=float, default=4.0, help="size of the table on disk, in 10^9 bytes"
    )
    options = parser.parse_args(argv)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
