"""Waiting times at the command line: the help text, and the first training step."""

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

HELP_SECONDS, FIRST_SECONDS, SECOND_SECONDS = 0.3, 5.0, 3.0


def run(quick: bool = False) -> Findings:
    found = Findings()
    repeats = 1 if quick else 5
    with scratch(1e8) as folder:
        table = folder / "digits.parquet"
        _write_digits(table)
        runs, cpu = iter(range(1000)), {"first time": [], "second time": []}

        def first_step(fresh: bool) -> Callable[[], float]:
            def measure() -> float:
                number = next(runs)
                cache = folder / (f"cache-{number}" if fresh else "cache")
                command = ("fit", str(table), "--target", "digit", "--model", "mlp")
                command += ("--batch-size", "32", "--steps", "1", "--json")
                before = _children_seconds()
                took = _command(*command, "--out", str(folder / f"run-{number}"), cache=cache)
                cpu["first time" if fresh else "second time"].append(_children_seconds() - before)
                return took

            return measure

        first_step(fresh=False)()  # fills the cache of those that find one
        cpu["second time"].clear()
        samples = take_turns(
            {
                "help": lambda: _command("--help", cache=folder / "cache"),
                "python": lambda: seconds(lambda: _run([sys.executable, "-c", "pass"])),
                "import jax": lambda: seconds(lambda: _run([sys.executable, "-c", "import jax"])),
                "first time": first_step(fresh=True),
                "second time": first_step(fresh=False),
            },
            repeats,
            warm_up=False,
        )
    found.samples = samples
    used = ", ".join(f"{name} {median(times):.2f} s" for name, times in cpu.items())
    found.notes.append(
        f"Processor time of the commands, which other programs lengthen less: {used}."
    )
    python = f"Python alone {shown(samples['python'])}"
    jax = f"importing JAX alone {shown(samples['import jax'])}"
    found.rows = [
        _row("`downslope --help`", "help", python, HELP_SECONDS, found),
        _row(
            "`downslope fit` of the demo with one step, evaluation and saving, first time",
            "first time", jax, FIRST_SECONDS, found,
        ),
        _row("the same, second time (programs in the cache)", "second time", jax,
             SECOND_SECONDS, found),
    ]  # fmt: skip
    return found


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
