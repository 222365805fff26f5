"""Loggers to objects with `log(dict, step=...)`: Weights & Biases, trackio, or your own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from downslope.loggers.logger import Logger, needed


class LogTo(Logger):
    """Log a run to an object with `log(dict, step=...)`, such as the result of `wandb.init()`.

    Its `finish()`, where it has one, is called at the end of the run. Steps only rise: those
    that a resumed run repeats are skipped.

    Args:
        target: has `log`; where it has a number `step`, logging continues from there.
        after_step: last step that the target already holds; None where it holds none.

    Example:
        >>> class Printer:
        ...     def log(self, values, step):
        ...         print(step, values)
        >>> log = LogTo(Printer())
        >>> log({"event": "decided", "step": 4, "knob": "batch_size", "old": 128, "new": 256,
        ...      "because": "noise allows it"})
        4 {'knobs/batch_size': 256.0, 'decisions/batch_size': 'batch_size 128 -> 256: noise ...'}
    """

    def __init__(self, target: Any, *, after_step: int | None = None):
        super().__init__(_Target(lambda: (target, after_step)))


class Wandb(Logger):
    """Log a run to Weights & Biases; `WANDB_MODE=offline` keeps it on this machine.

    For other settings, give `LogTo(wandb.init(...))`.

    Args:
        project: of the run.
        name: of the run; by default wandb's choice.
        id: of a wandb run to continue, for a resumed run; this needs wandb's server.

    Raises:
        UsageError: the package `wandb` is not installed.
    """

    def __init__(self, project: str, *, name: str | None = None, id: str | None = None):
        wandb = needed("wandb", "wandb")
        resume = None if id is None else "allow"

        def begin() -> tuple[Any, int | None]:
            return wandb.init(project=project, name=name, id=id, resume=resume), None

        super().__init__(_Target(begin))


class Trackio(Logger):
    """Log a run to trackio's database on this machine.

    For other settings, give `LogTo(trackio.init(...))`.

    Args:
        project: of the run.
        name: of the run; by default trackio's choice. An existing run is continued.

    Raises:
        UsageError: the package `trackio` is not installed.
    """

    def __init__(self, project: str, *, name: str | None = None):
        trackio = needed("trackio", "trackio")
        storage = needed("trackio.sqlite_storage", "trackio").SQLiteStorage

        def begin() -> tuple[Any, int | None]:
            run = trackio.init(project=project, name=name, resume="allow")
            return run, storage.get_max_step_for_run(project, run.name, run_id=run.id)

        super().__init__(_Target(begin))


class _Target:
    """The sink behind these loggers; steps only rise.

    Args:
        begin: returns the object, and the last step that it already holds or None.
    """

    def __init__(self, begin: Callable[[], tuple[Any, int | None]]):
        self._begin = begin
        self._target: Any = None
        self._step = 0

    def start(self, resumed_step: int | None) -> dict[str, int]:
        self._target, last = self._begin()
        step = getattr(self._target, "step", None)
        self._step = max(step if isinstance(step, int) else 0, 0 if last is None else last + 1)
        return {}

    def go_back(self, step: int) -> bool:
        """Return False: nothing can be taken back."""
        return False

    def write(self, step: int, numbers: dict[str, float], texts: dict[str, str]) -> None:
        if step >= self._step:
            self._step = step
            self._target.log({**numbers, **texts}, step=step)

    def stop(self, reason: str | None) -> None:
        finish = getattr(self._target, "finish", None)
        if finish is not None:
            finish()
        self._target = None
