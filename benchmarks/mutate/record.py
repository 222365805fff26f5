"""Pytest plugin that records which test executes which line of the core.

Fixtures of several tests run once; what they execute counts for every test that uses them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

CORE = ("src/downslope/fit.py", "src/downslope/train/*.py", "src/downslope/choose/*.py")


class Recorder:
    """Writes `{test: {"seconds": ..., "lines": {file: [...]}}}` of the tests that pass.

    Args:
        out: the JSON file to write.
    """

    def __init__(self, out: Path):
        self._out = out
        self._coverage = coverage.Coverage(
            data_file=None, include=[str(Path.cwd() / name) for name in CORE], config_file=False
        )
        self._fixtures: dict[str, set[str]] = {}
        self._seconds: dict[str, float] = {}
        self._passed: set[str] = set()
        self._coverage.start()

    def pytest_runtest_setup(self, item: Any) -> None:
        self._coverage.switch_context(item.nodeid)
        nodes = [node.nodeid for node in item.listchain()]
        wanted = getattr(item, "fixturenames", ())
        self._fixtures[item.nodeid] = {_fixture(node, name) for node in nodes for name in wanted}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            yield
            return
        self._coverage.switch_context(_fixture(request.node.nodeid, fixturedef.argname))
        yield
        self._coverage.switch_context(os.environ["PYTEST_CURRENT_TEST"].rsplit(" ", 1)[0])

    def pytest_runtest_logreport(self, report: Any) -> None:
        seconds = self._seconds.get(report.nodeid, 0.0)
        self._seconds[report.nodeid] = seconds + report.duration
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        executed = self._executed()
        tests = {}
        for name in sorted(self._passed):
            lines: dict[str, set[int]] = {}
            for context in (name, *self._fixtures.get(name, ())):
                for path, numbers in executed.get(context, {}).items():
                    lines.setdefault(path, set()).update(numbers)
            found = {path: sorted(numbers) for path, numbers in lines.items()}
            tests[name] = {"seconds": round(self._seconds[name], 3), "lines": found}
        self._out.write_text(json.dumps(tests))

    def _executed(self) -> dict[str, dict[str, list[int]]]:
        """Lines by context and file."""
        data, found = self._coverage.get_data(), {}
        for file in data.measured_files():
            path = Path(file).relative_to(Path.cwd()).as_posix()
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in contexts:
                    found.setdefault(context, {}).setdefault(path, []).append(line)
        return found


def _fixture(node: str, name: str) -> str:
    return f"fixture {name} of {node}"


def pytest_configure(config: Any) -> None:
    """Register the recorder; `MUTATE_OUT` names the file to write."""
    config.pluginmanager.register(Recorder(Path(os.environ["MUTATE_OUT"])))
