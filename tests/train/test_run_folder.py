"""Tests of `downslope.train.run_folder`: the folder of a run, from creation to its model."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope.config import Training
from downslope.errors import DataError, MismatchError, StopReason, UsageError
from downslope.train import run_folder as runs
from downslope.train.checkpoint import Checkpoint
from downslope.train.result import Result
from downslope.train.run_folder import RunFolder, open_run

REQUEST = {
    "data": "abc",
    "params": {"w": ["float32", 4]},
    "metadata": {"by": "me"},
    "training": {"seed": 0, "learning_rate": 0.1, "epochs": 3},
}


def asked(part, **changes):
    return REQUEST | {part: REQUEST[part] | changes}


def snapshot(content=0):
    return Checkpoint(tensors={"w": np.full(4, content, "f4")}, document={"content": content})


def result(content=0, folder=None):
    model = {"w": jnp.full(4, content, jnp.float32), "names": ("a", 2), "k": jnp.arange(2)}
    return Result(
        params=model, stop_reason=StopReason.FINISHED, history=[], measurements={},
        validation=None, train_loss=0.5, num_steps=content, num_examples=10, num_epochs=1.0,
        batch_size=2, learning_rate=0.1, optimizer="sgd", seconds=1.0, shuffling="none",
        diverged_at_step=None, signal=None, run=folder,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    runs.create(tmp_path / "runs" / "r", REQUEST)
    return tmp_path / "runs" / "r"


def test_a_run_from_its_making_to_its_model(tmp_path):
    """Catches files under other names than the documented ones, and a model without its fixed
    leaves.
    """
    folder = tmp_path / "deep" / "r"
    with open_run(REQUEST, out=folder, resume=None) as run:
        assert run.last is None and runs.read_request(folder) == REQUEST
        run.checkpoint(5, snapshot(5))
        run.finish(result(6, folder), {"note": [1]})
    assert runs.read_metadata(folder) == {"note": [1]}
    found = runs.load_model(folder, result(0).params)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), found, result(6).params))
    summary = json.loads((folder / "result.json").read_text())
    assert (summary["run"], summary["num_steps"]) == (str(folder), 6)
    assert run.journal.records[-1]["event"] == "stopped"
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["checkpoints", "journal.jsonl", "model", "result.json", "run.json"]


def test_an_open_run_stands_at_its_last_checkpoint(folder):
    """Catches a resume from the first checkpoint, or from the model."""
    with RunFolder(folder) as run:
        for step in (5, 10):
            run.checkpoint(step, snapshot(step))
            assert run.last is not None and run.last.document == {"content": step}
        run.finish(result(99), {})
    with open_run(REQUEST, out=None, resume=folder) as run:
        assert run.last is not None and run.last.document == {"content": 10}


def test_a_resumed_run_writes_its_model_anew(folder):
    """Catches a second session that fails because the first one left a model."""
    for content in (1, 2):
        with RunFolder(folder) as run:
            run.finish(result(content), {"content": content})
    assert runs.read_metadata(folder) == {"content": 2}
    assert json.loads((folder / "result.json").read_text())["num_steps"] == 2


def test_a_run_in_memory_writes_nothing(tmp_path, monkeypatch):
    """Catches a run without `out` that leaves files in the working folder."""
    monkeypatch.chdir(tmp_path)
    with open_run(REQUEST, out=None, resume=None) as run:
        run.checkpoint(1, snapshot(1))
        run.finish(result(2), {})
        assert run.last is not None and run.last.document == {"content": 1}
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused_with_the_remedies_that_help(folder, tmp_path):
    """Catches a run written over another one, and advice to resume what is no run."""
    with pytest.raises(DataError, match=f"{folder}: already exists; .*--out.*--resume {folder}"):
        runs.create(folder, {})
    assert runs.read_request(folder) == REQUEST
    with pytest.raises(DataError, match=r"already exists; choose another --out$"):
        runs.create(tmp_path, {})


def test_only_a_new_run_with_nothing_to_resume_is_discarded(folder):
    """Catches hours of work removed because of a later error, and empty runs left behind."""
    with pytest.raises(ZeroDivisionError), open_run(REQUEST, out=None, resume=folder):
        raise ZeroDivisionError
    assert folder.exists()  # it is not new, though it has no checkpoint yet
    new = folder.with_name("new")
    with pytest.raises(ZeroDivisionError), open_run(REQUEST, out=new, resume=None):
        raise ZeroDivisionError
    assert not new.exists()
    with pytest.raises(ZeroDivisionError), open_run(REQUEST, out=new, resume=None) as run:
        run.checkpoint(1, snapshot(1))
        raise ZeroDivisionError
    with RunFolder(new) as run:
        assert run.last is not None


COSINE = asked("training", schedule="cosine")


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (REQUEST, REQUEST | {"data": "abd"}, "the data given are not those the run began with"),
        (REQUEST, asked("params", w=["float32", 5]), "the params given"),
        (REQUEST, asked("metadata", by="you"), "the metadata given"),
        (REQUEST, asked("training", learning_rate=0.2), "learning_rate was 0.1 .* is now 0.2"),
        (REQUEST, asked("training", seed=1), "seed was 0"),
        (COSINE, asked("training", schedule="cosine", epochs=99), "epochs"),  # stretched over them
    ],
)
def test_another_request_is_refused(before, now, message, tmp_path):
    """Catches a resume that goes on another path than the run it continues."""
    runs.create(tmp_path / "r", before)
    with (
        pytest.raises(MismatchError, match=f"^{tmp_path / 'r'}: .*{message}"),
        open_run(now, out=None, resume=tmp_path / "r"),
    ):
        pass
    assert runs.read_request(tmp_path / "r") == before


@pytest.mark.parametrize("limit", [{"epochs": 9}, {"epochs": 3, "seconds": 99.0}])
def test_new_limits_are_taken_and_noted(limit, folder):
    """Catches a resumed run whose folder still tells the old limits, or that refuses new ones."""
    more = asked("training", **limit)
    with open_run(more, out=None, resume=folder):
        pass
    assert runs.read_request(folder) == more


def test_what_json_cannot_tell_apart_is_the_same_request(tmp_path):
    """Catches metadata with a tuple, which comes back as a list, that makes a run unresumable."""
    request = asked("metadata", hidden=(64, 64), names={1: "a"})
    runs.create(tmp_path / "r", request)
    runs.check_request(tmp_path / "r", request)


def test_what_is_no_run_is_named(folder, tmp_path):
    """Catches a KeyError or a bare FileNotFoundError."""
    for nothing in (tmp_path, tmp_path / "missing"):
        for ask in (runs.read_request, runs.read_metadata, lambda f: runs.load_model(f, {})):
            with pytest.raises(DataError, match=f"^{nothing}: not the folder of a run"):
                ask(nothing)
    with pytest.raises(DataError, match=f"{folder}: has no model yet; go on with --resume"):
        runs.load_model(folder, {})


def test_a_model_that_is_damaged_or_of_another_shape_is_refused(folder):
    """Catches predictions from damaged weights, and weights that are broadcast."""
    with RunFolder(folder) as run:
        run.finish(result(1), {})
    with pytest.raises(MismatchError, match=f"^{folder}: tensor 'w' is"):
        runs.load_model(folder, result().params | {"w": np.zeros(5, "f4")})
    path = folder / "model" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=f"{path}: changed or damaged"):
        runs.load_model(folder, result().params)


def test_a_run_with_damaged_checkpoints_leaves_no_file_open(folder):
    """Catches a journal that stays open when opening the run fails (a warning is an error here)."""
    with RunFolder(folder) as run:
        run.checkpoint(1, snapshot(1))
    for file in (folder / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="tensors"):
        RunFolder(folder)


def test_an_edited_request_is_refused(folder):
    """Catches a resumed run that takes another penalty or rate from a damaged `run.json`."""
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"abc"', '"abd"'))
    with pytest.raises(DataError, match=r"run\.json: does not match its SHA-256"):
        runs.read_request(folder)


@pytest.mark.parametrize("optimizer", ["auto", "adam", "sgd", "lion", None])
def test_the_configuration_of_a_run_is_that_it_began_with(optimizer, tmp_path):
    """Catches a run with everything left to choose taken for one with a rule of its own."""
    training = Training(steps=7, learning_rate=0.5)
    asked = dataclasses.asdict(training) | {"optimizer": optimizer, "dropped": 1}
    runs.create(tmp_path / "run", REQUEST | {"training": asked})
    if optimizer in ("lion", None):
        with pytest.raises(UsageError, match=f"an optimizer of its own .{optimizer}."):
            runs.training_of(tmp_path / "run")
    else:
        found = runs.training_of(tmp_path / "run")
        assert found == dataclasses.replace(training, optimizer=optimizer)
