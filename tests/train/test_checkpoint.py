"""Tests of `downslope.train.checkpoint`: round trips, and damage that is detected."""

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


def numbered(content):
    tensors = {"state/w": np.arange(300.0) + content, "state/step": np.array(content, "i4")}
    return Checkpoint(tensors=tensors, document={"content": content, "why": "because"})


def content_of(found):
    """The number that a checkpoint was made of, which is whole."""
    expected = numbered(found.document["content"])
    assert found.document == expected.document
    assert found.tensors.keys() == expected.tensors.keys()
    for name, values in expected.tensors.items():
        assert found.tensors[name].dtype == values.dtype
        np.testing.assert_array_equal(found.tensors[name], values)
    return found.document["content"]


@pytest.fixture
def kept(tmp_path):
    """The checkpoints of a run, in which one of update 1 lies."""
    found = Checkpoints(tmp_path / "c")
    assert found.newest() is None
    found.save(1, numbered(1))
    return found


def test_leaves_are_named_by_their_path():
    """Catches names such as GetAttrKey(name='weight'), which no other program can use."""
    names = {"layers/0/weight", "layers/0/bias", "layers/1/weight", "scale", "count"}
    assert set(named_leaves(model())) == names
    assert set(named_leaves(jnp.zeros(3))) == {"value"}


@pytest.mark.parametrize(
    "tree", [{"a/b": 1, "a": {"b": 2}}, {"a~1b": 1, "a/b": 2}, {"~": {"/": 1}, "~/": {"": 2}}]
)
def test_no_two_leaves_share_a_name(tree):
    """Catches keys with slashes by which one tensor takes another one's place."""
    assert sorted(named_leaves(tree).values()) == sorted(jax.tree.leaves(tree))


def test_a_tree_comes_back_as_it_was(tmp_path):
    """Catches types and shapes lost on the way (bfloat16, scalars), leaves in other order, and
    tensors that alias memory which the next step overwrites.
    """
    save(tmp_path / "a", Checkpoint(tensors=host_tensors(model()), document={}))
    found = restore_leaves(jax.eval_shape(model), load(tmp_path / "a").tensors, "here")
    assert jax.tree.structure(found) == jax.tree.structure(model())
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(model()), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
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


def damages(whole, name, rng):
    """Ways in which a file can be damaged; None where it is missing."""
    yield from (whole[:size] for size in (0, 1, len(whole) // 2, len(whole) - 1))
    yield whole + b"\n"
    yield None
    for _ in range(100):
        damaged = bytearray(whole)
        flip = rng.choice([rng.randrange(1, 256), 1 << rng.randrange(8)])
        damaged[rng.randrange(len(whole))] ^= flip
        yield bytes(damaged)
    if name == "manifest.json":  # JSON does not mind which blanks it has
        for place in [i for i, byte in enumerate(whole) if chr(byte).isspace()][::5]:
            yield whole[:place] + b"\t" + whole[place + 1 :]


def test_any_damage_is_noticed(tmp_path):
    """Catches safetensors without hashes, a check of the files that are there, or of what of them
    is there, and a manifest that is parsed only.
    """
    save(tmp_path / "a", numbered(0))
    files = sorted((tmp_path / "a").iterdir())
    assert len(files) == 3
    for path in files:
        whole = path.read_bytes()
        for damaged in damages(whole, path.name, random.Random(0)):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            named = f"{path.name}: missing file" if damaged is None else str(tmp_path / "a")
            with pytest.raises(DataError, match=named):
                load(tmp_path / "a")
            path.write_bytes(whole)
    assert content_of(load(tmp_path / "a")) == 0


def test_only_what_may_be_replaced_is_replaced(tmp_path):
    """Catches a save that removes what was there before it has written anything."""
    save(tmp_path / "a", numbered(1))
    with pytest.raises(DataError, match="already exists"):
        save(tmp_path / "a", numbered(2))
    assert content_of(load(tmp_path / "a")) == 1
    save(tmp_path / "a", numbered(2), replace=True)
    assert content_of(load(tmp_path / "a")) == 2


def test_the_newest_is_found_and_two_are_kept(kept):
    """Catches an order by text (step 9 after step 10), a disk that fills up, and an older state of
    the same step that is taken for the newest.
    """
    for number, step in enumerate((9, 10, 100, 100, 100, 101)):
        kept.save(step, numbered(number))
        assert content_of(Checkpoints(kept.folder).newest()) == number
        assert len(list(kept.folder.iterdir())) == 2


def broken(path):
    path = path / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def without_files(path):
    path = path / "manifest.json"
    path.write_text(path.read_text().replace('"files"', '"filez"'))


def half(path):
    path.rename(path.with_name(".tmp-999999999-abc"))


@pytest.mark.parametrize("damage", [broken, without_files, half])
def test_a_damaged_newest_gives_way_to_the_one_before(damage, kept):
    """Catches a run that is lost with its last checkpoint, one that goes on from damaged tensors,
    a KeyError, and half of one that a killed writer left.
    """
    damage(kept.save(2, numbered(2)))
    assert content_of(kept.newest()) == 1
    kept.save(3, numbered(3))
    assert content_of(kept.newest()) == 3 and len(list(kept.folder.iterdir())) == 2


def test_a_damaged_later_one_is_replaced_by_what_follows(kept):
    """Catches a damaged checkpoint that counts as one of the two, or that is found first again."""
    broken(kept.save(20, numbered(20)))
    kept.save(15, numbered(15))  # resumed from 1
    broken(kept.save(17, numbered(17)))
    assert content_of(kept.newest()) == 15


def test_when_all_are_damaged_the_run_is_not_begun_anew(kept):
    """Catches hours of training that are thrown away in silence."""
    broken(kept.save(2, numbered(2)))
    broken(kept.folder / "000000000001-000")
    with pytest.raises(DataError, match=r"000000000002.*tensors\.safetensors"):
        kept.newest()


def test_a_whole_checkpoint_is_there_at_every_moment(kept, monkeypatch):
    """Catches old ones removed before the new one is whole."""

    def failing(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_module, "write_json", failing)
        for step in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                kept.save(step, numbered(step + 100))
    assert content_of(kept.newest()) == 1
