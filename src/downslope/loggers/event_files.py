"""TensorBoard's event files, by its own writer; needs neither TensorFlow nor PyTorch."""

from __future__ import annotations

import os
import time
from typing import Any

from downslope.loggers.logger import Logger, needed

FLUSH_SECONDS = 5  # between writes to the file, so that a run can be watched; assumed
MAX_QUEUE = 100  # events, before training waits for the disk
_PROTO = "tensorboard.compat.proto"


class TensorBoard(Logger):
    """Log a run to a folder for `tensorboard --logdir`.

    Numbers are scalars, decisions and the end of the run are texts. A resumed run may continue
    in the same folder: TensorBoard then drops the steps that are repeated.

    Args:
        folder: created at the first record; give each run its own, side by side in one folder,
            to compare them.

    Raises:
        UsageError: the package `tensorboard` is not installed.

    Example:
        >>> import tempfile
        >>> with TensorBoard(tempfile.mkdtemp()) as log:
        ...     log({"event": "progress", "step": 10, "loss": 0.5})
        ...     log({"event": "stopped", "step": 10, "reason": "finished", "advice": "go on"})
    """

    def __init__(self, folder: str | os.PathLike[str]):
        super().__init__(_EventFiles(folder))


class _EventFiles:
    """The sink behind `TensorBoard`."""

    def __init__(self, folder: str | os.PathLike[str]):
        self._folder = os.fspath(folder)
        self._writers = needed("tensorboard.summary.writer.event_file_writer", "tensorboard")
        self._events = needed(f"{_PROTO}.event_pb2", "tensorboard")
        self._summaries = needed(f"{_PROTO}.summary_pb2", "tensorboard")
        self._tensors = needed(f"{_PROTO}.tensor_pb2", "tensorboard")
        self._types = needed(f"{_PROTO}.types_pb2", "tensorboard")
        self._writer: Any = None

    def start(self, resumed_step: int | None) -> dict[str, int]:
        self._writer = self._writers.EventFileWriter(self._folder, MAX_QUEUE, FLUSH_SECONDS)
        if resumed_step is not None:
            self.go_back(resumed_step)
        return {}

    def go_back(self, step: int) -> bool:
        """Mark the start of a session after this step: TensorBoard drops later steps."""
        log = self._events.SessionLog(status=self._events.SessionLog.START)
        self._add(step + 1, session_log=log)
        return True

    def write(self, step: int, numbers: dict[str, float], texts: dict[str, str]) -> None:
        value = self._summaries.Summary.Value
        values = [value(tag=name, simple_value=number) for name, number in numbers.items()]
        values += [self._text(name, text) for name, text in texts.items()]
        self._add(step, summary=self._summaries.Summary(value=values))

    def _text(self, name: str, text: str) -> Any:
        summary = self._summaries
        plugin = summary.SummaryMetadata.PluginData(plugin_name="text")
        tensor = self._tensors.TensorProto(
            dtype=self._types.DT_STRING,
            string_val=[text.encode()],
            tensor_shape={"dim": [{"size": 1}]},
        )
        metadata = summary.SummaryMetadata(plugin_data=plugin)
        return summary.Summary.Value(tag=name, metadata=metadata, tensor=tensor)

    def _add(self, step: int, **what: Any) -> None:
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=step, **what))

    def stop(self, reason: str | None) -> None:
        self._writer.close()
        self._writer = None
