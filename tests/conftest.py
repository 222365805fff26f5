"""Settings of every test: CPU, a cache of its own, repeatable examples, no silent skips."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import pages

ROOT = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ

# Set here and not in a fixture: JAX reads it when first imported, which collecting doctests does,
# and pytest-xdist's workers and the tests' own subprocesses inherit it.
os.environ["JAX_PLATFORMS"] = "cpu"
# Most of a test's time is compiling. What was compiled before, by whichever process, is read back.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Without XLA's fusion emitters, and in one piece, it takes less than half as long, and the programs
# of tests are small. `make newest` and the golden runs compile as users do, with XLA_FLAGS="".
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
# Threads of BLAS and PyTorch wait for each other by spinning: beside a second worker on two cores,
# ten times as long as one thread takes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if not IS_WORKER:
    os.environ["DOWNSLOPE_CACHE"] = tempfile.mkdtemp(prefix="downslope-tests-")

# A shell that runs a script in the background has its programs ignore Ctrl-C, and theirs too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the first example pays for a compilation, the others do not.
hypothesis.settings.register_profile(
    "downslope",
    deadline=None,
    derandomize=IN_CI,
    max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("downslope")


def pytest_unconfigure() -> None:
    if not IS_WORKER:
        shutil.rmtree(os.environ["DOWNSLOPE_CACHE"], ignore_errors=True)


def _skipped(config: pytest.Config) -> list[str]:
    """Names of the skipped tests, or of the files skipped as a whole."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return sorted({report.nodeid for report in reports})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test fails the run: there, everything that a test needs is installed."""
    if IN_CI and not IS_WORKER and session.exitstatus == 0 and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if IN_CI and (names := _skipped(terminalreporter.config)):
        terminalreporter.write_line(f"skipped, which fails in CI: {', '.join(names)}", red=True)


@pytest.fixture(scope="session")
def documented() -> frozenset[str]:
    """Dotted names that the reference renders."""
    files = (ROOT / "docs" / "reference").rglob("*.md")
    return frozenset().union(*map(pages.rendered_names, files))


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """For programs that run for less time than they take to compile."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
