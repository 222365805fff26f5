"""Results of whole runs compared with a recording, to the last bit on the same kind of machine.

A run that differs by intent is recorded anew, in a commit of its own: see `record.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from golden import record

GOLDEN = json.loads(record.FILE.read_text())
HERE = record.machine()
SAME_MACHINE = GOLDEN["machine"] == HERE
TOLERANCE = 0.0 if SAME_MACHINE else 1e-5
# Less is asked of these: the training loss is summed over the calls to the device, whose lengths a
# busy machine may change; intervals rest on a quantile that is computed in one of several ways.
LOOSE = {"train_loss": 1e-9, "lo": 1e-6, "hi": 1e-6}

# Names in golden.json of policies that have another name today.
RENAMED_POLICIES: dict[str, str] = {}


def test_runs_compute_what_was_recorded():
    """Catches any change of what a run computes, chooses or counts, down to the last bit.

    In one process of their own, so that they are compiled as users do.
    """
    found = json.loads(
        subprocess.run(
            [sys.executable, "-m", "golden.record", "--print"],
            env=os.environ | {"XLA_FLAGS": "", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    )
    expected = GOLDEN["runs"]
    for each in (session for sessions in expected.values() for session in sessions):
        for decision in each["decisions"]:
            decision["policy"] = RENAMED_POLICIES.get(decision["policy"], decision["policy"])
    differences = list(_differences(expected, found, "runs"))
    assert not differences, "\n".join([*differences[:12], _how_compared()])


def _how_compared() -> str:
    if SAME_MACHINE:
        return f"compared to the last bit: golden.json was recorded on this machine's kind, {HERE}"
    return (
        f"compared to a tolerance of {TOLERANCE:g}: golden.json was recorded on "
        f"{GOLDEN['machine']}, this machine is {HERE}"
    )


def _differences(expected: Any, found: Any, place: str) -> Any:
    """Sentences on where two accounts differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            yield f"{place}: keys {sorted(expected)} are now {sorted(found)}"
        for key in expected.keys() & found.keys():
            if key != "sha256" or SAME_MACHINE:
                yield from _differences(expected[key], found[key], f"{place} {key}")
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f"{place}: {len(expected)} entries are now {len(found)}: {found}"
        for number, pair in enumerate(zip(expected, found, strict=False)):
            yield from _differences(*pair, f"{place}[{number}]")
    elif not _is_same(expected, found, place.rsplit(" ", 1)[-1]):
        yield f"{place}: {expected!r} is now {found!r}"


def _is_same(expected: Any, found: Any, name: str) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        tolerance = max(TOLERANCE, LOOSE.get(name, 0.0))
        return found == pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True)
    return type(expected) is type(found) and expected == found
