"""The main use on real data: scikit-learn's digits, written to Parquet and trained on.

Run by `make demo`. It calls the same command that a user types, so what it prints is what a
user sees.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

from downslope.cli import main

TABLE = Path("runs") / "digits.parquet"


def write_digits(path: Path) -> None:
    """1,797 images of 8 x 8 pixels, one pixel per column, and the digit that they show."""
    digits = load_digits()
    columns = {f"pixel_{i}": digits.data[:, i] for i in range(digits.data.shape[1])}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**columns, "digit": digits.target}), path)


if __name__ == "__main__":
    write_digits(TABLE)
    command = ["fit", str(TABLE), "--target", "digit", "--model", "mlp", "--explain"]
    print("$ downslope", *command, flush=True)
    sys.exit(main(command))
