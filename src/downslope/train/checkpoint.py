"""Checkpoints and models on disk: named tensors, with documents beside them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from downslope.errors import DataError, MismatchError
from downslope.storage import (
    atomic_folder,
    read_json,
    read_tensors,
    verify,
    write_json,
    write_tensors,
)

TENSORS = "tensors.safetensors"
DOCUMENT = "document.json"
KEPT = 2  # checkpoints kept: the newest, and the one before in case the newest is damaged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State of a run on the host: `tensors` by name and a JSON `document`."""

    tensors: dict[str, np.ndarray]
    document: dict[str, Any]


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves of a pytree by path, such as `params/layers/0/weight`.

    A slash inside a key is written `~1` and a tilde `~0`, as in a JSON pointer, so that no
    two leaves share a name.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(_part(k) for k in path) or "value": leaf for path, leaf in leaves}


def _part(key: Any) -> str:
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            key = getattr(key, attribute)
            break
    return str(key).replace("~", "~0").replace("/", "~1")


def host_tensors(tree: Any) -> dict[str, np.ndarray]:
    """Copies of a pytree's leaves on the host, by path."""
    return {name: np.array(leaf) for name, leaf in named_leaves(jax.device_get(tree)).items()}


def restore_leaves(template: Any, tensors: dict[str, np.ndarray], where: str) -> Any:
    """Tree like `template`, filled from named tensors.

    Raises:
        MismatchError: a tensor is missing, left over, or of another shape or type.
    """
    wanted = named_leaves(template)
    for name, leaf in wanted.items():
        found = tensors.get(name)
        if found is None:
            raise MismatchError(f"{where}: no tensor {name!r}; it belongs to another model")
        if found.shape != np.shape(leaf) or found.dtype != leaf.dtype:
            raise MismatchError(
                f"{where}: tensor {name!r} is {found.dtype}{list(found.shape)}, the model has "
                f"{leaf.dtype}{list(np.shape(leaf))}; resume with the model it was made with"
            )
    unknown = sorted(set(tensors) - set(wanted))
    if unknown:
        raise MismatchError(f"{where}: tensor {unknown[0]!r} is not part of this model")
    structure = jax.tree.structure(template)
    return jax.tree.unflatten(structure, [tensors[name] for name in wanted])


def save(path: Path, checkpoint: Checkpoint, *, replace: bool = False) -> None:
    """Write a checkpoint as a folder that is either complete or absent.

    Raises:
        DataError: `path` exists, unless it may be replaced.
        CapacityError: the disk is full; no partial folder is left behind.
    """
    with atomic_folder(path, replace=replace) as folder:
        write_tensors(folder / TENSORS, checkpoint.tensors)
        write_json(folder / DOCUMENT, checkpoint.document)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and verify the hash of every file.

    Raises:
        DataError: a file is missing or damaged.
    """
    verify(path)
    return Checkpoint(tensors=read_tensors(path / TENSORS), document=read_json(path / DOCUMENT))


class Checkpoints:
    """Checkpoints of a run, in folders named by step and save count."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write the checkpoint of `step`, then remove all but it and the one before.

        Those of later steps are removed too: a run resumed from an earlier step has found
        them damaged. No folder is replaced, so there is a complete one at every moment.
        """
        same = [p.name for p in self._paths() if p.name.startswith(f"{step:012d}-")]
        number = int(same[-1].partition("-")[2]) + 1 if same else 0
        path = self.folder / f"{step:012d}-{number:03d}"
        save(path, checkpoint)
        kept = [p for p in self._paths() if p.name <= path.name][-KEPT:]
        for old in self._paths():
            if old not in kept:
                shutil.rmtree(old, ignore_errors=True)
        return path

    def newest(self) -> Checkpoint | None:
        """Newest undamaged checkpoint, or None if the run has none yet.

        Raises:
            DataError: every checkpoint is damaged.
        """
        damage: DataError | None = None
        for path in reversed(self._paths()):
            try:
                return load(path)
            except DataError as error:
                damage = damage or error
        if damage:
            raise damage
        return None

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if p.name[:1].isdigit())
