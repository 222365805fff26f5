"""Resuming: after a kill at any moment, a run ends equal to the bit to an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import downslope
from downslope import DataError, MismatchError, StopReason
from downslope.train import calls
from downslope.train.checkpoint import Checkpoints
from loops import Shared

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(0).normal(size=(60_000, 4)).astype("float32")
MANY = (X, np.tanh(X[:, 0]))
DATA = (X[:500], MANY[1][:500])
OPTIONS = {
    "optimizer": "adam", "learning_rate": 0.01, "schedule": "constant", "batch_size": 24,
    "average": "ema", "ema_decay": 0.98, "clip_norm": 1.0, "l1": 1e-5, "patience": 10_000,
    "validation": 0.2,
}  # fmt: skip


def draw(rng, num):
    x = rng.normal(size=(num, 4))
    return x, np.tanh(x[:, 0])


KINDS = {
    "arrays": (DATA, {"microbatch_size": 10}),
    "generator": (downslope.Generator(draw), {"validation": (X[:80], DATA[1][:80])}),
    "many rows": (MANY, {"microbatch_size": 10}),
}


@Shared
def loss(model, batch, key):
    """A loss with noise of its own, so that a repeated or skipped key would show."""
    x = batch[0] + 0.1 * jax.random.normal(key, batch[0].shape)
    return 0.5 * (jax.nn.tanh(x @ model["w"]) @ model["v"] - batch[1]) ** 2


def model(width=8):
    rng = np.random.default_rng(1)
    return {
        "w": rng.normal(size=(4, width)).astype("float32"),
        "v": rng.normal(size=width).astype("float32"),
    }


def train(kind, folder, steps, **options):
    """Begins or resumes the run in `folder`."""
    data, own = KINDS[kind]
    where = "resume" if (folder / "run.json").exists() else "out"
    options = OPTIONS | own | {"steps": steps, where: folder} | options
    return downslope.fit(loss, model(), data, **options)


def everything(folder):
    """All that a run has written, to the bit, but for its times."""
    checkpoint = Checkpoints(folder / "checkpoints").newest()
    progress = {
        k: v for k, v in checkpoint.document["progress"].items() if not k.endswith("seconds")
    }
    progress |= {k: checkpoint.document[k] for k in ("held_out", "knobs", "controllers")}
    del progress["held_out"]["evaluated_seconds"]
    result = json.loads((folder / "result.json").read_text())
    result = {k: v for k, v in result.items() if k not in ("seconds", "spent_seconds", "run")}
    # of neighbouring updates, those of two sittings are not compared with each other
    checkpoint.tensors["monitor/probes"][:, -2:] = 0.0
    del result["measurements"]["step_correlation"]
    # points of the path are where calls end
    tensors = {k: v for k, v in checkpoint.tensors.items() if not k.startswith("monitor/path")}
    return {k: (v.dtype.str, v.tobytes()) for k, v in tensors.items()}, progress, result


def assert_same_run(a, b):
    tensors, progress, result = everything(a)
    others, other_progress, other_result = everything(b)
    assert {"state/average/w", "state/gradient/w", "state/opt_state/0/nu/v"} & tensors.keys()
    assert [k for k in tensors | others if tensors.get(k) != others.get(k)] == []
    # sums over windows: rounding follows where the calls begin
    for k in ("smoothed_loss", "smoothed_weight", "epoch_loss", "last_epoch_loss", "train_loss"):
        for mine, other in ((progress, other_progress), (result, other_result)):
            if mine.get(k) is not None:
                mine[k] = pytest.approx(mine[k], rel=1e-9)
                assert other[k] == mine[k]
    assert other_progress == progress
    assert other_result == result


@pytest.fixture(scope="module", params=["arrays", "generator"])
def whole(request, tmp_path_factory):
    """A run of 150 steps that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = train(request.param, folder, 150)
    assert result.stop_reason is StopReason.FINISHED
    return request.param, folder, result


@pytest.mark.slow
def test_a_run_in_three_sittings_equals_one(whole, tmp_path):
    """Catches a position kept by the epoch only, an average or best parameters begun anew, a key
    that starts over, Adam's count lost: 40 and 97 steps lie inside epochs of 17.
    """
    kind, folder, result = whole
    for steps in (40, 97, 150):
        last = train(kind, tmp_path / "run", steps)
        assert last.num_steps == steps
    assert_same_run(folder, tmp_path / "run")
    for k in result.params:
        assert_array_equal(last.params[k], result.params[k])


@pytest.mark.slow
def test_stopping_inside_an_epoch_adds_no_evaluation_to_the_run(tmp_path):
    """Catches best parameters, or a patience, that know of where a run was interrupted."""
    x = np.zeros((100, 1), "float32")

    def passing(model, batch, key):  # falls for ever, but for held-out rows: lowest at step 16
        return (model["a"] - 0.16) ** 2 * batch[:, 0] - model["a"] * (1 - batch[:, 0])

    def passed(folder, steps, where):
        return downslope.fit(
            passing, {"a": np.float32(0)}, x, validation=x + 1, optimizer="sgd", batch_size=10,
            learning_rate=0.01, schedule="constant", steps=steps, patience=50, tolerance=0.0,
            **{where: folder},
        )  # fmt: skip

    whole = passed(tmp_path / "a", 40, "out")
    assert float(whole.params["a"]) == pytest.approx(0.2)  # epochs end at steps 10, 20, 30, 40
    assert float(passed(tmp_path / "b", 16, "out").params["a"]) == pytest.approx(0.16)
    assert passed(tmp_path / "b", 40, "resume").params["a"] == whole.params["a"]


def test_a_finished_run_is_not_trained_further(whole, tmp_path):
    """Catches one more epoch or call after the last step was made."""
    kind, folder, result = whole
    again = train(kind, folder, 150)
    assert (again.num_steps, again.stop_reason) == (150, StopReason.FINISHED)
    for k in result.params:
        assert_array_equal(again.params[k], result.params[k])


def _damage(folder):
    path = folder / "tensors.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    """Catches a flipped bit that is trained on, and a run lost though an older state is whole."""
    for steps in (30, 50):
        train("arrays", tmp_path / "a", steps)
    train("arrays", tmp_path / "b", 80)
    _damage(sorted((tmp_path / "a" / "checkpoints").iterdir())[-1])
    seen = []
    result = train("arrays", tmp_path / "a", 80, readers=(seen.append,))
    assert next(r for r in seen if r["event"] == "resumed")["step"] == 30
    assert result.num_steps == 80
    assert_same_run(tmp_path / "a", tmp_path / "b")
    for checkpoint in (tmp_path / "b" / "checkpoints").iterdir():
        _damage(checkpoint)
    with pytest.raises(DataError, match=r"tensors.safetensors"):
        train("arrays", tmp_path / "b", 90)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun") / "run"
    train("arrays", folder, 20)
    return folder


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"optimizer": "sgd", "learning_rate": 0.01}, "optimizer was 'adam' .* now 'sgd'"),
        ({"learning_rate": 0.02}, "learning_rate was 0.01 .* now 0.02"),
        ({"batch_size": 25}, "batch_size was 24 .* now 25"),
        ({"microbatch_size": 9}, "microbatch_size was 10 .* now 9"),
        ({"average": None}, "average was 'ema' .* now None"),
        ({"l2": 0.1}, "l2 was 0.0 .* now 0.1"),
        ({"seed": 1}, "seed|data"),
        ({"metadata": {"a": 1}}, "metadata"),
    ],
)
def test_another_configuration_is_refused_by_name(changed, words, begun):
    """Catches a run that goes on with other settings under the old name."""
    before = sorted(p.name for p in begun.rglob("*"))
    with pytest.raises(MismatchError, match=words) as caught:
        train("arrays", begun, 30, **changed)
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in begun.rglob("*")) == before


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (model(9), DATA, "params"),
        ({**model(), "extra": np.float32(0)}, DATA, "params"),
        (model(), (DATA[0] + 1, DATA[1]), "data"),
        (model(), (DATA[0][:-1], DATA[1][:-1]), "data"),
    ],
    ids=["another width", "another leaf", "other values", "fewer rows"],
)
def test_another_model_or_other_data_are_refused_by_name(model, data, words, begun):
    """Catches rows at positions of another table, and state that is cut to fit."""
    options = OPTIONS | {"microbatch_size": 10, "steps": 30, "resume": begun}
    with pytest.raises(MismatchError, match=f"the {words} given are not those"):
        downslope.fit(loss, model, data, **options)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    """Catches a new run begun inside a folder named by mistake."""
    with pytest.raises(DataError, match="not the folder of a run"):
        downslope.fit(loss, model(), DATA, resume=tmp_path)
    assert list(tmp_path.iterdir()) == []


def _child():
    """What the subprocesses run: train, and say when a state was saved and how it ended."""
    # calls stay as short, so that checkpoints fall inside epochs too
    calls.FIRST_CALL_WINDOWS, calls.MIN_CALL_SECONDS = 64, 0.0
    kind, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

    def tell(record):
        if record["event"] == "saved":
            print("saved", flush=True)

    result = train(kind, folder, steps, checkpoint_seconds=0.05, readers=(tell,))
    print(json.dumps([str(result.stop_reason), result.signal, result.num_steps]), flush=True)


def spawn(kind, folder, steps):
    """A training in a process of its own."""
    code = "import test_resume; test_resume._child()"
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", code, kind, str(folder), str(steps)],
        env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_signal_saves_the_state_and_ends_the_run(tmp_path):
    """Catches Ctrl-C as an exception from the middle of a call, which loses the work since."""
    child = spawn("arrays", tmp_path / "run", 10**8)
    assert child.stdout.readline() == "saved\n"
    child.send_signal(signal.SIGTERM)
    reason, received, steps = json.loads(child.communicate(timeout=60)[0].splitlines()[-1])
    assert (child.returncode, reason, received) == (0, "interrupted", signal.SIGTERM)
    newest = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    assert newest.document["progress"]["num_steps"] == steps > 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stop_reason"] == reason
    result = train("arrays", tmp_path / "run", steps + 5)
    assert (result.num_steps, result.stop_reason) == (steps + 5, StopReason.FINISHED)


KILLED_STEPS = {"many rows": 30_000, "generator": 12_000}  # seconds of work, many checkpoints
EPOCH_STEPS = 2000  # 48,000 rows that are not held out, in batches of 24


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLED_STEPS)
def test_a_run_killed_at_random_moments_equals_one_never_killed(kind, tmp_path):
    """Catches a checkpoint that can be seen half-written, rows lost or repeated inside an epoch or
    a buffer, a gradient under way forgotten, and anything else that a state leaves out. Six
    kills for each kind of source, or more until two of them were inside an epoch: some while
    starting, most while training.
    """
    steps, rng, runs, resumed = KILLED_STEPS[kind], random.Random(5), 0, []
    kills, wanted, unfinished = 0, 6, True
    with spawn(kind, tmp_path / "whole", steps) as child:
        assert child.wait(120) == 0
    while kills < wanted or unfinished:
        folder = tmp_path / f"run{runs}"
        child = spawn(kind, folder, steps)
        try:
            if kills % 3 == 2:
                child.wait(rng.uniform(0.2, 1.5))  # perhaps before there is a folder
            elif child.stdout.readline():
                child.wait(rng.uniform(0.0, 0.3) if kills < wanted else 120)
        except subprocess.TimeoutExpired:
            child.kill()
            kills += child.wait() == -signal.SIGKILL
            unfinished = True
            continue
        finally:
            child.stdout.close()
        assert child.returncode == 0
        assert_same_run(tmp_path / "whole", folder)
        runs, unfinished = runs + 1, False
        for line in (folder / "journal.jsonl").read_text().splitlines():
            record = json.loads(line)
            resumed += [record["step"] % EPOCH_STEPS] if record["event"] == "resumed" else []
        if sum(step > 0 for step in resumed) < 2 and kills == wanted < 24:
            wanted += 3
    assert kills == wanted
    assert sum(step > 0 for step in resumed) >= 2  # resumed inside an epoch
