"""The command line as its users type it: from a table to a model to predictions."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

import plain
from downslope.cli import main
from downslope.report import progress

ROWS = 600
pytestmark = pytest.mark.usefixtures("quick_compilation")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
# Settings of plain training, as flags; some tests give another optimizer or batch size.
PLAIN = [
    word
    for name, value in plain.PLAIN.items()
    if name not in ("optimizer", "learning_rate", "batch_size")
    for word in ("--" + name.replace("_", "-"), str(value).lower())
]
SUMMARY = {
    "run", "task", "model", "optimizer", "batch_size", "learning_rate", "num_steps",
    "num_examples", "num_epochs", "seconds", "train_loss", "validation", "stop_reason",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(autouse=True)
def no_end():
    """A SIGTERM that nobody catches fails a test and does not end them all."""

    def fail(*_):
        pytest.fail("SIGTERM was not caught")

    before = signal.signal(signal.SIGTERM, fail)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def run(folder, capsys):
    """Runs a command that ends with a code; gives standard output and standard error.

    Reports cost seconds and are tested in tests/commands.
    """

    def run(*arguments, code=0):
        found = main(plain.command(*arguments))
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return run


@pytest.fixture
def summary(run):
    """Runs `fit --json`; gives the object on standard output, which holds nothing else."""

    def summary(*arguments, code=0):
        out, _ = run("fit", *arguments, "--json", code=code)
        assert out.endswith("}\n") and out.count("\n") == 1
        return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    return summary


def columns():
    """Four numbers that say which of two classes a row belongs to."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4))
    return {f"x{i}": x[:, i] for i in range(4)} | {"y": (x @ [2.0, -1, 0.5, 0] > 0).astype(int)}


def write_table(path="t.parquet", **more):
    pq.write_table(pa.table(columns() | more), path)
    return path


# --- from a table to predictions ---------------------------------------------------------


@pytest.mark.slow
def test_digits_from_parquet_to_predictions(run, summary):
    """Catches a broken main path; truths: the data set's own labels and what JSON must hold."""
    digits = load_digits()
    pixels = {f"pixel {i}": digits.data[:, i] for i in range(64)}
    pq.write_table(pa.table({**pixels, "digit": digits.target}), "digits.parquet")
    found = summary("digits.parquet", "--target", "digit", "--out", "run", "--epochs", "10")
    assert found.keys() >= SUMMARY
    assert (found["run"], found["task"], found["model"]) == ("run", "classify", "linear")
    assert (found["optimizer"], found["stop_reason"]) == ("nadam", "finished")
    assert found["num_epochs"] == 10
    assert 0.85 < found["num_examples"] / (10 * 1797) < 0.95
    assert found["validation"].keys() == {"loss", "accuracy", "log_loss", "auc"}
    assert found["validation"]["accuracy"] > 0.9

    out, err = run("predict", "run", "digits.parquet", "--out", "p.parquet", "--json")
    assert json.loads(out) == {"out": "p.parquet", "num_rows": 1797, "unseen": {}, "missing": {}}
    assert err == ""
    predictions = pq.read_table("p.parquet")
    names = ["prediction", *(f"probability_{i}" for i in range(10))]
    assert predictions.column_names == names
    assert (predictions["prediction"].to_numpy() == digits.target).mean() > 0.93


def test_regression_says_r2_in_the_unit_of_the_target(summary):
    """Catches metrics of the standardised target."""
    x, noise = np.random.default_rng(1).normal(size=(2, ROWS))
    pq.write_table(pa.table({"x": x, "y": 1e6 + 1000 * x + 10 * noise}), "t.parquet")
    found = summary("t.parquet", "--target", "y", "--out", "run", "--batch-size", "8")
    assert found["task"] == "regress"
    assert found["validation"].keys() == {"loss", "rmse", "mae", "r2"}
    assert found["validation"]["r2"] > 0.99
    assert found["validation"]["rmse"] == pytest.approx(10, rel=0.4)
    assert found["validation"]["mae"] <= found["validation"]["rmse"]


def write_in(form):
    """The same rows in another format; gives its path and the target's name in it."""
    table = pa.table(columns())
    floats = np.stack([np.asarray(c, float) for c in table.columns], axis=1)
    if form == "folder":
        Path("folder").mkdir()
        pq.write_table(table.slice(0, 250), "folder/1.parquet")
        pq.write_table(table.slice(250), "folder/2.parquet")
        Path("folder/notes.txt").write_text("not a table")
        return "folder", "y"
    path = f"t.{form}"
    if form in ("arrow", "arrows"):
        new = pa.ipc.new_file if form == "arrow" else pa.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
    elif form == "feather":
        pyarrow.feather.write_feather(table, path)
    elif form == "csv.gz":
        with pa.CompressedOutputStream(path, "gzip") as stream:
            pyarrow.csv.write_csv(table, stream)
    elif form in ("csv", "tsv"):
        options = pyarrow.csv.WriteOptions(delimiter="\t" if form == "tsv" else ",")
        pyarrow.csv.write_csv(table, path, options)
    elif form == "npy":
        np.save(path, floats)
        return path, "4"
    elif form == "npz":
        np.savez(path, x=floats[:, :4], y=floats[:, 4].astype(int))
    return path, "y"


FORMS = ["folder", "arrow", "arrows", "csv", "npy", "npz"]
LIKE_THEM = ["feather", "tsv", "csv.gz"]


@pytest.mark.parametrize(
    "form", FORMS + [pytest.param(f, marks=pytest.mark.slow) for f in LIKE_THEM]
)
def test_every_format_trains_alike(form, run, summary, from_parquet):
    """Catches a reader that loses, reorders or rounds rows: the loss is that from Parquet."""
    path, target = write_in(form)
    options = ["--task", "classify", "--epochs", "2", "--out", "run"]
    found = summary(path, "--target", target, *options)
    expected = json.loads((from_parquet / "run" / "result.json").read_text())
    assert found["train_loss"] == expected["train_loss"]
    assert found["validation"] == expected["validation"]
    run("predict", "run", path, "--out", "p.parquet")
    a, b = pq.read_table(from_parquet / "p.parquet"), pq.read_table("p.parquet")
    assert np.array_equal(a.column(0), b.column(0))
    assert np.array_equal(a.column(2), b.column(2))


@pytest.fixture(scope="module")
def from_parquet(tmp_path_factory):
    """A folder with a run on the table from Parquet, and its predictions."""
    folder = tmp_path_factory.mktemp("parquet")
    path = str(write_table(folder / "t.parquet"))
    command = ["fit", path, "--target", "y", "--task", "classify", "--epochs", "2"]
    assert main(plain.command(*command, "--out", folder / "run")) == 0
    command = ["predict", str(folder / "run"), path, "--out", str(folder / "p.parquet")]
    assert main(command) == 0
    return folder


# --- what an option does -----------------------------------------------------------------


@pytest.mark.slow
def test_steps_and_time_and_epochs_end_a_run(summary, monkeypatch):
    """Catches a limit that is passed over or overshot, and a default kept beside it."""
    arguments = [write_table(), "--target", "y", "--batch-size", "128", "--patience", "100000"]
    found = summary(*arguments, "--steps", "17", "--out", "a")
    assert (found["num_steps"], found["stop_reason"]) == (17, "finished")
    found = summary(*arguments, "--steps", "17", "--epochs", "2", "--out", "b")
    assert (found["num_steps"], found["num_epochs"]) == (10, 2)
    monkeypatch.setattr("downslope.train.defaults.EPOCHS", 1)  # does not apply where time decides
    found = summary(*arguments, "--time", "1s", "--out", "c")
    assert found["stop_reason"] == "time up"
    assert 1 <= found["seconds"] < 10


def test_a_target_ends_a_run(summary, run):
    """Catches a target that is dropped on the way, and one that cannot be changed."""
    arguments = [write_table(), "--target", "y", "--batch-size", "8", "--out", "run"]
    found = summary(*arguments, "--until", "accuracy=0.7")
    assert found["stop_reason"] == "target reached"
    assert found["validation"]["accuracy"] >= 0.7
    again = summary("--resume", "run", "--until", "accuracy=0.71", "--steps", "1")
    assert again["stop_reason"] == "finished"
    _, err = run("fit", *arguments[:-1], "other", "--until", "acuracy=0.7", code=2)
    assert "--until must name metrics among loss, accuracy" in err and "'accuracy'?" in err
    _, err = run("fit", *arguments[:-1], "other", "--until", "accuracy", code=2)
    assert "'accuracy' is not a target; write loss=0.3" in err


@pytest.mark.slow
@pytest.mark.parametrize(("size", "rows"), [("1", 1), ("full", None), ("1000000", None)])
def test_batches_of_one_and_of_all_rows(size, rows, summary):
    """Catches an update per block instead of per row or per epoch."""
    arguments = [write_table(), "--target", "y", "--batch-size", size, "--epochs", "3"]
    arguments += ["--patience", "none"]
    found = summary(*arguments, "--out", "run", "--optimizer", "sgd")
    train_rows = found["num_examples"] // 3
    assert 0.8 * ROWS < train_rows < ROWS
    assert found["batch_size"] == (rows or train_rows)
    assert found["num_steps"] == 3 * train_rows / (rows or train_rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adamw", "schedule_free", "prodigy"])
def test_an_optimizer_of_each_kind_trains(name, summary):
    """Catches a flag that is not passed on, and a rule that climbs: one without state, one with
    weight decay, one that predicts with other parameters, one that finds its own rate.

    `tests/step/test_optimizers.py` has them all.
    """
    arguments = [write_table(), "--target", "y", "--optimizer", name, "--batch-size", "16"]
    found = summary(*arguments, "--epochs", "3", "--out", "run")
    assert found["optimizer"] == name
    assert found["train_loss"] < 0.67  # log 2 at the start
    assert found["validation"]["accuracy"] > 0.8


@pytest.mark.slow
def test_divergence_ends_with_its_own_code(run, summary):
    """Catches a run that ends well with parameters that are not finite."""
    x = np.random.default_rng(0).normal(size=(2, ROWS))
    pq.write_table(pa.table({"x": x[0], "y": x[1]}), "t.parquet")
    arguments = ["t.parquet", "--target", "y", "--optimizer", "sgd", "--learning-rate", "1e30"]
    found = summary(*arguments, "--out", "run", code=4)
    assert found["stop_reason"] == "diverged"
    assert found["diverged_at_step"] >= 1
    assert "learning rate" in found["advice"]
    run("predict", "run", "t.parquet", "--out", "p.parquet")
    assert np.isfinite(pq.read_table("p.parquet")["prediction"]).all()


@pytest.mark.slow
def test_a_table_is_converted_once(summary, monkeypatch):
    """Catches a table that is decoded again by a second run, or not again when it changed."""
    arguments = ["--target", "y", "--epochs", "1", "--out"]
    write_table()
    first = summary("t.parquet", *arguments, "a")
    with monkeypatch.context() as patched:
        patched.setattr("downslope.data.ingest.cache.convert", None)
        second = summary("t.parquet", *arguments, "b")
    assert second["train_loss"] == first["train_loss"]
    pq.write_table(pa.table(columns()).slice(0, 300), "t.parquet")
    assert summary("t.parquet", *arguments, "c")["num_examples"] < 300


@pytest.mark.slow
def test_what_can_be_lived_with_is_said_once(run):
    """Catches a nuisance that ends a run, one passed over in silence, and one said every epoch."""
    more = {"void": pa.nulls(ROWS), "same": [1.0] * ROWS, "kind": ["red", "blue"] * (ROWS // 2)}
    write_table(**more)
    _, err = run("fit", "t.parquet", "--target", "y", "--epochs", "3", "--out", "run")
    for name in ("void", "same"):
        assert sum(repr(name) in line and "left out" in line for line in err.splitlines()) == 1
    table = pa.table(columns() | more).set_column(
        7, "kind", pa.array(["green", "red", "green"] * (ROWS // 3))
    )
    pq.write_table(table.append_column("extra", pa.nulls(ROWS)), "new.parquet")
    out, err = run("predict", "run", "new.parquet", "--out", "p.parquet")
    assert out == "600 rows of predictions in p.parquet\n"
    seen = "categories not seen in training in 400 rows, treated as unknown"
    assert err == f"column 'kind': {seen}\n"


def test_runs_get_free_names_and_say_what_to_type_next(run):
    """Catches a run that replaces the one before, and advice that does not work when typed."""
    Path("my data").mkdir()
    path = write_table("my data/some table.parquet")
    for number in (1, 2):
        out, _ = run("fit", path, "--target", "y", "--epochs", "1")
        lines = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert lines["model"] == f"runs/some table-{number}"
    words = shlex.split(lines["next"])
    assert words[:2] == ["downslope", "predict"]
    assert words[3] == "NEW.parquet"  # to be replaced: not the rows that it was trained on
    run(*words[1:3], path, *words[4:])
    assert pq.read_table("predictions.parquet").num_rows == ROWS


def test_no_rows_held_out(summary, run):
    """Catches metrics of nothing."""
    arguments = [write_table(), "--target", "y", "--validation", "0", "--epochs", "2"]
    found = summary(*arguments, "--out", "a")
    assert found["validation"] == {}
    assert found["num_examples"] == 2 * ROWS
    out, _ = run("fit", *arguments, "--out", "b")
    assert "held out" not in out


# --- interrupted and resumed -------------------------------------------------------------

LONG = [*PLAIN, "--target", "y", "--batch-size", "4", "--epochs", "30", "--patience", "1000"]
LONG += ["--optimizer", "adam", "--learning-rate", "0.003"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def saved_parameters(run):
    return (Path(run) / "model" / "tensors.safetensors").read_bytes()


def once(number, at):
    """A reader of the journal that raises a signal when progress is reported the n-th time."""
    seen = []

    def reader(_, record):
        seen.append(record["event"])
        if record["event"] == "progress" and seen.count("progress") == at:
            signal.raise_signal(number)

    return reader


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_interrupted_and_resumed_equals_uninterrupted(number, run, summary, monkeypatch):
    """Catches a position, a moment or a random key that is not saved, and a wrong exit code."""
    write_table()
    summary("t.parquet", *LONG, "--out", "whole")
    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "__call__", once(number, at=3))
        found = summary("t.parquet", *LONG, "--out", "cut", code=CODES[number])
    assert found["stop_reason"] == "interrupted"
    assert found["num_epochs"] < 30
    _, err = run("fit", "--resume", "cut")
    assert f"resumed at step {found['num_steps']:,}" in err
    assert saved_parameters("cut") == saved_parameters("whole")
    results = [json.loads(Path(r, "result.json").read_text()) for r in ("cut", "whole")]
    for result in results:
        for part in ("run", "seconds", "spent_seconds"):
            result.pop(part)
    assert results[0] == results[1]


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(run, monkeypatch):
    """Catches advice to predict with a model that is half trained, and advice that fails."""
    monkeypatch.setattr(progress.Progress, "__call__", once(signal.SIGINT, at=1))
    out, _ = run("fit", write_table(), *LONG, "--out", "my run", code=130)
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["stopped"].startswith("interrupted")
    assert shlex.split(lines["next"])[:3] == ["downslope", "fit", "--resume"]
    out, _ = run(*shlex.split(lines["next"])[1:])
    assert "finished" in out


@pytest.mark.slow
def test_a_second_signal_ends_at_once(run, monkeypatch):
    """Catches a run that cannot be stopped, work lost, and the claim that nothing was kept."""
    calls = []

    def twice(_, record):
        calls.append(record["event"])
        if record["event"] == "saved":
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    arguments = ["fit", write_table(), *LONG, "--checkpoint-seconds", "0", "--out", "cut"]
    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "__call__", twice)
        out, err = run(*arguments, code=143)
    assert calls.count("saved") == 1
    assert out == ""
    assert err == "downslope: interrupted; go on with: downslope fit --resume cut\n"
    run("fit", "--resume", "cut", "--steps", "100")


@pytest.mark.parametrize("number", CODES)
def test_interrupted_while_converting(number, run, folder, monkeypatch):
    """Catches temporary files of a conversion that was ended, and a handler left behind."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        "downslope.data.ingest.convert.Conversion._write", lambda _: signal.raise_signal(number)
    )
    out, err = run("fit", write_table(), "--target", "y", "--out", "run", code=CODES[number])
    assert (out, err) == ("", "downslope: interrupted; nothing was kept\n")
    assert list((folder / "cache" / "tables").iterdir()) == []
    assert not Path("run").exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_a_signal_from_outside(number, folder, run):
    """Catches a signal that JAX or Arrow swallows, and an exit code that differs from main's."""
    arguments = ["fit", write_table(), "--target", "y", "--out", "run", "--epochs", "1000000"]
    arguments += ["--model", "linear"]
    command = [sys.executable, "-m", "downslope.cli", *arguments, "--batch-size", "8", "--json"]
    with subprocess.Popen(
        [*command, "--patience", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, "DOWNSLOPE_CACHE": str(folder / "cache")},
    ) as process:
        wait_for(Path("run/journal.jsonl"), b'"progress"')
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == CODES[number], err
    assert json.loads(out)["stop_reason"] == "interrupted"
    steps = json.loads(out)["num_steps"]
    run("fit", "--resume", "run", "--steps", steps + 5, "--epochs", "1000001")


def wait_for(path, content, seconds=60):
    end = time.monotonic() + seconds
    while not (path.exists() and content in path.read_bytes()):
        assert time.monotonic() < end, f"{path} does not hold {content!r}"
        time.sleep(0.02)


# --- streams -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_terminal_sees_one_live_line(folder):
    """Catches lines that pile up on a terminal, one left behind, and results among them."""
    write_table()
    arguments = ["fit", "t.parquet", "--target", "y", "--out", "run", "--epochs", "3", *PLAIN]
    arguments += ["--no-report", "--model", "linear"]
    arguments += ["--batch-size", "128", "--learning-rate", "0.003"]
    control, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "downslope.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        os.close(terminal)
        shown = b""
        while part := read_terminal(control):
            shown += part
        out = process.stdout.read()
    os.close(control)
    assert process.returncode == 0
    assert b"epoch 3, step 15, loss 0." in shown
    assert b"held out: accuracy" in shown
    assert b"\x1b[2K" in shown  # the line is cleared before it is written anew
    assert b"examples/s" not in shown.rpartition(b"\x1b[2K")[2]
    assert b"\x1b" not in out and b"examples/s" not in out
    assert out.count(b"held out") == 3


def read_terminal(descriptor):
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # what Linux says when the other end is closed
        return b""


@pytest.mark.slow
def test_nobody_reads_the_result(folder):
    """Catches a complaint, and a wrong exit code, in `downslope fit ... | head`."""
    write_table()
    arguments = ["fit", "t.parquet", "--target", "y", "--out", "run", "--epochs", "1"]
    arguments += ["--no-report", "--model", "linear"]
    with subprocess.Popen(
        [sys.executable, "-m", "downslope.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 0
    assert err == b"every epoch is a full random permutation of the rows\n"


def mislabelled(path="wrong.csv", rows=900, wrong=(7, 450, 899)):
    """A table of two classes, sorted by class, with some labels exchanged."""
    rng = np.random.default_rng(0)
    label = np.repeat(["no", "yes"], rows // 2)
    x = rng.normal(size=rows) * 0.3 + np.where(label == "yes", 2, -2)
    label[list(wrong)] = np.where(label[list(wrong)] == "yes", "no", "yes")
    pyarrow.csv.write_csv(pa.table({"x": x, "label": label}), path)
    return set(wrong)


@pytest.mark.slow
def test_measuring_a_table_and_a_run(run):
    wrong = mislabelled()
    text, _ = run(
        "measure", "wrong.csv", "--target", "label", "--validation", "0", "--batch-size", "20",
        "--sections", "tails,order,scale", "--examples", "900",
    )  # fmt: skip
    assert max(map(len, text.splitlines())) <= 100
    assert [line for line in text.splitlines() if line and line[0] != " "] == [
        "Noise scale", "Tails", "Order",
    ]  # fmt: skip
    order = " ".join(text.split()).split("as stored, in batches of 20: ")[1]
    assert order.startswith("Row order inflates batch-gradient variance x")
    run("fit", "wrong.csv", "--target", "label", "--validation", "0", "--epochs", "20",
        "--optimizer", "sgd", "--learning-rate", "0.5", "--out", "r")  # fmt: skip
    out, _ = run("measure", "r", "--json", "--examples", "900", "--stop-after", "5m")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(found["sections"]["tails"]["tables"]["top_rows"][:3]) == wrong
    assert found["sections"]["curvature"]["records"]["stability_ratio"]["value"] > 0
    assert found["skipped"] == {"memory": "sgd keeps no moving average"}
    out, _ = run("measure", "r", "--json", "--stop-after", "0.000001s")
    assert json.loads(out)["sections"] == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["gone.csv"], 3, "gone.csv: no such file or folder; name the folder of a run, or a table"),
        (["wrong.csv"], 2, "--target is needed with a TABLE"),
        (["wrong.csv", "--target", "label", "--examples", "1"], 2, "examples must be at least 2"),
        (["wrong.csv", "--target", "label", "--error", "2"], 2, "--error must be above 0"),
        (["wrong.csv", "--target", "label", "--miss", "0"], 2, "--miss must be above 0"),
        (["wrong.csv", "--target", "label", "--sections", "noise"], 2, "names of gradient"),
        (["wrong.csv", "--target", "label", "--sections", ","], 2, "names of gradient"),
        (["wrong.csv", "--target", "colour"], 3, "colour"),
        (["r", "--epochs", "3"], 2, "--epochs belongs to a TABLE"),
        (["r", "--target", "label"], 2, "--target belongs to a TABLE"),
        (["empty"], 3, "no table in this folder"),
    ],
)
def test_measuring_what_cannot_be_measured(arguments, code, said, run):
    mislabelled()
    Path("empty").mkdir()
    if arguments[0] == "r":
        run("fit", "wrong.csv", "--target", "label", "--epochs", "1", "--out", "r")
    if arguments[0] == "empty":
        arguments = [*arguments, "--target", "label"]
    out, err = run("measure", *arguments, code=code)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("downslope: ")
    assert said in err


def test_measuring_a_run_whose_table_is_gone(run):
    mislabelled()
    run("fit", "wrong.csv", "--target", "label", "--epochs", "1", "--out", "r")
    Path("wrong.csv").rename("other.csv")
    _, err = run("measure", "r", code=3)
    assert "wrong.csv: no such file or folder" in err
    assert err.count("\n") == 1
