"""Evidence of whole runs: numbers that are known, reasons where there are none, a whole journal."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shlex
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import confusion_matrix

import downslope
import plain
from downslope import DataError, ModelOptions, TableOptions
from downslope.cli import application
from downslope.config import Training
from downslope.report import RunReader
from downslope.report.journal import Journal, read_journal
from downslope.report.plan import read_run
from downslope.report.sections.data import holds_what_is_expected, memorized
from downslope.storage import signed
from downslope.table import fit as table
from downslope.table.evidence import gather
from downslope.table.evidence.origin import equal_command
from downslope.table.evidence.predictions import confusion
from downslope.table.run import TableRequest
from downslope.train import dispatch
from downslope.train.trajectory import path_of

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS = 6000
LONG = 60.0  # seconds: the machine that tests run on may be busy
ESTIMATE = {"value", "lo", "hi"}


class Made:
    """A run with evidence: its folder, its result and the last record of each event."""

    def __init__(self, folder, columns, model=None, options=None, training=None, seconds=LONG):
        self.path, self.run = folder / "t.parquet", folder / "run"
        pq.write_table(pa.table(columns), self.path)
        self.options = TableOptions(**{"target": "y", **(options or {})})
        steps = {"batch_size": 64, "epochs": 2, "learning_rate": 0.02, **(training or {})}
        self.found = table.fit(
            self.path, self.options, model or plain.LINEAR, plain.training(**steps), out=self.run
        )  # fmt: skip
        gather(self.run, seconds=seconds)

    @property
    def records(self):
        return {record["event"]: record for record in read_journal(self.run / "journal.jsonl")}

    def value(self, metric):
        return self.found.result.validation[metric].value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("evidence")
        patch.setenv("DOWNSLOPE_CACHE", str(root / "cache"))
        patch.setattr(dispatch, "POINT_SECONDS", 0.0)
        yield root


def make(folder, name, *arguments, **options):
    (folder / name).mkdir()
    return Made(folder / name, *arguments, **options)


@pytest.fixture(scope="module")
def numbers(folder):
    """y = 3 x + noise, solved by hand; a column that says nothing; five rows far off."""
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(2, ROWS))
    y = 3 * x + rng.normal(size=ROWS)
    y[[5, 50, 500, 1500, 2500]] += 200
    training = {"optimizer": "sgd", "learning_rate": 0.05, "epochs": 10}
    return make(folder, "numbers", {"x": x, "other": other, "y": y}, training=training)


@pytest.fixture(scope="module")
def classes(folder):
    """Three classes by a category, a number that is often missing, and a network."""
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 3, ROWS)
    y = np.where(rng.random(ROWS) < 0.7, kind, rng.integers(0, 3, ROWS))
    gone = (y == 2) & (rng.random(ROWS) < 0.8)
    columns = {
        "kind": np.array(["a", "b", "c"])[kind],
        "gone": pa.array(rng.normal(size=ROWS), mask=gone),
        "plain": rng.normal(size=ROWS),
        "w": rng.integers(0, 4, ROWS).astype(float),
        "y": np.array(["x", "y", "z"])[y],
    }
    model = ModelOptions(model="mlp", hidden=(16,))
    return make(folder, "classes", columns, model, {"weight": "w"}, {"epochs": 6})


@pytest.mark.slow
def test_scores_beside_those_of_the_evaluation(numbers, classes):
    """Catches another metric, weights left out, and other rows. Oracle: the run's own result."""
    found = numbers.records["baselines"]
    assert (found["metric"], found["lower_is_better"]) == ("rmse", True)
    assert found["model"]["value"] == pytest.approx(numbers.value("rmse"), rel=1e-5)
    estimate = numbers.found.result.validation["rmse"]
    assert found["model"]["hi"] == pytest.approx(estimate.hi, rel=1e-4)
    assert found["linear"] is None
    assert "linear itself" in found["linear_how"]
    found = classes.records["baselines"]
    assert found["metric"] == "log_loss"
    assert found["model"]["value"] == pytest.approx(classes.value("log_loss"), rel=1e-5)
    # three classes of equal shares
    assert found["trivial"]["value"] == pytest.approx(np.log(3), abs=0.02)
    assert found["model"]["value"] < found["trivial"]["value"]
    gap = found["trivial"]["value"] - found["model"]["value"]
    assert found["gain_over_trivial"]["value"] == pytest.approx(gap)
    assert found["gain_over_trivial"]["lo"] > 0
    assert set(found["linear"]) == ESTIMATE
    assert found["linear"]["value"] == pytest.approx(found["model"]["value"], abs=0.05)
    width = {name: e["hi"] - e["lo"] for name, e in found.items() if isinstance(e, dict)}
    assert width["gain_over_linear"] < width["linear"] / 2  # the rows are the same


def test_importance_of_known_columns(folder, numbers, classes):
    """Catches a column permuted in part. Truth: E of the squares, a^2 s_x^2 / s_y^2."""
    found = numbers.records["importance"]
    assert [c["name"] for c in found["columns"]] == ["x", "other"]
    stored = downslope.open(numbers.path, numbers.options)
    params = downslope.load_model(numbers.run, numbers.found.model.init(0))
    weight = float(params["weights"][0, 0])
    x = stored.held_out.unpack(stored.held_out.read(0, stored.num_held_out)).x[:, 0]
    stored.close()
    top = found["columns"][0]
    assert top["lo"] <= weight**2 * x.var() <= top["hi"]
    assert top["value"] == pytest.approx(weight**2 * x.var(), rel=0.25)
    assert found["columns"][1]["hi"] < 0.01
    assert found["left_out"] == 0
    found = classes.records["importance"]
    assert (found["unit"], found["repeats"]) == ("nats", 4)
    by_name = {c["name"]: c for c in found["columns"]}
    assert set(by_name) == {"kind", "gone", "plain"}
    assert by_name["kind"]["lo"] > 0.05
    assert by_name["gone"]["lo"] > 0.05  # by its absence alone, which is a mark elsewhere
    assert by_name["plain"]["hi"] < 0.03


def test_a_column_by_which_rows_are_memorized(folder):
    """Catches a column that only training rows gain from, and one that both gain from, named."""
    rng = np.random.default_rng(2)
    name, town = rng.integers(0, 500, ROWS // 3), rng.integers(0, 80, ROWS // 3)
    y = rng.normal(size=80)[town] + rng.normal(size=ROWS // 3)
    columns = {"name": [f"n{i}" for i in name], "town": [f"t{i}" for i in town], "y": y}
    training = {"epochs": 30, "patience": None}
    made = make(folder, "heart", columns, ModelOptions(model="mlp"), training=training)
    by_name = {c["name"]: c for c in made.records["importance"]["columns"]}
    assert by_name["name"]["train"]["lo"] > 0.3 and by_name["town"]["train"]["lo"] > 0.3
    found = memorized(RunReader(made.run))
    assert [column for column, *_ in found] == ["name"]


def test_residuals(numbers):
    """Catches a sign, and numbers left standardised. Truth: noise of 1, quantiles -+1.645."""
    found = numbers.records["residuals"]
    assert found["quantiles"]["0.95"] == pytest.approx(1.645, abs=0.5)
    assert found["quantiles"]["0.05"] == pytest.approx(-1.645, abs=0.5)
    assert len(found["predicted"]) == len(found["residual"]) == 400
    assert np.std(found["predicted"]) == pytest.approx(3.0, rel=0.2)
    events = numbers.records
    assert "calibration" not in events
    assert "confusion" not in events


def test_calibration_and_confusion(classes):
    """Catches rows and columns exchanged, and rows of weight 0 that count."""
    records = classes.records
    found = records["confusion"]
    counts = np.array(found["counts"])
    assert found["classes"] == ["x", "y", "z"]
    assert found["num_rows"] == counts.sum() == records["calibration"]["num_rows"]
    stored = downslope.open(classes.path, classes.options)
    batch = stored.held_out.unpack(stored.held_out.read(0, stored.num_held_out))
    stored.close()
    counted = batch.weight > 0
    assert counts.sum(axis=1).tolist() == np.bincount(batch.y[counted].astype(int)).tolist()
    bins = records["calibration"]["bins"]
    assert sum(each["count"] for each in bins) == counted.sum()
    assert records["calibration"]["of"] == "probability of the predicted class"
    assert sum(b["lo"] <= b["predicted"] <= b["hi"] for b in bins) >= 0.7 * len(bins)


def test_the_slice_of_a_parabola(numbers):
    """Catches a slice in the wrong unit. Truth: the eigenvalues of mean (x, 1)(x, 1)'."""
    found = numbers.records["slice"]
    sharp, other = found["directions"]
    assert (sharp["name"], other["name"]) == ("sharpest", "random")
    stored = downslope.open(numbers.path, numbers.options)
    batch = stored.train.unpack(stored.train.read(0, found["num_rows"]))
    stored.close()
    x = np.column_stack([batch.x, np.ones(len(batch.x))]).astype(float)
    largest = np.linalg.eigvalsh(x.T @ x / len(x))[-1]
    assert sharp["curvature"]["value"] == pytest.approx(largest, rel=1e-2)
    assert sharp["curvature"]["lo"] < largest < sharp["curvature"]["hi"]
    assert other["curvature"]["value"] <= sharp["curvature"]["value"]
    params = downslope.load_model(numbers.run, numbers.found.model.init(0))
    flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(params)])
    places = np.linalg.norm(flat) * np.array(sharp["positions"])
    # second differences of what is drawn are the curvature
    bend = np.diff(sharp["losses"], 2) / np.diff(places)[0] ** 2
    np.testing.assert_allclose(bend, largest, rtol=1e-2)
    assert all(lo < v < hi for lo, v, hi in zip(*(sharp[k] for k in ("lo", "losses", "hi"))))  # noqa: B905


def test_rows_that_carry_the_noise(numbers):
    """Catches distances that are not squared, and rows named by their place in the sample."""
    found = numbers.records["noisy_rows"]
    assert found["rows_of"] == "the table, counted from 1"
    stored = downslope.open(numbers.path, numbers.options)
    batch = stored.train.unpack(stored.train.read(0, found["num_rows"]))
    stored.close()
    params = downslope.load_model(numbers.run, numbers.found.model.init(0))
    x = np.column_stack([np.ones(len(batch.x)), batch.x])
    w = np.append(params["bias"], params["weights"][:, 0])
    g = x * (x @ w - batch.y)[:, None]
    squares = ((g - g.mean(0)) ** 2).sum(1)
    shares = np.sort(squares / squares.sum())[::-1]
    np.testing.assert_allclose([r["share"] for r in found["rows"]], shares[:20], rtol=1e-3)
    far = {r["row"] for r in found["rows"] if r["share"] > 0.05}
    assert far <= {6, 51, 501, 1501, 2501}
    assert len(far) == (shares > 0.05).sum()


def test_the_path(numbers):
    """Catches coordinates that do not belong together. Oracle: the points of the checkpoint."""
    found = numbers.records["path"]
    steps, points = path_of(numbers.run)
    assert found["reason"] is None
    assert len(found["steps"]) == len(found["points"]) <= 200
    assert set(found["steps"]) <= set(steps.tolist())
    assert found["shares"] == sorted(found["shares"], reverse=True)
    assert sum(found["shares"]) > 0.9  # three parameters
    ends = np.linalg.norm(points[-1] - points[0])
    moved = np.linalg.norm(np.subtract(found["points"][-1], found["points"][0]))
    assert moved == pytest.approx(ends, rel=0.1)


def test_the_record(numbers):
    found = numbers.records["record"]
    assert found["versions"]["jax"] == jax.__version__
    assert found["fingerprint"] == downslope.read_request(numbers.run)["data"]
    assert found["seeds"] == {"table": 0, "training": 0}
    assert found["hardware"]["cores"] >= 1
    assert found["peak_memory_bytes"] > 50e6
    assert found["table"] == str(numbers.path)


def test_a_command_that_asks_for_the_same(numbers):
    """Catches a flag that the command line does not know. Oracle: its parser."""
    training = {"learning_rate": 1e-3, "patience": None, "seconds": 90.0, "batch_size": "full"}
    options = {"target": "-y", "ignore": ("a b", "-c"), "validation": 0.25, "seed": 7}
    wanted = (
        TableOptions(**options),
        ModelOptions(model="mlp", hidden=(8, 4)),
        Training(**training, seed=7),
    )
    asked = TableRequest(
        path="/data/my table.csv", table=wanted[0], model=wanted[1], training=vars(wanted[2])
    )
    command = equal_command(asked)
    read = application().parse_args(shlex.split(command)[1:])[1].arguments
    assert str(read["table"]) == "/data/my table.csv"
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in read["given"].items()}
    options["target"] = ("-y",)  # which may be several
    assert given == {**options, "model": "mlp", "hidden": (8, 4), **training, "patience": "none"}
    assert equal_command(replace(asked, training={"optimizer": "optax"})) == ""


def test_gathered_again(numbers):
    """Catches a model that changes, a broken line, and evidence lost to a lack of time."""
    journal = numbers.run / "journal.jsonl"
    before = _digests(numbers.run)
    text, plan = journal.read_text(), read_run(numbers.run)
    peak = numbers.records["record"]["peak_memory_bytes"]
    gather(numbers.run, seconds=0.0, command="downslope fit again")
    after = journal.read_text()
    assert after.startswith(text)
    added = [json.loads(line) for line in after[len(text) :].splitlines()]
    assert all(each["step"] == numbers.found.result.num_steps for each in added)
    assert added[0]["event"] == "record"
    assert added[0]["command"] == "downslope fit again"
    assert added[0]["peak_memory_bytes"] >= peak
    # nothing is known of the trees: their share of the run's time is too short
    assert [each["event"] for each in added] == ["record", "trees"]
    assert _digests(numbers.run) == before
    assert read_run(numbers.run) == plan
    journal.write_text(text)


def _digests(run):
    files = [f for f in run.rglob("*") if f.is_file() and f.name != "journal.jsonl"]
    return {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_a_run_that_goes_on(folder):
    """Catches records without a step: those of a run that goes on would be forgotten or stale."""
    path = folder / "journal.jsonl"
    journal = Journal(path)
    for step in (10, 20):
        journal.write("importance", step=step)
    journal.write("resumed", step=15)
    journal.close()
    kept = [r["step"] for r in read_journal(path) if r["event"] == "importance"]
    assert kept == [10]


def test_findings_are_taken_as_they_are(folder, numbers):
    checks = numbers.records["checks"]
    assert {f["name"] for f in checks["findings"]} == {"target", "constant", "duplicates", "leaks"}
    assert all(f["statement"] and f["severity"] for f in checks["findings"])


def test_programs_are_few(numbers, caplog):
    """Catches a program that is compiled for every column or position."""
    journal = numbers.run / "journal.jsonl"
    text = journal.read_text()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        gather(numbers.run, seconds=LONG)
    journal.write_text(text)
    compiled = [m for m in caplog.messages if m.startswith("Finished XLA compilation")]
    assert 3 <= len(compiled) <= 4, compiled


MARGINS = [ModelOptions(model="svm"), ModelOptions(model="mlp", hidden=(4,), loss="hinge")]


@pytest.mark.slow
@pytest.mark.parametrize("model", MARGINS, ids=["linear", "mlp"])
def test_margins(folder, model):
    """Catches a log loss of what is no probability."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=1200)
    label = np.where(x + 0.5 * rng.normal(size=1200) > 0, "yes", "no")
    made = make(folder, f"margins {model.model}", {"x": x, "y": label}, model)
    found = made.records["baselines"]
    assert (found["metric"], found["lower_is_better"]) == ("accuracy", False)
    assert found["model"]["value"] == pytest.approx(made.value("accuracy"))
    assert found["gain_over_trivial"]["lo"] > 0
    assert made.records["calibration"]["of"] == "probability of class 'yes'"
    assert (found["linear"] is None) == (model.model == "svm")
    if model.model == "svm":
        assert "straight" in made.records["slice"]["left_out"]


@pytest.mark.slow
def test_nothing_held_out(folder):
    """Catches scores of training rows that are given out as held-out ones."""
    rng = np.random.default_rng(0)
    columns = {"x": rng.normal(size=300), "y": rng.choice(["no", "yes"], 300)}
    none = make(folder, "none", columns, options={"validation": 0.0}).records
    for event in ("baselines", "calibration", "confusion", "importance"):
        assert none[event]["reason"] == "no rows were held out"
    assert none["slice"]["reason"] is None


def test_confusion_of_many_classes():
    """Catches the largest by number, and columns that are not those of the rows."""
    rng = np.random.default_rng(0)
    shares = np.arange(1, 41) / 820
    truth, chosen = rng.choice(40, 4000, p=shares), rng.integers(0, 40, 4000)
    sample = SimpleNamespace(weight=np.ones(4000), batch=SimpleNamespace(y=truth))
    context = SimpleNamespace(
        held_out_sample=lambda: sample, outputs=lambda _: np.eye(40)[chosen],
        model=SimpleNamespace(encoding=SimpleNamespace(classes=tuple(range(100, 140)))),
    )  # fmt: skip
    found = confusion(context)
    assert (len(found["classes"]), found["left_out"], found["num_rows"]) == (30, 10, 4000)
    largest = np.sort(np.argsort(-np.bincount(truth), kind="stable")[:30])
    assert found["classes"] == [str(100 + i) for i in largest]
    oracle = confusion_matrix(truth, chosen, labels=largest)
    assert found["counts"] == oracle.tolist()


@pytest.mark.slow
def test_a_data_frame(folder):
    """Catches a run whose table has no path."""
    made = make(folder, "frame", {"x": np.arange(200.0), "y": np.arange(200.0) % 7})
    request = made.run / "run.json"
    asked = downslope.read_request(made.run)
    asked["metadata"]["path"] = None
    request.write_text(json.dumps(signed(asked)))
    with contextlib.closing(downslope.open(made.path, made.options)) as stored:
        gather(made.run, stored=stored, seconds=LONG)
    assert made.records["importance"]["reason"] is None
    gather(made.run)
    assert made.records["importance"]["reason"] is None  # kept
    journal = made.run / "journal.jsonl"
    lines = [line for line in journal.read_text().splitlines() if '"importance"' not in line]
    journal.write_text("\n".join([*lines, ""]))
    gather(made.run)
    assert "data frame" in made.records["importance"]["reason"]
    assert made.records["record"]["table"] is None


@pytest.mark.slow
def test_runs_without_evidence(folder):
    """Catches a report that fails for want of a part."""
    rng = np.random.default_rng(0)
    columns = {"x": rng.normal(size=12), "y": rng.normal(size=12)}
    few = make(folder, "few", columns)
    assert "there are" in few.records["baselines"]["reason"]
    assert "12" not in few.records["noisy_rows"]["reason"]
    few.path.rename(few.path.with_suffix(".gone"))
    gather(few.run, seconds=LONG)
    records = few.records
    assert "no such file" in records["noisy_rows"]["reason"]
    assert records["record"]["command"]
    pq.write_table(pa.table({**columns, "x": columns["x"] + 1}), few.path)
    gather(few.run, seconds=LONG)
    assert "was changed since" in few.records["noisy_rows"]["reason"]
    for line in (few.run / "journal.jsonl").read_text().splitlines():
        assert "NaN" not in line
    with pytest.raises(DataError):
        gather(folder / "nowhere")


@pytest.mark.slow
def test_a_diverged_run(folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    training = {"optimizer": "sgd", "learning_rate": 1e30, "patience": None}
    model = ModelOptions(model="mlp", hidden=(4,))
    made = make(folder, "diverged", {"x": x, "y": x**2}, model, training=training)
    assert made.found.result.diverged_at_step
    records = made.records
    assert records["baselines"]["reason"] is None
    assert records["importance"]["columns"][0]["value"] == 0.0
    assert records["path"]["reason"]


@pytest.mark.parametrize("flipped", [0, 60])
def test_rows_of_a_rare_class_are_told_from_mislabelled_ones(folder, flipped):
    """Catches a warning about every table with a rare class."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, 2))
    rare = rng.random(ROWS) < (0.02 if not flipped else 1 / (1 + np.exp(-8 * x[:, 0])))
    clear = np.flatnonzero(abs(x[:, 0]) > 1.5)
    rare[rng.choice(clear, flipped, replace=False)] ^= True
    columns = {"a": x[:, 0], "b": x[:, 1], "y": np.where(rare, "r", "o")}
    training = {"optimizer": "adam", "learning_rate": 0.05, "epochs": 10}
    made = make(folder, f"rare {flipped}", columns, training=training)
    reader = RunReader(made.run)
    assert made.records["noisy_rows"]["top_share"]["one_percent"] > 0.2
    assert holds_what_is_expected(reader) == (flipped == 0)


def test_what_takes_long_to_compile_needs_a_second(numbers, monkeypatch):
    """Catches a report that takes longer than the run."""
    journal = numbers.run / "journal.jsonl"
    text = journal.read_text()
    lines = text.splitlines()
    kept = [line for line in lines if json.loads(line)["event"] not in ("slice", "noisy_rows")]
    journal.write_text("\n".join([*kept, ""]))
    monkeypatch.setattr("downslope.table.evidence.MIN_COMPILED_SECONDS", LONG + 1)
    gather(numbers.run, seconds=LONG)
    found = [json.loads(line) for line in journal.read_text().splitlines()]
    left_out = {r["event"] for r in found if "left out" in str(r.get("reason"))}
    assert left_out == {"slice", "noisy_rows"}
    journal.write_text(text)
