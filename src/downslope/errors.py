"""The errors of this package as one tree, and the reasons why a run stops.

    DownslopeError            a fault of downslope               exit code 1
    +-- UsageError            arguments that conflict or are outside their range   2
    +-- DataError             input that is missing, corrupt or unusable           3
    +-- CapacityError         memory or disk ran out                               5
    +-- MismatchError         a checkpoint that belongs to another run             6

Bad input raises. A run that ends early for a reason of its own does not raise:
it returns a `StopReason`, with its exit code and advice on what to try next.
"""

from __future__ import annotations

import enum
import os


class DownslopeError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class UsageError(DownslopeError, ValueError):
    """An argument outside its range, or arguments that contradict each other."""

    exit_code = 2


class DataError(DownslopeError, ValueError):
    """Unusable input, with the place, the rule and the remedy in one line.

    Args:
        rule: what is wrong, as a clause ("infinite value").
        path: the file or folder at fault.
        column: the column at fault.
        row: the row at fault, counted from 1 (the first row of data is row 1).
        remedy: what the user can do about it.
    """

    exit_code = 3

    def __init__(
        self,
        rule: str,
        *,
        path: str | os.PathLike[str] | None = None,
        column: str | None = None,
        row: int | None = None,
        remedy: str | None = None,
    ):
        place = [str(path)] if path is not None else []
        if column is not None:
            place.append(f"column {column!r}")
        if row is not None:
            place.append(f"row {row:,}")
        text = f"{', '.join(place)}: {rule}" if place else rule
        super().__init__(f"{text}; {remedy}" if remedy else text)
        self.path, self.column, self.row = path, column, row
        self.rule, self.remedy = rule, remedy


class CapacityError(DownslopeError):
    """Memory or disk ran out; no partial file was left behind."""

    exit_code = 5


class MismatchError(DownslopeError, ValueError):
    """A checkpoint, run or table that does not belong to the others."""

    exit_code = 6


class StopReason(enum.Enum):
    """The reason why a run ended. `str()` gives the word, `.advice` what to try next."""

    FINISHED = "finished"
    TIME_UP = "time up"
    CONVERGED = "converged"
    TARGET_REACHED = "target reached"
    SOLVED = "solved"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"

    def __str__(self) -> str:
        return self.value

    @property
    def exit_code(self) -> int:
        """Exit code of the command line; an interruption by SIGTERM turns 130 into 143."""
        return {StopReason.DIVERGED: 4, StopReason.INTERRUPTED: 130}.get(self, 0)

    @property
    def advice(self) -> str:
        """One sentence on what to do next."""
        return _ADVICE[self]


_ADVICE = {
    StopReason.FINISHED: "all epochs or steps are done; ask for more to train longer",
    StopReason.TIME_UP: "the time budget was used; resume with more time to go on",
    StopReason.CONVERGED: "the held-out loss no longer improves; the best parameters were kept",
    StopReason.TARGET_REACHED: "resume with another target to go on",
    StopReason.SOLVED: (
        "the loss is an exact convex quadratic and its minimum was computed; more training "
        "would gain nothing"
    ),
    StopReason.DIVERGED: (
        "rolled back to the last good state; try a learning rate 10 times smaller, or clipping"
    ),
    StopReason.INTERRUPTED: "the state was saved; resume to go on from here",
}
