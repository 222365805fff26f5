"""Train every method on every table, nothing tuned, and print scores, ranks and times."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np

from benchmarks.tables.methods import CONSTANT, METHODS, error_of
from benchmarks.tables.sets import SETS, split

RECORDS = Path(__file__).parent / "records.jsonl"


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--role", choices=("tuning", "final"), default="tuning")
    parser.add_argument("--tables", nargs="+", metavar="NAME")
    parser.add_argument("--methods", nargs="+", metavar="NAME", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--file", type=Path, default=RECORDS, metavar="FILE", help="of the records")
    parser.add_argument("--label", default="", help="added to the name of downslope's methods")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    sets = [s for s in SETS if s.role == options.role]
    if options.tables:
        sets = [s for s in sets if s.name in options.tables]
    lines = options.file.read_text().splitlines() if options.file.exists() else []
    records = [json.loads(line) for line in lines]
    known = {(r["table"], r["method"], r["seed"]) for r in records}
    for table in sets:
        for seed in range(options.seeds):
            parts = None
            for method in (*options.methods, CONSTANT):
                label = method + options.label * method.startswith("downslope")
                if (table.name, label, seed) in known:
                    continue
                known.add((table.name, label, seed))
                parts = parts or split(table, seed)
                classes = []
                if table.task == "classify":
                    classes = sorted(parts.train[table.target].unique().tolist())
                found = METHODS[method](table, parts, classes, seed)
                record = {
                    "table": table.name,
                    "method": label,
                    "seed": seed,
                    "error": error_of(table, parts.test, found.predictions, classes),
                    "seconds": round(found.seconds, 2),
                }
                records.append(record)
                with options.file.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(f"{table.name}, seed {seed}, {label}: {record['error']:.5g}, "
                      f"{record['seconds']:.1f} s", flush=True)  # fmt: skip
    names = [s.name for s in sets]
    report([r for r in records if r["table"] in names])


def report(records: list[dict]) -> None:
    """Mean error of every method on every table, then score, rank and time."""
    tables = list(dict.fromkeys(r["table"] for r in records))
    methods = list(dict.fromkeys(r["method"] for r in records))
    errors = np.full((len(tables), len(methods)), np.nan)
    seconds = errors.copy()
    for i, table in enumerate(tables):
        for j, method in enumerate(methods):
            found = [r for r in records if r["table"] == table and r["method"] == method]
            if found:
                errors[i, j] = np.mean([r["error"] for r in found])
                seconds[i, j] = np.mean([r["seconds"] for r in found])
    constant = errors[:, [methods.index(CONSTANT)]]
    best = np.nanmin(errors, axis=1, keepdims=True)
    scores = np.clip((constant - errors) / (constant - best), -1, 1)
    print("\n| table | " + " | ".join(methods) + " |\n|" + "---|" * (len(methods) + 1))
    for i, table in enumerate(tables):
        cells = [
            "" if np.isnan(e) else f"{e:.5g} ({s:.1f} s)"
            for e, s in zip(errors[i], seconds[i], strict=True)
        ]
        print(f"| {table} | " + " | ".join(cells) + " |")
    ranks = np.argsort(np.argsort(errors, axis=1), axis=1) + 1.0
    for name, values, form in (
        ("score", np.nanmean(scores, 0), "{:.3f}"),
        ("rank", np.where(np.isnan(errors).any(0), np.nan, ranks.mean(0)), "{:.2f}"),
        ("median seconds", np.nanmedian(seconds, 0), "{:.1f}"),
    ):
        print(f"| **{name}** | " + " | ".join(form.format(v) for v in values) + " |")


if __name__ == "__main__":
    main()
