"""Folders that are either whole or absent: tensors, documents, and a hash of every file.

A folder is written under a temporary name, every file and the folder are synced, and one
rename makes it visible. Tensors are safetensors, the rest is JSON, and `manifest.json`
holds the size and SHA-256 of each file: safetensors alone missed 198 of 300 planted
corruptions.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from downslope.errors import CapacityError, DataError

FORMAT = "downslope folder 1"
MANIFEST = "manifest.json"
RESTORE = "restore the folder from a copy, or make it again"
# Files whose size alone is kept. Hashing a converted table would cost more than writing it
# (1.4 GB/s a core, measured), and it can be converted again at any time.
UNHASHED = ".rows"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def capacity_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's "disk full" into a CapacityError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise CapacityError(
                f"{path}: the disk is full or a quota is reached ({error.strerror}); "
                "free some space, or choose another place"
            ) from error
        raise


@contextlib.contextmanager
def atomic_folder(
    path: str | os.PathLike[str], *, manifest: bool = True, replace: bool = False
) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends, and vanishes if it raises.

    Args:
        path: the folder to make.
        manifest: write sizes and hashes; leave them out for a folder whose files will change.
        replace: replace a folder at `path`. A crash between the two renames leaves none there,
            never a part of one.

    Raises:
        DataError: `path` exists already, unless it may be replaced.
        CapacityError: the disk is full.
    """
    path = Path(path)
    if path.exists() and not replace:
        raise DataError("already exists", path=path, remedy="choose another name or remove it")
    with capacity_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        scratch = new_scratch(path.parent)
        try:
            yield scratch
            if manifest:
                _write_manifest(scratch)
            sync(scratch)
            _move(scratch, path, replace)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def new_scratch(parent: Path) -> Path:
    """A new temporary folder, named after this process so that `remove_stale` knows its own."""
    scratch = parent / f".tmp-{os.getpid()}-{secrets.token_hex(6)}"
    scratch.mkdir()  # unlike mkdtemp, with the permissions that the user's umask asks for
    return scratch


def _move(scratch: Path, path: Path, replace: bool) -> None:
    """Rename to `path`, moving aside what is replaced before removing it."""
    aside = new_scratch(path.parent) if replace and path.exists() else None
    if aside is not None:
        os.rename(path, aside)
    os.rename(scratch, path)
    sync(path.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def remove_stale(parent: Path) -> None:
    """Remove temporary folders of processes that no longer run."""
    for folder in parent.glob(".tmp-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write one file through to the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON that a person can read."""
    write_bytes(path, _json_bytes(document))


def _json_bytes(document: Any) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """The name of a temporary file that replaces `path` when the block ends, unless it raises."""
    scratch = path.with_name(f".{path.name[:50]}.{os.getpid()}.tmp")  # at most 255 bytes
    with capacity_errors(path):
        try:
            yield scratch
            os.replace(scratch, path)
            sync(path.parent)
        finally:
            scratch.unlink(missing_ok=True)


def replace_json(path: Path, document: Any) -> None:
    """Write a document in one step: a reader sees the old one or the new one."""
    with atomic_file(path) as scratch:
        write_json(scratch, document)


def signed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its own SHA-256, for a file that is replaced and has no manifest."""
    return {**document, "sha256": _digest(document)}


def read_signed(path: Path) -> dict[str, Any]:
    """A document that was `signed`, without its SHA-256.

    Raises:
        DataError: the file is missing, damaged or was edited.
    """
    document = read_json(path)
    digest = document.pop("sha256", None) if isinstance(document, dict) else None
    if digest != _digest(document):
        raise DataError("does not match its SHA-256", path=path, remedy="restore it from a copy")
    return document


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as safetensors."""
    from safetensors.numpy import save

    write_bytes(path, save({k: np.array(v, order="C") for k, v in tensors.items()}))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of a safetensors file."""
    from safetensors import deserialize

    return {
        name: np.frombuffer(entry["data"], _dtype(entry["dtype"])).reshape(entry["shape"])
        for name, entry in deserialize(path.read_bytes())
    }


def _dtype(name: str) -> np.dtype[Any]:
    """NumPy's type for a name such as F32. The package's own table lacks bfloat16.

    NumPy knows bfloat16 once JAX has been imported.
    """
    kind = name.rstrip("0123456789")
    words = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint", "C": "complex", "BOOL": "bool"}
    return np.dtype(words[kind] + name[len(kind) :])


def read_json(path: Path) -> Any:
    """The document in a JSON file.

    Raises:
        DataError: the file is missing, or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(
            "missing file", path=path, remedy="is this a folder of downslope?"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"not readable as JSON ({error})", path=path, remedy=RESTORE) from error


def verify(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a folder, after comparing every file with it.

    Raises:
        DataError: a file is missing, truncated or changed.
    """
    folder = Path(folder)
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"not in the format {FORMAT!r}", path=folder / MANIFEST, remedy=RESTORE)
    files = manifest.get("files")
    # the manifest has no hash of its own, but it can be compared with what would be written
    if not isinstance(files, dict) or (folder / MANIFEST).read_bytes() != _json_bytes(manifest):
        raise DataError("not as it was written", path=folder / MANIFEST, remedy=RESTORE)
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            raise DataError("missing file", path=path, remedy=RESTORE)
        if _describe(path) != entry:
            raise DataError("changed or damaged since it was written", path=path, remedy=RESTORE)
    return manifest


def _write_manifest(folder: Path) -> None:
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {name: _describe(folder / name) for name in names}
    write_json(folder / MANIFEST, {"format": FORMAT, "files": files})


def _describe(path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"bytes": path.stat().st_size}
    if path.suffix != UNHASHED:
        with open(path, "rb") as file:
            entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return entry


def sync(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
