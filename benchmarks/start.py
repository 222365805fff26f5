"""Waiting times at the command line: the help text, the first training step, a small table."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.report import Findings, Row
from benchmarks.table import scratch
from benchmarks.timing import seconds, shown, take_turns

HELP_SECONDS = 0.3
ONE_STEP = ("--model", "mlp", "--batch-size", "32", "--steps", "1")
# By name: what is asked of `downslope fit` on the digits, and the bars, first and second time.
FITS = {
    "one step": (ONE_STEP, 5.0, 3.0),
    "linear": (("--model", "linear", "--no-report"), 3.0, 1.5),
    "auto": (("--no-report",), 4.5, 2.5),
    "with report": ((), 5.2, 3.2),
}


def run(quick: bool = False) -> Findings:
    found = Findings()
    repeats = 1 if quick else 5
    with scratch(1e8) as folder:
        table = folder / "digits.parquet"
        _write_digits(table)
        runs, cpu = iter(range(1000)), {}

        def fit(name: str, fresh: bool) -> Callable[[], float]:
            def measure() -> float:
                number = next(runs)
                cache = folder / (f"cache-{number}" if fresh else "cache")
                command = ("fit", str(table), "--target", "digit", "--json", *FITS[name][0])
                before = _children_seconds()
                took = _command(*command, "--out", str(folder / f"run-{number}"), cache=cache)
                cpu.setdefault(_turn(name, fresh), []).append(_children_seconds() - before)
                return took

            return measure

        for name in FITS:
            fit(name, fresh=False)()  # fills the cache of those that find one
        cpu.clear()
        turns = {
            "help": lambda: _command("--help", cache=folder / "cache"),
            "python": lambda: seconds(lambda: _run([sys.executable, "-c", "pass"])),
            "import jax": lambda: seconds(lambda: _run([sys.executable, "-c", "import jax"])),
        }
        for name in FITS:
            turns |= {_turn(name, fresh): fit(name, fresh) for fresh in (True, False)}
        samples = take_turns(turns, repeats, warm_up=False)
    found.samples = samples
    used = ", ".join(f"{name} {median(times):.2f} s" for name, times in cpu.items())
    found.notes.append(
        f"Processor time of the commands, which other programs lengthen less: {used}."
    )
    python = f"Python alone {shown(samples['python'])}"
    jax = f"importing JAX alone {shown(samples['import jax'])}"
    found.rows = [_row("`downslope --help`", "help", python, HELP_SECONDS, found)]
    for name, (options, *bars) in FITS.items():
        what = f"`{' '.join(('downslope fit', *options))}`, 1,797 digits"
        for fresh, bar in zip((True, False), bars, strict=True):
            turn = _turn(name, fresh)
            found.rows.append(_row(f"{what}, {turn.split(', ')[1]}", turn, jax, bar, found))
    return found


def _turn(name: str, fresh: bool) -> str:
    """Name of the runs that find no compiled programs, or those of runs before."""
    return f"{name}, {'first time' if fresh else 'second time'}"


def _row(what: str, name: str, peer: str, bar: float, found: Findings) -> Row:
    times = found.samples[name]
    return Row(
        what=what,
        ours=shown(times),
        peer=peer,
        ratio=f"{min(times):.2f} to {max(times):.2f} s",
        bar=f"under {bar:g} s",
        met=median(times) < bar,
    )


def _command(*arguments: str, cache: Path) -> float:
    command = [sys.executable, "-c", "import sys; from downslope.cli import main; sys.exit(main())"]
    environment = os.environ | {"DOWNSLOPE_CACHE": str(cache)}
    return seconds(lambda: _run([*command, *arguments], environment))


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def _children_seconds() -> float:
    """Processor seconds, of user and system, that ended subprocesses have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _write_digits(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.datasets import load_digits

    digits = load_digits()
    columns = {f"pixel_{i}": digits.data[:, i] for i in range(digits.data.shape[1])}
    pq.write_table(pa.table({**columns, "digit": digits.target}), path)
