"""Tests of `downslope.storage`: folders that are whole or absent, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from downslope import storage
from downslope.errors import CapacityError, DataError
from downslope.storage import (
    atomic_folder,
    read_json,
    read_tensors,
    remove_stale,
    replace_json,
    verify,
    write_bytes,
    write_json,
    write_tensors,
)


def run(script, *arguments):
    """Runs a script in a process of its own, and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dead_pid():
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_folder_appears_whole(tmp_path):
    """Catches files written in place, and a manifest that leaves files out."""
    with atomic_folder(tmp_path / "deep" / "a") as scratch:
        write_json(scratch / "x.json", {"n": 1})
        (scratch / "sub").mkdir()
        write_bytes(scratch / "sub" / "y", b"abc")
        assert not (tmp_path / "deep" / "a").exists()
    assert set(verify(tmp_path / "deep" / "a")["files"]) == {"x.json", "sub/y"}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, error):
    """Catches a temporary folder left behind, also by Ctrl-C."""
    with pytest.raises(error), atomic_folder(tmp_path / "a") as scratch:
        write_bytes(scratch / "x", b"abc")
        raise error
    assert not list(tmp_path.iterdir())


def test_what_exists_is_kept(tmp_path):
    """Catches a folder of the user's that is overwritten."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("mine")
    with pytest.raises(DataError, match="already exists"), atomic_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "a" / "mine").read_text() == "mine"


def test_replacing(tmp_path):
    """Catches an old folder removed before the new one is whole, and one left lying about."""
    for content in (b"old", b"new"):
        with atomic_folder(tmp_path / "a", replace=True) as scratch:
            write_bytes(scratch / "x", content)
    with pytest.raises(ValueError), atomic_folder(tmp_path / "a", replace=True) as scratch:
        raise ValueError
    assert (tmp_path / "a" / "x").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_everything_is_synced_before_the_rename(tmp_path, monkeypatch):
    """Catches a rename that reaches the disk before the contents: whole names, empty files."""
    events = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_rename(old, new):
        events.append("rename")
        events.append(Path(old).name)
        rename(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    with atomic_folder(tmp_path / "a") as scratch:
        write_json(scratch / "x.json", {})
        write_tensors(scratch / "t.safetensors", {"w": np.zeros(3)})
    at = events.index("rename")
    assert {"x.json", "t.safetensors", "manifest.json", events[at + 1]} == set(events[:at])
    assert events[at + 2 :] == [tmp_path.name]  # the name itself is made durable too


def test_permissions_are_those_the_user_asks_for(tmp_path):
    """Catches the 0700 of `mkdtemp`, by which a group cannot read its own runs."""
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "a"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750


def test_only_what_dead_processes_left_is_removed(tmp_path):
    """Catches one run that removes the folder another one is writing."""
    (tmp_path / f".tmp-{dead_pid()}-abc").mkdir()
    (tmp_path / f".tmp-{os.getpid()}-abc").mkdir()
    (tmp_path / ".tmp-notes-abc").mkdir()
    (tmp_path / "a").mkdir()
    remove_stale(tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [f".tmp-{os.getpid()}-abc", ".tmp-notes-abc", "a"]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from downslope import storage
from downslope.storage import atomic_folder, write_json, write_tensors

parent = Path(sys.argv[1])

def write(content):
    with atomic_folder(parent / "a", replace=True) as scratch:
        write_tensors(scratch / "t.safetensors", {"w": np.full(1000, content)})
        write_json(scratch / "x.json", {"content": content})

def killed_at(name, call, place):
    def wrapped(*arguments, **options):
        global calls
        calls += 1
        if calls == place:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    setattr(os, name, wrapped)

write(0)
for place in range(1, 99):
    child = os.fork()
    if child == 0:
        calls = 0
        for name in ("fsync", "rename", "mkdir", "rmdir", "unlink"):
            killed_at(name, getattr(os, name), place)
        write(place)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    found = "absent"
    if (parent / "a").exists():
        storage.verify(parent / "a")  # raises unless it is whole
        found = storage.read_json(parent / "a" / "x.json")["content"]
    print(place, found, sum(p.name.startswith(".tmp-") for p in parent.iterdir()))
    if status == 0:
        break
    write(0)
    assert [p.name for p in parent.iterdir()] == ["a"], "something was left behind"
"""


def test_a_writer_killed_at_every_step_leaves_a_whole_folder_or_none(tmp_path):
    """Catches files visible before they are complete, and rests that no later writer removes."""
    lines = [line.split() for line in run(KILLED, tmp_path).splitlines()]
    assert len(lines) >= 12  # places at which a writer was killed
    whole = [content for _, content, _ in lines]
    assert set(whole[:-1]) <= {"0", "absent"} | {str(i) for i in range(99)}
    assert whole[0] == "0" and whole[-1] == str(len(lines))
    assert whole.count("absent") <= 1  # between the two renames
    assert any(int(rests) for _, _, rests in lines)  # the kill did hit a half-written folder


WRITER = """
import sys
from pathlib import Path
from downslope.storage import atomic_folder, write_bytes
print("ready", flush=True)
number = 0
while True:
    with atomic_folder(Path(sys.argv[1]) / f"c{number}") as scratch:
        for i in range(8):
            write_bytes(scratch / str(i), bytes(200_000))
    number += 1
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment(tmp_path):
    """Catches what the orderly kills above do not reach: a file in the middle of its write."""
    rng = random.Random(0)
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(rng.uniform(0.02, 0.2))
            writer.send_signal(signal.SIGKILL)
        for path in folder.glob("c*"):
            assert len(verify(path)["files"]) == 8
        with atomic_folder(folder / "next"):
            pass
        assert not list(folder.glob(".tmp-*"))


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from downslope.errors import CapacityError
from downslope.storage import atomic_folder, replace_json, write_tensors

parent = Path(sys.argv[1])
replace_json(parent / "result.json", {"whole": True})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with atomic_folder(parent / "a") as scratch:
        write_tensors(scratch / "t.safetensors", {"w": np.zeros(10_000)})
except CapacityError as error:
    print(error)
try:
    replace_json(parent / "result.json", {"long": "x" * 20_000})
except CapacityError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["x" * 255, "\N{SNOWMAN}" * 85], ids=["ASCII", "wide"])
def test_names_as_long_as_they_may_be(name, tmp_path):
    """Catches a temporary name that is longer, in bytes, than the name it stands for."""
    storage.replace_json(tmp_path / name, {"a": 1})
    assert storage.read_json(tmp_path / name) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_full_disk(tmp_path):
    """Catches a bare OSError, an old document that is lost, and halves left on a full disk."""
    first, second = run(FULL, tmp_path).splitlines()
    assert first.startswith(f"{tmp_path / 'a'}: the disk is full or a quota is reached")
    assert second.startswith(f"{tmp_path / 'result.json'}: the disk is full")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert read_json(tmp_path / "result.json") == {"whole": True}


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_all_the_systems_words_for_full(name):
    """Catches a quota reported as a fault of ours."""
    number = getattr(errno, name)
    with pytest.raises(CapacityError, match=r"^here: "), storage.capacity_errors("here"):
        raise OSError(number, os.strerror(number))
    with pytest.raises(PermissionError), storage.capacity_errors("here"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize(
    "dtype", ["f4", "f8", "f2", "bfloat16", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "?", "c8"]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_come_back_as_they_were(tmp_path, dtype, shape):
    """Catches types that can be written but not read (bfloat16), and lost shapes."""
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    a = np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    write_tensors(tmp_path / "t", {"a/b": a, "other": a.T})
    found = read_tensors(tmp_path / "t")
    assert found["a/b"].dtype == kind
    np.testing.assert_array_equal(found["a/b"], a)
    np.testing.assert_array_equal(found["other"], a.T)


def test_documents(tmp_path):
    """Catches NaN, which is no JSON, and errors that do not name the file."""
    write_json(tmp_path / "x.json", {"a": [1, 2.5, None]})
    assert read_json(tmp_path / "x.json") == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "y.json", {"a": float("nan")})
    with pytest.raises(DataError, match=r"missing\.json: missing file"):
        read_json(tmp_path / "missing.json")
    for content in (b"{", b"\xff\xfe", b""):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.json: not readable as JSON"):
            read_json(tmp_path / "x.json")


def test_a_document_is_replaced_in_one_step(tmp_path, monkeypatch):
    """Catches a document truncated in place: a reader, or a crash, would see half of it."""
    path = tmp_path / "x.json"
    replace_json(path, {"a": 1})

    def interrupted(descriptor):
        assert json.loads(path.read_text()) == {"a": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_manifest_of_another_format_is_refused(tmp_path):
    """Catches a later version's folder that is read as if it were of this one."""
    with atomic_folder(tmp_path / "a") as scratch:
        write_json(scratch / "x.json", {})
    manifest = tmp_path / "a" / "manifest.json"
    for document in ({"format": "downslope folder 2", "files": {}}, [], {"format": storage.FORMAT}):
        write_json(manifest, document)
        with pytest.raises(DataError, match=r"manifest\.json: not "):
            verify(tmp_path / "a")
