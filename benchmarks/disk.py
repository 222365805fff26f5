"""A linear model on a table larger than memory: converted once, read every epoch."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import downslope
from benchmarks import table as tables
from benchmarks.child import OPTIONS
from benchmarks.memory import peak_bytes
from benchmarks.models import linear_model, table_logistic, timed_fit
from benchmarks.peers import time_to_loss
from benchmarks.report import Findings, Row
from benchmarks.timing import ratio, ratio_of, shown, take_turns

BATCH = 256
SHARE_IN_MEMORY = 0.25  # of the rows, to time what the epoch computes
AHEAD = (1, 4, 16)  # pieces of 8 MiB that the kernel is told of: the best cold read is one of these
GIB = 1 << 30


def run(quick: bool = False, table_gb: float = 4.0) -> Findings:
    found = Findings()
    num_rows = int(table_gb * 1e9 / tables.ROW_BYTES)
    # at its largest: the Parquet file, and twice the rows both in buckets and in their place
    with tables.scratch(5.5 * table_gb * 1e9) as folder:
        once = folder / "once"
        once.mkdir()
        tables.write_parquet(once / "0.parquet", num_rows)
        name = f"{num_rows:,} x {tables.WIDTH} rows on disk, {table_gb:g} GB"
        _conversion(name, once, found, 1 if quick else 5)
        stored = downslope.open(once, OPTIONS)
        _warm(name, stored, found, 1 if quick else 5)
        _cold(name, stored, found, 1 if quick else 5)
        stored.close()
        _forget(folder)
        _memory(name, once, folder / "twice", found)
        _forget(folder)
        time_to_loss(folder, found, quick)
    return found


def _forget(folder: Path) -> None:
    shutil.rmtree(folder / "cache", ignore_errors=True)


def _conversion(name: str, path: Path, found: Findings, repeats: int) -> None:
    def convert() -> float:
        _forget(path.parent)
        begin = time.perf_counter()
        downslope.open(path, OPTIONS).close()
        return time.perf_counter() - begin

    samples = take_turns(
        {"conversion": convert, "decoding": lambda: tables.decode(path)}, repeats, warm_up=False
    )
    found.samples |= samples
    found.rows.append(
        Row(
            what=f"{name}: conversion from Parquet, once",
            ours=shown(samples["conversion"]),
            peer=f"pyarrow decodes it in {shown(samples['decoding'])}",
            ratio=ratio(samples, "conversion", "decoding"),
        )
    )


def _epoch(data: Any, loss: Any, between: Callable[[], Any] = lambda: None) -> float:
    """Seconds of an epoch without compilation: the median of the epochs after the first."""
    run = timed_fit(
        loss, linear_model(tables.WIDTH), data, epochs=3, between=between,
        batch_size=BATCH, optimizer="sgd", patience=None,
    )  # fmt: skip
    return median(run.seconds)


def _warm(name: str, stored: Any, found: Findings, repeats: int) -> None:
    rows = int(SHARE_IN_MEMORY * stored.num_train)
    memory = downslope.Arrays(stored.train.read(0, rows), shuffled=True)
    scale = stored.num_train / rows

    def loss(model: Any, batch: Any, key: Any) -> Any:
        return table_logistic(model, stored.train.unpack(batch), key)

    samples = take_turns(
        {
            "warm epoch": lambda: _epoch(stored.train, table_logistic),
            "warm read": lambda: tables.read(stored.train.path),
            "in memory": lambda: scale * _epoch(memory, loss),
        },
        repeats,
    )
    slower = [max(pair) for pair in zip(samples["warm read"], samples["in memory"], strict=True)]
    both = [sum(pair) for pair in zip(samples["warm read"], samples["in memory"], strict=True)]
    found.samples |= samples
    against = ratio_of(samples["warm epoch"], slower)
    found.rows.append(
        Row(
            what=f"{name}: logistic epoch, batch {BATCH}, page cache warm",
            ours=shown(samples["warm epoch"]),
            peer=f"the longer of reading {shown(samples['warm read'])} "
            f"and computing {shown(samples['in memory'])}",
            ratio=against,
            bar="at most 1.5",
            met=against.median <= 1.5,
        )
    )
    found.notes.append(
        f"The warm epoch takes {ratio_of(samples['warm epoch'], both)} times as long as reading "
        f"and computing one after the other. Computing is timed on {rows:,} rows in memory and "
        "scaled to all."
    )


def _cold(name: str, stored: Any, found: Findings, repeats: int) -> None:
    path, left = stored.train.path, []

    def evict() -> None:
        left.append(tables.evict(path))

    def cold(measure: Callable[[], float]) -> Callable[[], float]:
        def evicted() -> float:
            evict()
            return measure()

        return evicted

    contestants = {"cold epoch": cold(lambda: _epoch(stored.train, table_logistic, evict))}
    contestants["cold read"] = cold(lambda: tables.read(path))
    for ahead in AHEAD:
        contestants[f"cold read, {ahead} ahead"] = cold(lambda n=ahead: tables.read(path, n))
    samples = take_turns(contestants, repeats, warm_up=False)
    found.samples |= samples
    best = min((n for n in samples if n != "cold epoch"), key=lambda n: median(samples[n]))
    share, size = ratio(samples, best, "cold epoch"), os.path.getsize(path)
    found.rows.append(
        Row(
            what=f"{name}: the same epoch, page cache cold",
            ours=f"{size / median(samples['cold epoch']) / 1e6:,.0f} MB/s",
            peer=f"best cold read ({best}) {size / median(samples[best]) / 1e6:,.0f} MB/s",
            ratio=share,
            bar="at least 0.8",
            met=share.median >= 0.8,
        )
    )
    worst = max(left)
    effect = "it had no full effect here: " if worst > 0.05 else ""
    found.notes.append(
        f"Cold: the file was given up with POSIX_FADV_DONTNEED after fsync; {effect}at most "
        f"{worst:.1%} of its pages were left in memory. A host's own cache cannot be emptied "
        f"from inside. Without read-ahead: {size / median(samples['cold read']) / 1e6:,.0f} MB/s."
    )


def _memory(name: str, once: Path, twice: Path, found: Findings) -> None:
    twice.mkdir()
    for number in range(2):  # the same bytes twice; a link needs no room
        os.link(once / "0.parquet", twice / f"{number}.parquet")
    for part, what in (("convert", "conversion"), ("train", "training, with held-out rows")):
        single, double = (peak_bytes(part, path) for path in (once, twice))
        found.rows.append(
            Row(
                what=f"{name}: anonymous memory, {what}",
                ours=f"{single / 1e6:,.0f} MB",
                peer=f"twice the rows: {double / 1e6:,.0f} MB",
                ratio=double / single,
                bar="under 1 GB, the same for twice the rows",
                met=max(single, double) < GIB and abs(double / single - 1) < 0.1,
            )
        )
        found.samples[f"anonymous bytes, {part}"] = [float(single), float(double)]
