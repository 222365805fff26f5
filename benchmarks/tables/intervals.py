"""Coverage of prediction intervals on the test rows of tables with numeric targets."""

from __future__ import annotations

import argparse
import tempfile

import numpy as np

import downslope
from benchmarks.tables.sets import SETS, split

LEVELS = (0.8, 0.9, 0.95)


def main(argv: list[str] | None = None) -> None:
    """Train with nothing said, and print the share of test rows inside intervals of each level."""
    from downslope.table.fit import fit
    from downslope.table.predict import predict

    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.intervals")
    parser.add_argument("--tables", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(argv)
    print("| table | test rows | " + " | ".join(f"{level:.0%}" for level in LEVELS) + " |")
    print("|" + "---|" * (len(LEVELS) + 2))
    for table in SETS:
        if table.role != "tuning" or table.task != "regress":
            continue
        if options.tables and table.name not in options.tables:
            continue
        shares, num_rows = [], 0
        for seed in range(options.seeds):
            parts = split(table, seed)
            asked = downslope.TableOptions(target=table.target, task="regress", seed=seed)
            truth, num_rows = parts.test[table.target].to_numpy(float), len(parts.test)
            with tempfile.TemporaryDirectory() as folder:
                fit(parts.train, asked, out=f"{folder}/run")
                row = []
                for level in LEVELS:
                    found = predict(f"{folder}/run", parts.test, interval=level).table
                    assert found is not None
                    lower, upper = (found[name].to_numpy() for name in ("lower", "upper"))
                    row.append(((truth >= lower) & (truth <= upper)).mean())
            shares.append(row)
        cells = [f"{share:.1%}" for share in np.mean(shares, axis=0)]
        print(f"| {table.name} | {num_rows:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
