"""Runs on a table: the request, the table opened again, the trained model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import downslope
from downslope import (
    DataError,
    MismatchError,
    ModelOptions,
    TableOptions,
    Training,
    load_model,
    read_metadata,
    read_request,
)
from downslope.data.stored import StoredTable
from downslope.table.intervals import Intervals
from downslope.table.model import TableModel
from downslope.train.run_folder import LIMITS

PLAIN = (str, int, float, dict, type(None))
REMEDY = "use it in Python, with the code that trained it"


@dataclass(frozen=True, kw_only=True)
class TableRequest:
    """The request of a run on a table.

    Attributes:
        path: the table's file or folder, None for a data frame.
        table, model: the options it began with.
        training: options of training as `run.json` holds them, with what the model's kind chose.
        asked: those that were asked for, but for limits, where they are known.
        fingerprint: of the training rows.
    """

    path: str | None
    table: TableOptions
    model: ModelOptions
    training: dict[str, Any]
    fingerprint: str | None = None
    asked: dict[str, Any] | None = None


class TrainedModel(NamedTuple):
    """A table model with its parameters, and what held-out or training rows calibrated.

    `calibration` maps margins to probabilities; `intervals` are those of numbers. None of others.
    """

    model: TableModel
    params: Any
    calibration: list[list[float]] | None
    intervals: Intervals | None = None


def request_metadata(path: Any, table: TableOptions, training: Training) -> dict[str, Any]:
    """Plain values that a run's folder keeps for `request_of`, beside the model."""
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(table).items()}
    is_path = isinstance(path, (str, os.PathLike))
    place = str(Path(path).resolve()) if is_path else None
    # but for limits, which a resumed run may change; an optimizer that is an object is in no file
    names = vars(training).keys() - LIMITS
    asked = {k: getattr(training, k) for k in sorted(names)}
    asked = {k: v for k, v in asked.items() if isinstance(v, PLAIN)}
    return {"path": place, "table": options, "asked": asked}


def request_of(run: str | os.PathLike[str], *, needs_path: bool = True) -> TableRequest:
    """The request of a run on a table.

    Args:
        run: the run's folder.
        needs_path: refuse a run on a data frame, whose rows are in no file.

    Raises:
        DataError: the folder is no run on a table.
    """
    request = read_request(run)
    metadata = request["metadata"]
    if metadata.get("recipe") != "table":
        raise DataError("was not trained on a table", path=run, remedy=REMEDY)
    if needs_path and metadata["path"] is None:
        remedy = "use it in Python, with the same rows"
        raise DataError("was trained on a data frame", path=run, remedy=remedy)
    return TableRequest(
        path=metadata["path"],
        table=TableOptions(**metadata["table"]),
        model=ModelOptions(**metadata["options"]),
        training=request["training"],
        fingerprint=request["data"],
        asked=metadata.get("asked"),
    )


@contextlib.contextmanager
def opened(path: Any, table: TableOptions, fingerprint: str | None = None) -> Iterator[StoredTable]:
    """A table, converted as for training, for as long as the block runs.

    Args:
        path: the table, or a data frame.
        table: how to read it.
        fingerprint: that of the training rows when a run began.

    Raises:
        MismatchError: the rows are not those of the fingerprint.
    """
    stored = downslope.open(path, table)
    assert isinstance(stored, StoredTable)
    with contextlib.closing(stored):
        if fingerprint not in (None, stored.train.fingerprint):
            raise MismatchError(f"{path} was changed since the run began; put it back")
        yield stored


def trained_model(run: str | os.PathLike[str]) -> TrainedModel:
    """The model that a run on a table has trained.

    Raises:
        DataError: the folder is no run on a table, has no model yet, or is damaged.
    """
    metadata = read_metadata(run)
    if metadata.get("recipe") != "table":
        raise DataError("was not trained on a table", path=run, remedy=REMEDY)
    model = TableModel.from_json(metadata)
    found = metadata.get("intervals")
    intervals = found and Intervals(**{**found, "scores": tuple(found["scores"])})
    params = load_model(run, model.init(0))
    return TrainedModel(model, params, metadata.get("calibration"), intervals)
