"""Tests of `downslope.train.checkpoint`: what is saved comes back, and damage is noticed."""

from __future__ import annotations

import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope.errors import DataError, MismatchError
from downslope.train import checkpoint as checkpoint_module
from downslope.train.checkpoint import (
    Checkpoint,
    Checkpoints,
    host_tensors,
    load,
    named_leaves,
    restore_leaves,
    save,
)


class Layer(NamedTuple):
    weight: object
    bias: object


def model():
    return {
        "layers": [Layer(jnp.arange(6.0).reshape(2, 3), jnp.zeros(3)), Layer(jnp.ones(1), None)],
        "scale": jnp.array(2.0, jnp.bfloat16),
        "count": jnp.array(7, jnp.int32),
    }


def snapshot(content=0):
    tensors = {"state/w": np.arange(300.0) + content, "state/step": np.array(content, "i4")}
    return Checkpoint(tensors=tensors, document={"content": content, "why": "because"})


def same(first, second):
    assert first.document == second.document
    assert first.tensors.keys() == second.tensors.keys()
    for name, a in first.tensors.items():
        assert a.dtype == second.tensors[name].dtype
        np.testing.assert_array_equal(a, second.tensors[name])


def test_leaves_are_named_by_their_path():
    """Catches names such as GetAttrKey(name='weight'), which no other program can use."""
    assert set(named_leaves(model())) == {
        "layers/0/weight",
        "layers/0/bias",
        "layers/1/weight",
        "scale",
        "count",
    }
    assert set(named_leaves(jnp.zeros(3))) == {"value"}


@pytest.mark.parametrize(
    "tree", [{"a/b": 1, "a": {"b": 2}}, {"a~1b": 1, "a/b": 2}, {"~": {"/": 1}, "~/": {"": 2}}]
)
def test_no_two_leaves_share_a_name(tree):
    """Catches keys with slashes by which one tensor takes another one's place."""
    assert sorted(named_leaves(tree).values()) == sorted(jax.tree.leaves(tree))


def test_a_tree_comes_back_as_it_was(tmp_path):
    """Catches types and shapes lost on the way (bfloat16, scalars), and leaves in other order."""
    save(tmp_path / "a", Checkpoint(tensors=host_tensors(model()), document={}))
    found = restore_leaves(jax.eval_shape(model), load(tmp_path / "a").tensors, "here")
    assert jax.tree.structure(found) == jax.tree.structure(model())
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(model()), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def test_a_snapshot_does_not_change_with_the_state():
    """Catches host tensors that alias memory which the next step overwrites."""
    state = {"w": np.zeros(4, np.float32)}
    taken = host_tensors(state)
    state["w"] += 1
    np.testing.assert_array_equal(taken["w"], 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("scale"), "no tensor 'scale'"),
        (lambda t: t.update(more=np.zeros(1)), "'more' is not part of this model"),
        (lambda t: t.update(count=np.zeros((2,), "i4")), r"int32\[2\], the model has int32\[\]"),
        (lambda t: t.update(count=np.zeros((), "i8")), r"int64\[\], the model has int32\[\]"),
    ],
)
def test_another_model_is_refused(change, message):
    """Catches tensors that are broadcast, cast or left out without a word."""
    tensors = host_tensors(model())
    change(tensors)
    with pytest.raises(MismatchError, match=f"^here: .*{message}"):
        restore_leaves(jax.eval_shape(model), tensors, "here")


def test_any_damaged_byte_is_noticed(tmp_path):
    """Catches safetensors without hashes: two of three such changes pass unseen."""
    save(tmp_path / "a", snapshot())
    files = sorted((tmp_path / "a").iterdir())
    assert len(files) == 3
    rng = random.Random(0)
    for _ in range(300):
        path = rng.choice(files)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= rng.choice(
            [rng.randrange(1, 256), 1 << rng.randrange(8)]
        )
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=str(tmp_path / "a")):
            load(tmp_path / "a")
        path.write_bytes(whole)
    same(load(tmp_path / "a"), snapshot())


def test_blanks_changed_in_the_manifest_are_noticed(tmp_path):
    """Catches a manifest that is parsed only: JSON does not mind which blanks it has."""
    save(tmp_path / "a", snapshot())
    path = tmp_path / "a" / "manifest.json"
    whole = path.read_bytes()
    for place in [i for i, byte in enumerate(whole) if chr(byte).isspace()]:
        path.write_bytes(whole[:place] + b"\t" + whole[place + 1 :])
        with pytest.raises(DataError, match="manifest"):
            load(tmp_path / "a")


def test_a_file_cut_short_or_missing_is_noticed(tmp_path):
    """Catches a check of the bytes that are there, or of the files that are there."""
    save(tmp_path / "a", snapshot())
    for path in sorted((tmp_path / "a").iterdir()):
        whole = path.read_bytes()
        for size in (0, 1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(DataError, match=path.name):
                load(tmp_path / "a")
        path.write_bytes(whole + b"\n")
        with pytest.raises(DataError, match=path.name):
            load(tmp_path / "a")
        path.unlink()
        with pytest.raises(DataError, match=f"{path.name}: missing file"):
            load(tmp_path / "a")
        path.write_bytes(whole)
    same(load(tmp_path / "a"), snapshot())


def test_only_what_may_be_replaced_is_replaced(tmp_path):
    """Catches a save that removes what was there before it has written anything."""
    save(tmp_path / "a", snapshot(1))
    with pytest.raises(DataError, match="already exists"):
        save(tmp_path / "a", snapshot(2))
    same(load(tmp_path / "a"), snapshot(1))
    save(tmp_path / "a", snapshot(2), replace=True)
    same(load(tmp_path / "a"), snapshot(2))


def test_the_newest_is_found_and_two_are_kept(tmp_path):
    """Catches an order by text (step 9 after step 10), and a disk that fills up."""
    found = Checkpoints(tmp_path / "c")
    assert found.newest() is None
    for step in (0, 9, 10, 100):
        found.save(step, snapshot(step))
        newest = Checkpoints(tmp_path / "c").newest()
        assert newest is not None
        same(newest, snapshot(step))
    assert len(list((tmp_path / "c").iterdir())) == 2


@pytest.mark.parametrize("times", [2, 5])
def test_a_step_saved_again(tmp_path, times):
    """Catches an older state of the same step that is taken for the newest."""
    found = Checkpoints(tmp_path / "c")
    found.save(3, snapshot(3))
    for again in range(times):
        found.save(5, snapshot(50 + again))
    newest = found.newest()
    assert newest is not None
    same(newest, snapshot(50 + times - 1))
    assert len(list((tmp_path / "c").iterdir())) == 2


def _damage(folder):
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path):
    """Catches a run that is lost with its last checkpoint, or goes on from damaged tensors."""
    found = Checkpoints(tmp_path / "c")
    found.save(1, snapshot(1))
    _damage(found.save(2, snapshot(2)))
    newest = found.newest()
    assert newest is not None
    same(newest, snapshot(1))


def test_a_manifest_without_files_gives_way_too(tmp_path):
    """Catches a KeyError where only a DataError leads to the checkpoint before."""
    found = Checkpoints(tmp_path / "c")
    found.save(1, snapshot(1))
    path = found.save(2, snapshot(2)) / "manifest.json"
    path.write_text(path.read_text().replace('"files"', '"filez"'))
    newest = found.newest()
    assert newest is not None
    same(newest, snapshot(1))


def test_a_damaged_later_one_is_replaced_by_what_follows(tmp_path):
    """Catches a damaged checkpoint that counts as one of the two, or that is found first again."""
    found = Checkpoints(tmp_path / "c")
    found.save(10, snapshot(10))
    _damage(found.save(20, snapshot(20)))
    found.save(15, snapshot(15))  # resumed from 10
    found.save(17, snapshot(17))
    _damage(sorted((tmp_path / "c").iterdir())[-1])
    newest = found.newest()
    assert newest is not None
    same(newest, snapshot(15))


def test_when_all_are_damaged_the_run_is_not_begun_anew(tmp_path):
    """Catches hours of training that are thrown away in silence."""
    found = Checkpoints(tmp_path / "c")
    for step in (1, 2):
        _damage(found.save(step, snapshot(step)))
    with pytest.raises(DataError, match=r"000000000002.*tensors\.safetensors"):
        found.newest()


def test_halves_of_a_killed_writer_are_no_checkpoints(tmp_path):
    """Catches a temporary folder that is taken for a checkpoint."""
    found = Checkpoints(tmp_path / "c")
    found.save(1, snapshot(1))
    (tmp_path / "c" / ".tmp-999999999-abc").mkdir()
    newest = found.newest()
    assert newest is not None
    same(newest, snapshot(1))
    found.save(2, snapshot(2))
    assert len(list((tmp_path / "c").iterdir())) == 2


def test_a_whole_checkpoint_is_there_at_every_moment(tmp_path, monkeypatch):
    """Catches old ones removed before the new one is whole."""
    found = Checkpoints(tmp_path / "c")
    found.save(1, snapshot(1))

    def failing(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_module, "write_json", failing)
        for step in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                found.save(step, snapshot(step + 100))
    newest = found.newest()
    assert newest is not None
    same(newest, snapshot(1))
