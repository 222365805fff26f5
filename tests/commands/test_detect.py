"""`downslope detect`: learns from a file, finds in another, says what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from downslope.cli import main
from downslope.recipes.anomaly.simulate import beam, plant


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Signals as .npy, .csv and .parquet, and a detector."""
    here = tmp_path_factory.mktemp("signals")
    np.save(here / "normal.npy", beam(20_000))
    new = plant(beam(4_000, seed=1), "dropout", at=2_000)
    np.save(here / "new.npy", new)
    table = pa.table({"turn": np.arange(4_000), "x": new})
    csv.write_csv(table, here / "new.csv")
    pq.write_table(table, here / "new.parquet")
    normal, noise = beam(20_000), np.random.default_rng(0).normal(size=20_000)
    np.save(here / "flat.npy", np.ones(5_000))
    np.save(here / "short.npy", normal[:700])
    np.save(here / "noise.npy", noise)
    np.save(here / "square.npy", np.ones((9, 9)))
    csv.write_csv(
        pa.table({"t": np.arange(20_001), "x": pa.array([*normal[:500], None, *normal[500:]])}),
        here / "gap.csv",
    )
    pq.write_table(pa.table({"x": pa.array(normal)}), here / "normal.parquet")
    pq.write_table(pa.table({"x": pa.array([str(v) for v in normal])}), here / "text.parquet")
    (here / "empty.csv").write_text("")
    (here / "pickle.npy").write_bytes(b"no array at all")
    (here / "cut.npy").write_bytes((here / "normal.npy").read_bytes()[:90])
    words = ["fit", here / "normal.npy", "--out", here / "d", "--max-iter", "2"]
    assert main(["detect", *map(str, words), "--false-alarm-rate", "0.02"]) == 0
    return here


@pytest.mark.parametrize("words", [["new.npy"], ["new.csv", "--column", "x"],
                                   ["new.parquet", "--column", "x"]])  # fmt: skip
def test_every_kind_of_file_gives_the_same(words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["detect", "score", "d", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    events = [a for a in found["alarms"] if a["start"] < 2_050 and a["end"] > 2_000]
    assert events and found["windows"] == 245  # the last begins at round(244 * 50 / 3.1)


def test_a_signal_with_a_gap_is_scored(folder, monkeypatch, capsys):
    """Catches a score that is NaN, and JSON that says Infinity."""
    monkeypatch.chdir(folder)
    assert main(["detect", "score", "d", "gap.csv", "--column", "x", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    (gap,) = [a for a in found["alarms"] if a["because"] == "missing"]
    assert gap["samples"] == [500] and gap["score"] is None


def test_fit_says_what_was_learned(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["detect", "fit", "normal.parquet", "--out", str(tmp_path / "d"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["period"]["value"] == pytest.approx(1 / 0.31, rel=1e-4)
    assert 4 <= found["code"] <= 10 and found["descended"] is False
    assert "20 held-out windows share no sample" in found["gain"]["reason"]


def test_all_windows_as_parquet(folder, tmp_path, capsys):
    out = tmp_path / "scores.parquet"
    words = ["detect", "score", str(folder / "d"), str(folder / "new.npy"), "--out", str(out)]
    assert main(words) == 0
    table = pq.read_table(out)
    assert table.column_names == ["start", "end", "score", "alarm"]
    counted = sum(table["alarm"].to_pylist())
    assert f"{counted} of {table.num_rows} windows are alarms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("fit normal.npy", 2, "--out is needed"),
        ("fit normal.npy new.npy --out e", 2, "takes one SIGNAL"),
        ("score d", 2, "needs a DETECTOR"),
        ("score d new.npy --period 3", 2, "--period belongs to detect fit"),
        ("score d new.csv", 2, "--column is needed: one of turn, x"),
        ("score d new.csv --column z", 3, "no such column"),
        ("score nowhere new.npy", 3, "missing file"),
        ("score d nowhere.npy", 3, "nowhere.npy"),
        ("fit normal.npy --out d", 3, "already exists"),
        ("fit normal.npy --out e --false-alarm-rate 2", 2, "below 1"),
        ("look normal.npy", 2, "must be"),
        ("fit flat.npy --out e", 3, "the signal is constant"),
        ("fit short.npy --out e", 3, "too few; give"),
        ("fit noise.npy --out e", 3, "no line of the spectrum stands above noise; give period"),
        ("fit gap.csv --column x --out e", 3, "row 501: not a finite number"),
        ("fit text.parquet --out e", 3, "string is no number"),
        ("fit empty.csv --out e", 3, "empty.csv"),
        ("fit cut.npy --out e", 3, "not readable as .npy"),
        ("fit pickle.npy --out e", 3, "not readable as .npy: damaged, or no array of numbers"),
        ("fit square.npy --out e", 2, "--column is needed"),
        ("fit normal.npy --out e --period 1", 2, "period must be a finite number of at least 2"),
        ("fit normal.npy --out e --period 9000", 3, "too few; give"),
        (
            "fit normal.npy --out e --sampling-rate 0",
            2,
            "sampling_rate must be a finite number above 0",
        ),
        ("fit normal.npy --out e --max-iter 0", 2, "max_iter must be"),
        ("score d square.npy", 2, "--column is needed"),
        ("score d new.npy --out new.npy", 3, "new.npy: already exists"),
        ("score nowhere new.npy --out new.npy", 3, "new.npy: already exists"),  # before scoring
        ("score d new.npy --out d", 3, "d: already exists"),
        ("score d new.npy --out none/a.parquet", 3, "none: no such folder"),
    ],
)
def test_what_is_wrong_is_said(words, code, said, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["detect", *words.split()]) == code
    out, err = capsys.readouterr()
    assert "allow_pickle" not in err
    assert said in err and err.count("\n") == 1 and not out
