"""Folder of a run: request, journal, checkpoints, model, summary.

RUN/run.json        the request: configuration, data fingerprint, model
RUN/journal.jsonl   what happened, one record per line
RUN/checkpoints/    the newest two states
RUN/model/          the trained parameters, and how to use them
RUN/result.json     the summary
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from downslope.config import AUTO, OptimizerName, Training
from downslope.errors import DataError, MismatchError, UsageError
from downslope.objective import Model, merge, split
from downslope.report.journal import Journal, Reader, no_run
from downslope.storage import atomic_folder, read_signed, replace_json, signed, write_json
from downslope.train.checkpoint import (
    Checkpoint,
    Checkpoints,
    host_tensors,
    load,
    restore_leaves,
    save,
)
from downslope.train.result import Result

# Settings that a resumed run may change: limits, never what the updates depend on.
LIMITS = {
    "epochs",
    "steps",
    "seconds",
    "until",
    "patience",
    "tolerance",
    "anatomy_share",
    "checkpoint_seconds",
}

REQUEST = "run.json"
JOURNAL = "journal.jsonl"
CHECKPOINTS = "checkpoints"
MODEL = "model"
RESULT = "result.json"


class RunFolder:
    """An open run, in a folder or in memory only; `readers` get every journal record."""

    def __init__(self, folder: Path | None, readers: tuple[Reader, ...] = ()):
        self.folder = folder
        self._checkpoints = Checkpoints(folder / CHECKPOINTS) if folder else None
        self.last: Checkpoint | None = self._checkpoints.newest() if self._checkpoints else None
        self.journal = Journal(folder / JOURNAL if folder else None, readers)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def checkpoint(self, step: int, checkpoint: Checkpoint) -> None:
        """Save a state to resume from and to roll back to."""
        self.last = checkpoint
        if self._checkpoints:
            self._checkpoints.save(step, checkpoint)

    def finish(self, result: Result, document: dict[str, Any]) -> None:
        """Write the model, with a document of plain values beside it, and the summary."""
        reason = result.stop_reason
        if self.folder:
            params, _ = split(result.params)
            checkpoint = Checkpoint(tensors=host_tensors(params), document=document)
            save(self.folder / MODEL, checkpoint, replace=True)
            replace_json(self.folder / RESULT, result.summary())
        self.journal.write(
            "stopped",
            step=result.num_steps,
            reason=str(reason),
            advice=reason.advice,
            spent_seconds=result.spent_seconds,
            twice_as_long=result.twice_as_long,
        )


@contextlib.contextmanager
def open_run(
    request: dict[str, Any],
    *,
    out: str | os.PathLike[str] | None,
    resume: str | os.PathLike[str] | None,
    readers: tuple[Reader, ...] = (),
) -> Iterator[RunFolder]:
    """Open a new run, one to resume, or one in memory; a run that fails at once leaves no folder.

    Raises:
        UsageError: both `out` and `resume` are given.
        DataError: `out` exists, or `resume` is not the folder of a run.
        MismatchError: the run was started with a request that differs in more than limits.
    """
    if out is not None and resume is not None:
        raise UsageError("out and resume exclude each other: a resumed run keeps its folder")
    if out is not None:
        create(Path(out), request)
    elif resume is not None:
        check_request(Path(resume), request)
        replace_json(Path(resume) / REQUEST, signed(request))
    folder = out or resume
    try:
        with RunFolder(Path(folder) if folder else None, readers) as run:
            yield run
    except BaseException:
        if out is not None:
            discard(Path(out))
        raise


def check_request(folder: Path, request: dict[str, Any]) -> None:
    """Raise MismatchError if a resumed run asks for something else than before."""
    before = read_request(folder)
    request = json.loads(json.dumps(request))  # a tuple comes back from a file as a list
    for part in ("data", "params", "metadata"):
        if before.get(part) != request[part]:
            raise MismatchError(
                f"{folder}: the {part} given are not those the run began with; "
                "resume with the same, or start a new run"
            )
    asked, now = before["training"], request["training"]
    # a cosine spans most of the run, so its end is more than a limit
    spans = asked.get("schedule") in ("cosine", "flat_cosine")
    limits = LIMITS - ({"epochs", "steps"} if spans else set())
    for name in sorted(now.keys() - limits):
        if asked.get(name) != now[name]:
            raise MismatchError(
                f"{folder}: {name} was {asked.get(name)!r} when the run began and is now "
                f"{now[name]!r}; resume with the same, or start a new run"
            )


def create(folder: Path, request: dict[str, Any]) -> None:
    """Create the folder of a new run, complete or not at all.

    Raises:
        DataError: it exists.
    """
    check_free(folder)
    with atomic_folder(folder, manifest=False) as scratch:
        write_json(scratch / REQUEST, signed(request))


def check_free(folder: Path) -> None:
    """Check that the folder of a new run does not exist and can be created.

    Raises:
        DataError: it exists, or cannot be created.
    """
    if folder.exists():
        go_on = f", or go on with --resume {folder}" if (folder / REQUEST).is_file() else ""
        raise DataError("already exists", path=folder, remedy=f"choose another --out{go_on}")
    parent = next(p for p in folder.absolute().parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        reason = "not writable" if parent.is_dir() else "not a folder"
        raise DataError(
            f"{reason}, so it cannot take a run", path=parent, remedy="choose another --out"
        )


def discard(folder: Path) -> None:
    """Remove a run that failed before it had anything to resume from."""
    saved = (folder / CHECKPOINTS).is_dir() and any((folder / CHECKPOINTS).iterdir())
    if not saved and not (folder / MODEL).exists():
        shutil.rmtree(folder, ignore_errors=True)


def read_request(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Request that a run was started with.

    Raises:
        DataError: not the folder of a run, or `run.json` is damaged or was edited.
    """
    path = Path(run) / REQUEST
    if not path.is_file():
        raise no_run(path.parent)
    return read_signed(path)


def training_of(run: str | os.PathLike[str]) -> Training:
    """Configuration that a run was started with.

    Raises:
        UsageError: its optimizer was a given object, which has no name.
    """
    asked = read_request(run)["training"]
    names = Training.__dataclass_fields__.keys()
    if asked.get("optimizer") not in (*typing.get_args(OptimizerName), AUTO):
        raise UsageError(
            f"run was trained with an optimizer of its own ({asked.get('optimizer')}); "
            "give training, with that optimizer"
        )
    return Training(**{name: asked[name] for name in names if name in asked})


def training_reached(run: str | os.PathLike[str], training: Training) -> Training:
    """Configuration with "auto" replaced by what a run had chosen by its last checkpoint."""
    last = Checkpoints(Path(run) / CHECKPOINTS).newest()
    chosen = {} if last is None else last.document.get("knobs", {})
    if chosen.get("learning_rate") is not None:  # a given one may have been lowered too
        training = dataclasses.replace(training, learning_rate=chosen["learning_rate"])
    names = ("batch_size", "clip_norm")
    return training.resolved(**{n: chosen[n] for n in names if chosen.get(n) is not None})


def read_metadata(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Plain values kept beside a run's model (`metadata` and `describe` of `fit`).

    Raises:
        DataError: the folder is no run, has no model yet, or is damaged.
    """
    return _model(Path(run)).document


def load_model(run: str | os.PathLike[str], model: Model) -> Model:
    """Model that a run has trained.

    Args:
        run: the run's folder.
        model: a model of the same shape, such as the one that training began with; its
            trained leaves are replaced.

    Raises:
        DataError: the folder is no run, has no model yet, or is damaged.
        MismatchError: the run trained a model of another shape.
    """
    params, fixed = split(model)
    return merge(restore_leaves(params, _model(Path(run)).tensors, str(run)), fixed)


def _model(folder: Path) -> Checkpoint:
    read_request(folder)
    if not (folder / MODEL).is_dir():
        raise DataError("has no model yet", path=folder, remedy=f"go on with --resume {folder}")
    return load(folder / MODEL)
