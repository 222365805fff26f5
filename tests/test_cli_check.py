"""`downslope check` as its users type it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from downslope.cli import main

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command on a table of 500 rows; gives standard output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2))
    y = (x[:, 0] + rng.normal(size=500) > 0).astype(int)
    table = {"a": x[:, 0], "b": x[:, 1], "same": x[:, 1] * 2, "y": y, "one": np.ones(500)}
    pq.write_table(pa.table(table), "t.parquet")

    def run(*arguments, code=0):
        found = main(["check", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return run


@pytest.mark.slow
def test_one_line_a_check_the_worst_first_and_warnings_are_no_failure(run):
    out, err = run("t.parquet", "--target", "y", "--model", "mlp", "--hidden", "8")
    lines = out.splitlines()
    assert len(lines) == 12 and not err
    assert lines[0].startswith("warning  duplicates")
    kinds = [line.split()[0] for line in lines]
    assert kinds == sorted(kinds, key=["warning", "note", "fine"].index)


def test_json_is_one_object_and_only_makes_what_was_asked(run):
    out, _ = run("t.parquet", "--target", "y", "--json", "--only", "target,duplicates")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [f["name"] for f in found["findings"]] == ["duplicates", "target"]
    assert found["findings"][0]["values"]["pairs"] == [
        {"first": "b", "second": "same", "how": "scaled"}
    ]


def test_what_makes_training_meaningless_ends_with_3(run):
    out, err = run("t.parquet", "--target", "one", code=3)
    assert not out and "the target is constant" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["t.parquet"], "target is needed"),
        (["t.parquet", "--target", "y", "--only", "speed"], "only must be checks of"),
        (["t.parquet", "--target", "y", "--only", ","], "only must be checks of"),
    ],
)
def test_wrong_usage_is_one_line(run, arguments, words):
    out, err = run(*arguments, code=2)
    assert not out and err.count("\n") == 1 and words in err


def test_an_error_among_the_findings_ends_with_3_and_memory_alone_with_5(run, monkeypatch):
    from downslope.check import Finding
    from downslope.table import check as recipe

    def told(*names):
        bad = [Finding(name=name, severity="error", sentence="-") for name in names]
        monkeypatch.setattr(recipe, "check_table", lambda *_, **__: tuple(bad))

    told("memory")
    run("t.parquet", "--target", "y", code=5)
    told("memory", "target")
    run("t.parquet", "--target", "y", code=3)


def test_nothing_is_left_behind_but_the_cache(run, tmp_path):
    run("t.parquet", "--target", "y", "--only", "target")
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet", "cache"}
