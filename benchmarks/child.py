"""One stage of a table's processing in its own process, to measure its memory.

`python -m benchmarks.child convert|train TABLE`, started by `memory.py`.
"""

from __future__ import annotations

import sys

import downslope

OPTIONS = downslope.TableOptions(target="y", validation=0.02)


def main(part: str, path: str) -> None:
    table = downslope.open(path, OPTIONS)
    if part == "train":
        from benchmarks.models import linear_model, table_logistic

        model = linear_model(table.encoding.num_numeric)
        downslope.fit(
            table_logistic, model, table.train, epochs=2, batch_size=256, optimizer="sgd",
            validation=table.held_out, patience=None,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
