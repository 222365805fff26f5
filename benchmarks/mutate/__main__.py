"""Print the share of the core's mutants that its tests kill, and those that survive.

A first run of the tests records which of them executes which line. Each mutant of a reproducible
sample is then met by the tests that execute its line, the quickest first, until one fails.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import difflib
import fnmatch
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from benchmarks.mutate.mutants import Mutant, mutants, mutated, sample
from benchmarks.mutate.record import CORE

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".mutate"  # what tests execute, until the sources or tests change
TESTS = (
    "tests/choose", "tests/train", "tests/step", "tests/golden", "tests/test_fit.py",
    "tests/test_auto.py", "tests/test_auto_edges.py", "tests/test_resume.py",
    "tests/test_stops.py", "tests/test_bad_input.py", "tests/test_objective.py",
    "src/downslope/fit.py", "src/downslope/train", "src/downslope/choose",
)  # fmt: skip
# Whole runs in a process of its own, which the record does not look into: it meets every mutant.
WHOLE_RUNS = "tests/golden/test_golden.py::test_runs_compute_what_was_recorded"
MOST_SECONDS = 90.0  # of tests against one mutant, as they took unmutated
SLOWER = 5.0  # times as long as unmutated, after which a mutant counts as killed
START_SECONDS = 60.0  # to import everything on a busy machine

_TICKS = itertools.count(2, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a mutant."""

    mutant: Mutant
    killed_by: str | None
    num_tests: int
    diff: str


def chosen(mutant: Mutant, tests: dict[str, Any]) -> list[str]:
    """Tests that execute the mutant's line, the quickest first up to a limit, then whole runs."""
    lines = set(range(mutant.first, mutant.last + 1))

    def meets(name: str) -> bool:
        executed = tests[name]["lines"].get(mutant.path, ())
        return bool(executed) if mutant.anywhere else not lines.isdisjoint(executed)

    names, spent = [], 0.0
    for name in sorted(filter(meets, tests), key=lambda name: tests[name]["seconds"]):
        spent += tests[name]["seconds"]
        if names and spent > MOST_SECONDS:
            break
        names.append(name)
    whole = [name for name in tests if name == WHOLE_RUNS and name not in names]
    return [*names, *whole]


def copy_tree(target: Path) -> Path:
    """Copy of the working tree as git sees it, without ignored files."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def run_tests(tree: Path, arguments: list[str], seconds: float | None, **more: str) -> int | None:
    """Exit code of pytest in a copy; None if it took too long."""
    paths = os.pathsep.join([str(tree / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths} | more
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(KEPT / "programs"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, *arguments], cwd=tree, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    (tree / "said.txt").write_text(said)
    return process.returncode


def coverage_of(tree: Path, names: list[str]) -> dict[str, Any]:
    """Lines that each test executes, from `.mutate/` if nothing changed since."""
    digest = hashlib.sha256(" ".join(names).encode())
    for path in sorted([*(tree / "src").rglob("*.py"), *(tree / "tests").rglob("*.*")]):
        if "__pycache__" not in path.parts:
            digest.update(path.relative_to(tree).as_posix().encode() + path.read_bytes())
    out = KEPT / f"{digest.hexdigest()[:16]}.json"
    if not out.exists():
        print("recording which test executes which line ...", flush=True)
        begin = time.perf_counter()
        part = out.with_suffix(".part")
        arguments = ["-p", "benchmarks.mutate.record", *names]
        ended = run_tests(tree, arguments, None, MUTATE_OUT=str(part))
        print((tree / "said.txt").read_text().splitlines()[-1], flush=True)
        if ended not in (0, 1):  # some failed at most: those are left out
            raise SystemExit("the tests could not be run")
        part.rename(out)
        print(f"recorded in {time.perf_counter() - begin:.0f} s", flush=True)
    return json.loads(out.read_text())


def check(mutant: Mutant, tree: Path, tests: dict[str, Any]) -> Outcome:
    """Put a fault into a copy, run the tests that execute it, and take it out again."""
    path = tree / mutant.path
    source = path.read_text()
    code = mutated(mutant, source)
    names = chosen(mutant, tests)
    diff = difflib.unified_diff(source.splitlines(), code.splitlines(), n=0, lineterm="")
    changed = "\n".join(line for line in diff if line[:3] not in ("---", "+++", "@@ "))
    killed_by: str | None = None
    if names:
        expected = sum(tests[name]["seconds"] for name in names)
        try:
            _write(path, code)
            ended = run_tests(tree, ["-x", *names], START_SECONDS + SLOWER * expected)
        finally:
            _write(path, source)
        said = (tree / "said.txt").read_text().splitlines()
        failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
        if ended is None:
            killed_by = "no end"
        elif ended != 0:
            killed_by = failed[0] if failed else f"exit {ended}"
    return Outcome(mutant=mutant, killed_by=killed_by, num_tests=len(names), diff=changed)


def _write(path: Path, text: str) -> None:
    """Writes a file with a time of change of its own, by which Python knows stale bytecode."""
    path.write_text(text)
    moment = int(time.time()) + next(_TICKS)
    os.utime(path, (moment, moment))


def main(argv: list[str] | None = None) -> int:
    """Print the share of mutants that the tests kill, and those that survive."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutate", description=__doc__)
    parser.add_argument("--sample", type=int, default=100, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--only", default="*", help="files to mutate, such as '*/calls.py'")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files and folders of tests")
    options = parser.parse_args(argv)
    KEPT.mkdir(exist_ok=True)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutate-") as parent:
        trees = [copy_tree(Path(parent) / str(i)) for i in range(options.jobs)]
        tests = coverage_of(trees[0], options.tests)
        paths = [p for name in CORE for p in trees[0].glob(name)]
        files = sorted(path.relative_to(trees[0]).as_posix() for path in paths)
        files = fnmatch.filter(files, options.only)
        found = [m for name in files for m in mutants(name, (trees[0] / name).read_text())]
        drawn = sample(found, options.sample, options.seed)
        print(f"{len(drawn)} of {len(found)} mutants of {len(files)} files, {len(tests)} tests")
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(lambda m: _checked(m, trees, tests), drawn))
    return _report(outcomes, time.perf_counter() - begin)


def _checked(mutant: Mutant, free: list[Path], tests: dict[str, Any]) -> Outcome:
    tree = free.pop()
    try:
        outcome = check(mutant, tree, tests)
    finally:
        free.append(tree)
    end = f"killed: {outcome.killed_by}" if outcome.killed_by else "survived"
    print(f"{mutant.path}:{mutant.line} {mutant.operator}, {end}"[:160], flush=True)
    return outcome


def _report(outcomes: list[Outcome], seconds: float) -> int:
    alive = [outcome for outcome in outcomes if outcome.killed_by is None]
    for each in sorted(alive, key=lambda each: (each.mutant.path, each.mutant.line)):
        place = f"{each.mutant.path}:{each.mutant.line}"
        print(f"\nsurvived {each.num_tests} tests: {place} {each.mutant.operator}\n{each.diff}")
    killed, number = len(outcomes) - len(alive), len(outcomes)
    by_whole = sum(WHOLE_RUNS in (outcome.killed_by or "") for outcome in outcomes)
    interval = binomtest(killed, number).proportion_ci(method="wilson")
    print(
        f"\n{killed} of {number} mutants killed, {killed / number:.0%} "
        f"(95 % interval {interval.low:.0%} to {interval.high:.0%}), "
        f"{by_whole} of them by whole runs alone, in {seconds:.0f} s"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
