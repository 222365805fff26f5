"""Train every method on every table, nothing tuned, and print scores, ranks and times."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables.methods import CONSTANT, DOWNSLOPE, METHODS, calibration_error, losses_of
from benchmarks.tables.sets import SETS, split

RECORDS = Path("bench-data/tables.jsonl")
NOISE = 2.0  # standard errors of a paired difference


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
    options.file.parent.mkdir(parents=True, exist_ok=True)
    lines = options.file.read_text().splitlines() if options.file.exists() else []
    records = [json.loads(line) for line in lines]
    known = {(r["table"], r["method"], r["seed"]) for r in records}
    for table in sets:
        for seed in range(options.seeds):
            parts = None
            for method in (*options.methods, CONSTANT):
                label = method + options.label * method.startswith(DOWNSLOPE)
                if (table.name, label, seed) in known:
                    continue
                known.add((table.name, label, seed))
                parts = parts or split(table, seed)
                record = measured(table, parts, method, seed) | {"method": label}
                records.append(record)
                with options.file.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(f"{table.name}, seed {seed}, {label}: {record['error']:.5g}, "
                      f"{record['seconds']:.1f} s", flush=True)  # fmt: skip
    names = [s.name for s in sets]
    report([r for r in records if r["table"] in names])


def measured(table: Any, parts: Any, method: str, seed: int) -> dict[str, Any]:
    """Error, losses of the test rows, calibration and time of a method on a table."""
    classes = []
    if table.task == "classify":
        classes = sorted(parts.train[table.target].unique().tolist())
    found = METHODS[method](table, parts, classes, seed)
    losses = losses_of(table, parts.test, found.predictions, classes)
    calibration = None
    if classes:
        places = np.array([classes.index(value) for value in parts.test[table.target]])
        calibration = calibration_error(places, found.predictions)
    return {
        "table": table.name, "seed": seed, "seconds": round(found.seconds, 2),
        # log loss of a row, or root of the mean squared error
        "error": float(losses.mean() if classes else np.sqrt(losses.mean())),
        "calibration_error": calibration,
        "losses": [float(f"{loss:.4g}") for loss in losses],
    }  # fmt: skip


def report(records: list[dict]) -> None:
    """Mean error of every method on every table, then score, rank, time, and paired comparisons."""
    tables = list(dict.fromkeys(r["table"] for r in records))
    methods = list(dict.fromkeys(r["method"] for r in records))

    def means(key: str) -> np.ndarray:
        cells = [
            [
                [r[key] for r in records if (r["table"], r["method"]) == (table, method)]
                for method in methods
            ]
            for table in tables
        ]
        known = [[[v for v in c if v is not None] for c in row] for row in cells]
        return np.array([[np.mean(c) if c else np.nan for c in row] for row in known])

    errors, seconds, calibration = map(means, ("error", "seconds", "calibration_error"))
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of nothing
        rows = (
            ("score", np.nanmean(scores, 0), "{:.3f}"),
            ("rank", np.where(np.isnan(errors).any(0), np.nan, ranks.mean(0)), "{:.2f}"),
            ("calibration error", np.nanmean(calibration, 0), "{:.4f}"),
            ("median seconds", np.nanmedian(seconds, 0), "{:.1f}"),
        )
    for name, values, form in rows:
        print(f"| **{name}** | " + " | ".join(form.format(v) for v in values) + " |")
    if DOWNSLOPE in methods:
        cells = ["", *(_against(records, tables, other) for other in methods[1:])]
        print("| **downslope better, equal, worse** | " + " | ".join(cells) + " |")


def _against(records: list[dict], tables: list[str], other: str) -> str:
    """Tables on which downslope is better, no different beyond noise, and worse."""
    counts = {1: 0, 0: 0, -1: 0}
    for table in tables:
        of = {
            (r["method"], r["seed"]): np.array(r["losses"]) for r in records if r["table"] == table
        }
        seeds = [s for m, s in of if m == other and (DOWNSLOPE, s) in of]
        if seeds:
            gaps = np.concatenate([of[other, s] - of[DOWNSLOPE, s] for s in seeds])
            error = gaps.std(ddof=1) / np.sqrt(len(gaps))
            counts[int(np.sign(gaps.mean())) * int(abs(gaps.mean()) > NOISE * error)] += 1
    return f"{counts[1]}, {counts[0]}, {counts[-1]}"


if __name__ == "__main__":
    main()
