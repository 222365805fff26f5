"""Saving on disk and in memory: when, and what is restored."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import jax
import pytest
from numpy.testing import assert_array_equal

import loops
from downslope import MismatchError, StopReason
from downslope.choose import controllers
from downslope.train import saving
from downslope.train.calls import calls
from downslope.train.checkpoint import Checkpoint
from downslope.train.collect import dispatch
from downslope.train.run_folder import RunFolder
from downslope.train.saving import (
    MAX_COPY_SHARE,
    keep_good_state,
    mark_good,
    save,
    save_if_due,
    undo,
)
from downslope.train.state import FORMAT, from_checkpoint
from loops import X, Y, decision, loop_of, planted, records, short_calls, train

pytestmark = pytest.mark.usefixtures("quick_compilation")
__all__ = ["planted", "short_calls"]


class Clock:
    """Stands where it is put; a copy of the state takes `cost` seconds."""

    def __init__(self):
        self.now, self.cost = 1000.0, 0.0

    def perf_counter(self):
        self.now, now = self.now + self.cost, self.now
        return now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(saving, "time", clock)
    return clock


@pytest.fixture(scope="module")
def setup():
    return loops.setup_of(
        validation=(X, Y), steps=90, measure_every=2, average="ema", microbatch_size=8,
        optimizer="momentum", checkpoint_seconds=30.0,
    )  # fmt: skip


def test_a_checkpoint_is_written_when_the_last_one_is_old(setup, clock):
    """Catches one after every call, two of the same moment, and one of a state gone wrong or of a
    trial, which a resumed run would go on from.
    """
    loop = loop_of(setup)
    written = []
    loop.run.checkpoint = lambda step, checkpoint: written.append(step)
    loop.saved_at = clock.now

    def after(seconds, step=None):
        clock.now += seconds
        loop.state.progress.num_steps = step or loop.state.progress.num_steps
        save_if_due(loop)
        return list(written)

    assert after(29.9, 7) == [] and after(0.2) == [7] and after(29.0, 9) == [7]
    assert after(2.0) == [7, 9] and after(99.0) == [7, 9]
    loop.state.held_out = dataclasses.replace(loop.state.held_out, evaluated_step=9)
    assert after(0.0) == [7, 9, 9]  # as many updates, and an evaluation more
    loop.trouble = "exploded", 12
    assert after(99.0, 12) == [7, 9, 9]
    loop.trouble, loop.trials = None, SimpleNamespace()
    assert after(99.0) == [7, 9, 9]
    loop.trials = None
    assert after(0.0) == [7, 9, 9, 12]


def test_a_copy_in_memory_takes_little_of_the_time(setup, clock, monkeypatch):
    """Catches a copy of a large model at every evaluation, one of a state that is no good, and one
    without an evaluation.
    """
    loop = loop_of(setup)
    copied = []
    monkeypatch.setattr(saving, "mark_good", lambda loop: copied.append(clock.now))
    seen = SimpleNamespace(moment="evaluated", loss=1.0)
    clock.cost = 0.5  # between the two readings of the clock
    for _ in range(300):
        clock.now += 1.0
        keep_good_state(loop, seen)
    spent = 0.5 * len(copied)
    assert len(copied) >= 3 and spent <= MAX_COPY_SHARE * (copied[-1] - copied[0]) + 0.5
    clock.cost, num = 0.0, len(copied)
    for bad in ({"moment": "collected"}, {"loss": None}):
        clock.now += 1000.0
        keep_good_state(loop, SimpleNamespace(**vars(seen) | bad))
    loop.state.progress.first_losses, loop.state.progress.last_losses = [1.0], [2.1]
    keep_good_state(loop, seen)
    assert len(copied) == num
    loop.state.progress.last_losses = [1.9]
    keep_good_state(loop, seen)
    assert len(copied) == num + 1


def everything(loop):
    """All that a run carries, as text, in which what is no number equals itself.

    Points of the trajectory follow the clock, and so do times.
    """
    checkpoint = loop.state.to_checkpoint("data")
    times = dict.fromkeys(("seconds", "update_seconds", "spent_seconds"))
    progress = checkpoint.document["progress"] | times
    found = {k: v.tolist() for k, v in checkpoint.tensors.items() if "/path" not in k}
    held_out = checkpoint.document["held_out"] | {"evaluated_seconds": None}
    found |= checkpoint.document | {"progress": progress, "held_out": held_out}
    return {k: json.dumps(v) for k, v in found.items()}


@pytest.fixture(scope="module")
def reached():
    """A run in the middle of an update of several micro-batches, with every knob turned."""
    patch = pytest.MonkeyPatch()
    found = loops.Planted()
    loops.shorten_calls(patch)
    real = controllers.update
    patch.setattr(controllers, "update", lambda *given: (real(*given)[0], found.update(*given)[1]))
    setup = loops.setup_of(
        validation=(X, Y), steps=90, measure_every=2, average="ema", optimizer="momentum",
        microbatch_size=8,
    )  # fmt: skip
    found.plan = {
        9: (decision("clip_norm", 3.0), decision("learning_rate", 0.02)),
        31: (decision("stop", "converged"),),
    }
    loop = train(loop_of(setup))
    patch.undo()
    assert 31 < loop.state.progress.num_steps < 90
    return setup, loop


@pytest.mark.slow
def test_what_is_saved_comes_back_whole(reached):
    """Catches a part of the state that no checkpoint holds, or another type than it was."""
    setup, loop = reached
    before = loop.state.to_checkpoint("data")
    kinds = {name.split("/")[0] for name in before.tensors}
    assert kinds == {"state", "lowest", "monitor", "reference_losses"}
    document = json.loads(json.dumps(before.document))
    loaded = Checkpoint(tensors=before.tensors, document=document)
    again = loop_of(setup, last=loaded)
    assert everything(again) == everything(loop)
    for name in ("progress", "knobs", "controllers"):
        assert getattr(again.state, name) == getattr(loop.state, name), name
    assert jax.tree.structure(again.state.device) == jax.tree.structure(loop.state.device)
    assert again.state.monitor.settings == loop.state.monitor.settings
    assert again.steps.current.clips and again.seconds_before == loop.state.progress.seconds
    assert [r["event"] for r in again.run.journal.records] == ["resumed"]
    assert_array_equal(again.state.held_out.params["w"], loop.state.held_out.params["w"])


def test_a_checkpoint_is_read_as_it_was_made(reached):
    """Catches a part that is saved and read as another: what a session begins with is made anew."""
    setup, loop = reached
    saved = loop.state.to_checkpoint("data")
    document = json.loads(json.dumps(saved.document))
    loaded = Checkpoint(tensors=saved.tensors, document=document)
    again = from_checkpoint(loaded, setup, loop.context, "here").to_checkpoint("data")
    assert json.loads(json.dumps(again.document)) == document
    assert document["horizon"] == dataclasses.asdict(loop.state.horizon)
    assert again.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        assert_array_equal(again.tensors[name], tensor, strict=True)


@pytest.mark.parametrize("keep", [save, mark_good])
def test_a_call_in_flight_is_waited_for(keep, reached, short_calls):
    """Catches parameters ahead of the counts that are saved with them."""
    setup, loop = reached
    again = loop_of(setup, last=loop.state.to_checkpoint("data"))
    with again.open_blocks() as blocks:
        dispatch(again, next(calls(blocks, again.dispatcher.call_length, again.steps_left)))
        assert again.dispatcher.num_in_flight == 1
        keep(again)
    progress = again.good.document["progress"]
    assert again.good.tensors["state/step"] == progress["num_steps"]
    assert progress["num_examples"] > loop.state.progress.num_examples


def test_a_checkpoint_is_not_the_state_itself(reached):
    """Catches a saved state that changes while training goes on: memory that is shared."""
    setup, loop = reached
    again = loop_of(setup, last=loop.state.to_checkpoint("data"))
    saved = again.state.to_checkpoint("data")
    frozen = json.dumps([saved.document, {k: v.tolist() for k, v in saved.tensors.items()}])
    train(again)
    assert again.stop_reason is StopReason.FINISHED and again.state.progress.num_steps == 90
    assert json.dumps(
        [saved.document, {k: v.tolist() for k, v in saved.tensors.items()}]
    ) == frozen  # fmt: skip


def test_a_copy_for_trials_serves_more_than_once(reached, planted, short_calls):
    """Catches a copy that shares memory with the run, or leaves out what a later state holds."""
    setup, loop = reached
    one, two = (loop_of(setup, last=loop.state.to_checkpoint("data")) for _ in range(2))
    copy = one.state.copy_to_host()
    train(two)
    for _ in range(2):
        one.state.return_to(copy)
        assert everything(one) == everything(loop)
        one.stop_reason = None
        train(one)
        assert everything(one) == everything(two)


def test_an_undo_leaves_nothing_of_the_updates_since(reached, planted, short_calls):
    """Catches a lowest loss, an average or measured updates of a step that was undone, and a knob
    that is set back to what diverged.
    """
    setup, loop = reached
    good = loop.state.to_checkpoint("data")
    again = train(loop_of(setup, last=good))
    assert everything(again).keys() == everything(loop).keys()
    again.state.knobs = dataclasses.replace(again.state.knobs, learning_rate=1e-3)
    again.run.last, again.trouble = good, ("exploded", 90)
    undo(again)
    knobs = json.dumps(dataclasses.asdict(again.state.knobs))
    assert everything(again) == everything(loop) | {"knobs": knobs}
    assert again.trouble is None


def test_another_format_is_refused_in_one_line(reached):
    """Catches a KeyError, or a state that is half read, from a folder of an older version."""
    setup, loop = reached
    saved = loop.state.to_checkpoint("data")
    for other in ({"format": "downslope checkpoint 1"}, {}):
        document = {k: v for k, v in saved.document.items() if k != "format"} | other
        with pytest.raises(MismatchError, match="another version of downslope; resume") as caught:
            loop_of(setup, last=Checkpoint(tensors=saved.tensors, document=document))
        assert "\n" not in str(caught.value)
    assert saved.document["format"] == FORMAT


def test_a_newer_controller_begins_at_its_first_state(reached):
    """Catches a checkpoint that no longer loads once a controller was added, or lost a field."""
    setup, loop = reached
    saved = loop.state.to_checkpoint("data")
    states = {k: v for k, v in saved.document["controllers"].items() if k != "patience"}
    document = saved.document | {"controllers": states}
    again = from_checkpoint(
        Checkpoint(tensors=saved.tensors, document=document), setup, loop.context, "here"
    )
    first = controllers.init(loop.context)
    assert again.controllers["patience"] == first["patience"] != loop.state.controllers["patience"]
    assert again.controllers["temperature"] == loop.state.controllers["temperature"]


def test_the_folder_holds_what_was_saved(setup, tmp_path, planted, short_calls):
    """Catches a state saved before a call in flight, and one written without a word."""
    folder = tmp_path / "run"
    folder.mkdir()
    with RunFolder(folder) as run:
        loop = loop_of(setup, run=run)
        planted.plan = {4: (decision("stop", "converged"),)}
        train(loop)
        save(loop)
        save(loop)
        assert [r["step"] for r in records(loop, "saved")] == [loop.state.progress.num_steps]
    with RunFolder(folder) as run:
        again = loop_of(setup, run=run, last=run.last)
        assert everything(again) == everything(loop)
        assert again.seconds_before == pytest.approx(loop.seconds, abs=60)
