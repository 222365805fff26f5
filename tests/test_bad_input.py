"""Bad input, met as a user meets it: one clear line, the right exit code, nothing left behind."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plain
from downslope.cli import main
from downslope.table import fit as table
from downslope.table import predict

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROWS = 300
RNG = np.random.default_rng(0)
GOOD = pa.table(
    {
        "x": RNG.normal(size=ROWS),
        "age": RNG.integers(0, 90, ROWS),
        "label": RNG.choice(["a", "b"], ROWS),
        "num": RNG.normal(size=ROWS),
    }
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a good table, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    write("good.parquet")
    return tmp_path


@pytest.fixture
def run(folder, capsys):
    """Runs a command; gives its exit code and the lines on standard error."""

    def run(*arguments):
        code = main(plain.command(*arguments))
        out, err = capsys.readouterr()
        assert not code or not out
        return code, err.splitlines()

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the good table."""
    folder = tmp_path_factory.mktemp("trained")
    pq.write_table(GOOD, folder / "good.parquet")
    command = ["fit", folder / "good.parquet", "--target", "label", "--epochs", "2"]
    command += ["--checkpoint-seconds", "0", "--out", folder / "run"]
    assert main(plain.command(*command)) == 0
    return folder / "run"


def write(path, **changed):
    """The good table with some columns changed."""
    columns = {name: GOOD[name] for name in GOOD.column_names} | changed
    pq.write_table(pa.table(columns), path, write_page_checksum=True)


def damage(path, at, source="good.parquet"):
    content = bytearray(Path(source).read_bytes())
    content[int(at * len(content))] ^= 0xFF
    Path(path).write_bytes(content)


def leftovers(folder):
    """Whatever a command left but should not have: runs, temporary files, predictions."""
    found = [p for p in folder.rglob("*") if ".tmp" in p.name or p.name.startswith(".")]
    return found + [p for p in folder.iterdir() if p.name in ("run", "runs", "out.parquet")]


def with_value(at, value):
    values = GOOD["x"].to_numpy().copy()
    values[at] = value
    return values


def double_names():
    pq.write_table(pa.Table.from_arrays([GOOD["x"]] * 2 + [GOOD["label"]], ["x", "x", "label"]), T)


def truncated():
    Path(T).write_bytes(Path("good.parquet").read_bytes()[:3000])


def csv(*lines):
    return lambda: Path("t.csv").write_text("\n".join(["x,label", *lines]) + "\n")


T = "t.parquet"
MANY = [f"{i},{'ab'[i % 2]}" for i in range(700_000)]  # more than one block of Arrow's reader

# How to make the table, its name, the words of the message in order.
TABLES = {
    "no rows": (lambda: pq.write_table(GOOD.slice(0, 0), T), T, "no rows; give a table with data"),
    "no columns": (lambda: pq.write_table(pa.table({}), T), T, "no rows"),
    "empty file": (lambda: Path(T).touch(), T, "the file is empty; give"),
    "empty csv": (lambda: Path("t.csv").touch(), "t.csv", "the file is empty"),
    "header only": (csv(), "t.csv", "no rows; give"),
    "all-null target": (
        lambda: write(T, label=pa.nulls(ROWS, pa.string())),
        T,
        "column 'label': the target has no value in any row; choose another target",
    ),
    "null-typed target": (lambda: write(T, label=pa.nulls(ROWS)), T, "'label': the target has no"),
    "one class": (
        lambda: write(T, label=["a"] * ROWS),
        T,
        "column 'label': the target has one class only ('a'); choose another",
    ),
    "infinite": (
        lambda: write(T, x=with_value(123, np.inf)),
        T,
        "column 'x', row 124: infinite value; replace it",
    ),
    "double names": (double_names, T, "column 'x': 2 columns have this name; rename"),
    "double names in csv": (
        lambda: Path("t.csv").write_text("x,x,label\n1,2,a\n"),
        "t.csv",
        "column 'x': 2 columns have this name; rename",
    ),
    "truncated": (truncated, T, "cannot be read: truncated, corrupt; write the file again"),
    "damaged page": (lambda: damage(T, 0.25), T, "cannot be read: CRC; write the file again"),
    "damaged footer": (lambda: damage(T, 0.999), T, "cannot be read: ; write the file again"),
    "no parquet": (lambda: Path(T).write_text("hello"), T, "cannot be read; write the file again"),
    "ragged": (
        csv("1,a", "2,b", "3,a,4"),
        "t.csv",
        "row 3: a row of another length (expected 2 columns, got 3); mend the row",
    ),
    "late type": (
        csv(*MANY, *["oops,a"] * 100_000),
        "t.csv",
        "column 'x', row 700,001: 'oops' where values so far were; mend it, or read; --categorical",
    ),
    "missing": (lambda: None, "not-there.parquet", "no such file or folder; check the path"),
    "no tables": (lambda: Path("t").mkdir(), "t", "no table in this folder; tables end in .par"),
    "unknown": (
        lambda: Path("t.xlsx").write_text("x"),
        "t.xlsx",
        "not a known kind; tables end in",
    ),
}


def assert_line(lines, *words):
    """One line, with all words in this order."""
    assert len(lines) == 1, lines
    assert re.search("downslope: .*" + ".*".join(re.escape(w.strip()) for w in words), lines[0])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_used(name, run, folder):
    """Catches a traceback, a second line, a place or a remedy left unsaid, a run half made."""
    make, path, words = TABLES[name]
    make()
    code, lines = run("fit", path, "--target", "label")
    assert code == 3
    assert_line(lines, path, *words.replace(": ", ";").split(";"))
    assert not leftovers(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "lable"], "column 'lable': no such column;did you mean 'label'?"),
        (["--target", "LABEL"], "column 'LABEL': no such column;did you mean 'label'?"),
        (["--target", "zzz"], "column 'zzz': no such column;it has x, age, label, num"),
        (["--target", "label", "--weight", "agee"], "'agee': no such column;did you mean 'age'?"),
        (["--target", "label", "--weight", "num"], "column 'num', row ;zero or more;mend it"),
        (["--target", "label", "--task", "regress"], "'label': strings;convert it or --task"),
        (["--target", "label", "--ignore", "x", "--ignore", "age", "--ignore", "num"], "no column"),
    ],
)
def test_columns_that_do_not_suit(arguments, words, run, folder):
    """Catches a column named wrongly that is found only after training, or not named at all."""
    code, lines = run("fit", "good.parquet", *arguments)
    assert code == 3
    assert_line(lines, "good.parquet", *words.split(";"))
    assert not leftovers(folder)


USAGE = [
    ([], "name the column to predict: --target, one of x, age, label, num"),
    (["--target", "label", "--batch-size", "0"], "--batch-size must be at least 1;got 0"),
    (["--target", "label", "--batch-size", "most"], "'most' is neither a whole number nor 'full'"),
    (["--target", "label", "--microbatch-size", "512"], "--microbatch-size must be at most"),
    (["--target", "label", "--model", "tree"], "--model must be one of;mlp; got 'tree'"),
    (["--target", "label", "--loss", "log"], "--loss must be one of;logistic;got 'log'"),
    (["--target", "label", "--task", "rank"], "--task must be one of;regress; got 'rank'"),
    (["--target", "label", "--average", "all"], "--average must be one of;polyak;got 'all'"),
    (["--target", "label", "--optimizer", "lion"], "--optimizer must be one of;adamw;got 'lion'"),
    (["--target", "label", "--hidden", "a,b"], "'a,b' is not a list of whole numbers; 64,64"),
    (["--target", "label", "--time", "5x"], "'5x' is not a time; write 60s"),
    (["--target", "label", "--time", "0"], "--time must be above 0"),
    (
        ["--target", "label", "--learning-rate", "nan"],
        "--learning-rate must be finite;got nan",
    ),
    (
        ["--target", "label", "--validation", "2"],
        "--validation must be at least 0;got 2.0",
    ),
    (["--target", "label", "--schedule", "inverse_time"], "inverse_time needs --decay-steps"),
    (["--target", "label", "--loss", "squared"], "--loss for classify must be one of;got squared"),
    (["--target", "num", "--loss", "hinge"], "--loss for regress must be one of;got hinge"),
    (["--target", "num", "--model", "svm"], "--model svm separates classes; use linear or net"),
    (["--target", "label", "--model", "svm", "--loss", "logistic"], "--model svm takes hinge"),
    (["--target", "label", "--ignore", "label"], "'label' is named as target and as ignore"),
    (["--target", "label", "--frobnicate"], "no option --frobnicate; see downslope fit --help"),
    (["--target", "label", "--out", "a", "--resume", "b"], "--out and --resume exclude each other"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_options_that_do_not_fit(arguments, words, run, folder):
    """Catches a screenful of usage, names of Python where a flag was typed, a run half made."""
    code, lines = run("fit", "good.parquet", *arguments)
    assert code == 2
    assert_line(lines, *words.split(";"))
    assert not leftovers(folder)


def test_a_loss_for_two_classes_on_three(run):
    """Catches a logistic loss that takes class 2 for the number 2."""
    write("three.parquet", label=RNG.choice(["a", "b", "c"], ROWS))
    code, lines = run("fit", "three.parquet", "--target", "label", "--loss", "logistic")
    assert code == 2
    assert_line(lines, "--loss logistic is for two classes, the target has 3; use softmax")


@pytest.mark.parametrize("command", [[], ["fit"], ["predict"], ["predict", "run"], ["train"]])
def test_commands_cut_short(command, run):
    """Catches a traceback where words are missing."""
    code, lines = run(*command)
    assert code == 2
    assert_line(lines, "")


def test_out_that_exists_is_refused_before_any_work(run, folder, monkeypatch):
    """Catches a file or folder of the user's that is replaced, and work done in vain."""
    Path("file").write_text("mine")
    Path("dir").mkdir()
    monkeypatch.setattr("downslope.open", None)
    for taken in ("file", "dir"):
        code, lines = run("fit", "good.parquet", "--target", "label", "--out", taken)
        assert code == 3
        assert_line(lines, f"{taken}: already exists; choose another --out")
    assert Path("file").read_text() == "mine"
    assert list(Path("dir").iterdir()) == []


@pytest.mark.slow
def test_out_that_exists_and_is_a_run(run, trained):
    """Catches the advice to resume what is no run, and none where it is one."""
    code, lines = run("fit", "good.parquet", "--target", "label", "--out", trained)
    assert code == 3
    assert_line(lines, "already exists;", f"--resume {trained}")


def test_out_inside_a_file(run, folder):
    """Catches an error of the system shown as a fault of ours."""
    Path("file").write_text("mine")
    code, lines = run("fit", "good.parquet", "--target", "label", "--out", "file/run")
    assert code == 3
    assert_line(lines, "file: not a folder, so it cannot take a run; choose another --out")


@pytest.mark.parametrize("closed", ["sub/good.parquet", "sub"])
def test_a_table_that_may_not_be_read(closed, run, monkeypatch):
    """Catches an error of the system shown as a fault of ours.

    The user root may read anything, so the test drops that right for the call.
    """
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as place:  # others may enter none of pytest's folders
        monkeypatch.chdir(place)
        Path(place).chmod(0o755)
        Path("sub").mkdir()
        write("sub/good.parquet")
        Path(closed).chmod(0)
        try:
            os.seteuid(65534 if is_root else os.geteuid())
            code, lines = run("fit", "sub/good.parquet", "--target", "label")
        finally:
            os.seteuid(0 if is_root else os.geteuid())
            Path(closed).chmod(0o755)
            monkeypatch.undo()
    assert code == 3
    assert_line(lines, "sub/good.parquet", "no permission to read it; check the path")


def test_debug_shows_where(run):
    """Catches a traceback without --debug, none with it, and an exit code that it changes."""
    arguments = ["fit", "not-there.parquet", "--target", "label"]
    assert len(run(*arguments)[1]) == 1
    code, lines = run(*arguments, "--debug")
    assert code == 3
    assert lines[0].startswith("Traceback")
    assert_line(lines[-1:], "not-there.parquet")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyError("x"), 1, "KeyError: 'x' (a fault of downslope; --debug shows where)"),
        (MemoryError(), 5, "memory ran out; use a smaller batch"),
        (OSError(errno.ENOSPC, "No space left on device"), 5, "no space left on device; free some"),
        (OSError(errno.EIO, "Input/output error", "disk"), 3, "disk: input/output error; check"),
        (OSError(errno.EIO, "Input/output error"), 1, "a fault of downslope"),
        (ValueError("two\nlines"), 1, "ValueError: two lines"),
    ],
)
def test_errors_that_nobody_foresaw(error, code, words, run, monkeypatch):
    """Catches a full disk or memory taken for a fault of ours, and text of several lines."""

    def broken(*_, **__):
        raise error

    monkeypatch.setattr(table, "fit", broken)
    found, lines = run("fit", "good.parquet", "--target", "label")
    assert found == code
    assert_line(lines, words)


# --- predict ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "path", "code", "words"),
    [
        (lambda: pq.write_table(GOOD.drop(["x", "age"]), T), T, 6, "needs columns 'x', 'age'"),
        (
            lambda: write(T, x=["q"] * ROWS),
            T,
            3,
            "column 'x': cells such as 'q' where training had numbers; mend them",
        ),
        (lambda: pq.write_table(GOOD.slice(0, 0), T), T, 3, "no rows"),
        (lambda: write(T, x=with_value(44, -np.inf)), T, 3, "column 'x', row 45: infinite value"),
        (lambda: damage(T, 0.25), T, 3, "cannot be read"),
        (lambda: None, "not-there.csv", 3, "no such file or folder; check the path"),
    ],
)
def test_tables_that_do_not_match_the_run(make, path, code, words, run, trained, folder):
    """Catches predictions for columns that are not those of training, and a file half written."""
    make()
    found, lines = run("predict", trained, path, "--out", "out.parquet")
    assert found == code
    assert_line(lines, path, words)
    assert not leftovers(folder)


def test_rows_are_counted_over_batches(run, trained, monkeypatch):
    """Catches a row counted from the beginning of its batch."""
    monkeypatch.setattr("downslope.data.ingest.tabular.MAX_BATCH_ROWS", 256)
    write(T, x=with_value(289, np.inf))
    for command in (["fit", T, "--target", "label"], ["predict", trained, T, "--out", "p.parquet"]):
        code, lines = run(*command)
        assert code == 3
        assert_line(lines, "column 'x', row 290: infinite value")


def test_predictions_that_have_no_place(run, trained, folder):
    """Catches a file that is replaced unasked, and one whose name tells a lie."""
    Path("taken.parquet").write_text("mine")
    for out, code, words in (
        ("taken.parquet", 3, "taken.parquet: already exists; choose another name"),
        ("no/such.parquet", 3, "no: no such folder; make it first"),
        ("out.csv", 2, "predictions are written as Parquet; name the file out.parquet, not"),
        (str(trained), 2, "written as Parquet"),
    ):
        found, lines = run("predict", trained, "good.parquet", "--out", out)
        assert found == code
        assert_line(lines, words)
    assert Path("taken.parquet").read_text() == "mine"
    command = ["predict", trained, "good.parquet", "--out", "taken.parquet", "--overwrite"]
    assert run(*command)[0] == 0
    assert pq.read_table("taken.parquet").num_rows == ROWS


def test_what_is_no_run(run, folder):
    """Catches a folder taken for a run."""
    for name in ("not-there", "good.parquet", "."):
        for command in (
            ["predict", name, "good.parquet", "--out", "out.parquet"],
            ["fit", "--resume", name],
        ):
            code, lines = run(*command)
            assert code == 3
            assert_line(lines, f"{name}: not the folder of a run; name one made by fit --out")
    assert not leftovers(folder)


def test_every_byte_of_a_model_is_checked(run, trained, folder):
    """Catches a damaged model that still predicts. Flips a bit in every part of every file."""
    for file in sorted((trained / "model").iterdir()):
        content = file.read_bytes()
        for at in np.linspace(0, len(content) - 1, 12).astype(int):
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            code, lines = run("predict", trained, "good.parquet", "--out", "out.parquet")
            file.write_bytes(content)
            assert code == 3, (file, at)
            assert_line(lines, str(trained / "model"), ";")
    assert not leftovers(folder)
    assert run("predict", trained, "good.parquet", "--out", "out.parquet")[0] == 0


def test_a_model_that_is_missing(run, folder, capsys):
    """Catches a traceback for a run that has not ended yet."""
    command = ["fit", "good.parquet", "--target", "label", "--epochs", "1", "--out", "early"]
    assert run(*command)[0] == 0
    for file in Path("early/model").iterdir():
        file.unlink()
    Path("early/model").rmdir()
    code, lines = run("predict", "early", "good.parquet", "--out", "out.parquet")
    assert code == 3
    assert_line(lines, "early: has no model yet; go on with --resume early")


# --- resume ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "3"], "--seed was 0 when the run began and is now 3; leave it out"),
        (["--model", "mlp"], "--model was linear;is now mlp"),
        (["--target", "num"], "--target was label;is now num"),
        (["--batch-size", "full"], "--batch-size was auto;is now full"),
        (["--learning-rate", "0.5"], "--learning-rate was auto;is now 0.5"),
        (["--ignore", "x"], "--ignore was not given;is now x"),
    ],
)
def test_a_run_resumed_with_other_options(arguments, words, run, trained):
    """Catches an option that is ignored, or that changes a run half way."""
    before = (trained / "run.json").read_bytes()
    code, lines = run("fit", "--resume", trained, *arguments)
    assert code == 6
    assert_line(lines, *words.split(";"))
    assert (trained / "run.json").read_bytes() == before


def test_a_run_resumed_with_another_table(run, trained):
    """Catches a table that is ignored; the one that the run began with may be named."""
    code, lines = run("fit", "good.parquet", "--resume", trained)
    assert code == 6
    assert_line(lines, "TABLE was", str(trained.parent / "good.parquet"), "is now good.parquet")
    same = os.path.relpath(trained.parent / "good.parquet")
    assert run("fit", same, "--resume", trained)[0] == 0


def test_a_run_resumed_on_a_table_that_was_changed(run, folder):
    """Catches training that goes on with other rows, at a position that means nothing there."""
    arguments = ["--target", "label", "--epochs", "1", "--out", "changed"]
    assert run("fit", "good.parquet", *arguments)[0] == 0
    write("good.parquet", x=RNG.normal(size=ROWS))
    code, lines = run("fit", "--resume", "changed", "--epochs", "2")
    assert code == 6
    assert_line(lines, "changed: the data given are not those the run began with")


def test_damaged_checkpoints(run, folder):
    """Catches a damaged checkpoint that is trained on, and a damaged newest one that ends a run."""
    arguments = ["--target", "label", "--epochs", "2", "--checkpoint-seconds", "0"]
    assert run("fit", "good.parquet", *arguments, "--out", "damaged")[0] == 0
    files = sorted(Path("damaged/checkpoints").rglob("tensors.safetensors"))
    assert len(files) == 2
    damage(files[1], 0.5, files[1])
    assert run("fit", "--resume", "damaged", "--epochs", "3")[0] == 0  # from the one before
    for file in Path("damaged/checkpoints").rglob("tensors.safetensors"):
        damage(file, 0.5, file)
    code, lines = run("fit", "--resume", "damaged", "--epochs", "4")
    assert code == 3
    assert_line(lines, "damaged/checkpoints/", "changed or damaged", "; restore")


# --- a full disk -----------------------------------------------------------------------


def process(*arguments, before="pass", stdout=subprocess.PIPE):
    """A command in a process of its own, after a line of Python."""
    program = f"import sys, resource; {before}; from downslope.cli import main; sys.exit(main())"
    found = subprocess.run(
        [sys.executable, "-c", program, *plain.command(*arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert not found.stdout
    return found.returncode, found.stderr.splitlines()


def limited(*arguments, bytes_a_file):
    """A command whose files may not grow beyond a size, which it meets as it would a full disk."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_a_file}, {bytes_a_file}))"
    return process(*arguments, before=limit)


@pytest.mark.slow
def test_a_disk_that_fills_while_converting(folder):
    """Catches temporary files left in the cache, and the cache's place left unsaid."""
    write("big.parquet", **{f"x{i}": RNG.normal(size=ROWS) for i in range(200)})
    code, lines = limited("fit", "big.parquet", "--target", "label", bytes_a_file=100_000)
    assert code == 5
    assert_line(lines, str(folder / "cache"), "disk is full", "free some space", "DOWNSLOPE_CACHE")
    assert not leftovers(folder)
    assert list((folder / "cache" / "tables").iterdir()) == []


BYTES = 400_000  # the table of words takes 260 kB, and as much for each moment of Adam


@pytest.fixture
def on_words(folder):
    """A command whose checkpoints are larger than BYTES, and all other files smaller."""
    write("words.parquet", words=[f"so {i} it is" for i in range(ROWS)])
    return ["fit", "words.parquet", "--target", "label", "--text", "words"]


@pytest.mark.slow
def test_a_disk_that_fills_at_the_first_checkpoint(folder, on_words):
    """Catches a run without a checkpoint that is left behind."""
    code, lines = limited(*on_words, "--epochs", "3", "--out", "run", bytes_a_file=BYTES)
    assert code == 5
    assert_line(lines[-1:], "run/checkpoints/", "the disk is full", "; free some space")
    assert "--resume" not in lines[-1]
    assert not leftovers(folder)


@pytest.mark.slow
def test_a_disk_that_fills_at_a_later_checkpoint(folder, on_words, run):
    """Catches checkpoints that are lost, and the way to go on left unsaid."""
    assert run(*on_words, "--epochs", "1", "--out", "begun")[0] == 0
    before = sorted(p.name for p in Path("begun/checkpoints").iterdir())
    code, lines = limited("fit", "--resume", "begun", "--epochs", "2", bytes_a_file=BYTES)
    assert code == 5
    assert_line(lines[-1:], "the disk is full", "go on with: downslope fit --resume begun")
    assert sorted(p.name for p in Path("begun/checkpoints").iterdir()) == before
    assert not leftovers(folder)
    assert run("fit", "--resume", "begun", "--epochs", "2")[0] == 0


@pytest.mark.slow
def test_a_disk_that_fills_while_predicting(folder, trained):
    """Catches predictions half written."""
    columns = {"x": RNG.normal(size=20_000), "age": RNG.integers(0, 90, 20_000)}
    pq.write_table(pa.table({**columns, "num": RNG.normal(size=20_000)}), "long.parquet")
    command = ["predict", trained, "long.parquet", "--out", "out.parquet"]
    code, lines = limited(*command, bytes_a_file=20_000)
    assert code == 5
    assert_line(lines, "out.parquet: the disk is full", "; free some space")
    assert not leftovers(folder)


@pytest.mark.slow
def test_standard_output_on_a_full_disk(folder, trained):
    """Catches a result that could not be written taken for a fault of ours."""
    with open("/dev/full", "wb") as full:
        arguments = ["predict", trained, "good.parquet", "--out", "fine.parquet"]
        code, lines = process(*arguments, stdout=full)
    assert code == 5
    assert_line(lines, "output: no space left on device")


def test_an_interrupted_prediction_leaves_nothing(run, trained, folder, monkeypatch):
    """Catches a temporary file left by Ctrl-C, and words about training where none was."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "_to_arrow", interrupt)
    code, lines = run("predict", trained, "good.parquet", "--out", "out.parquet")
    assert code == 130
    assert_line(lines, "interrupted; nothing was kept")
    assert not leftovers(folder)
