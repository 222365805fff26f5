"""Division of blocks into calls to the device: long enough to be efficient, short to wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from downslope.data.stream import Block, Position
from downslope.data.windows import Windows

MIN_CALL_SECONDS, MAX_CALL_SECONDS = 0.1, 0.4  # a Ctrl-C or a time budget takes effect within this
FIRST_CALL_WINDOWS = 1  # before any call was timed: an update may take seconds


class CallLength:
    """Windows per call: doubled or more while calls are short, halved when one takes too long."""

    def __init__(self):
        self.windows = FIRST_CALL_WINDOWS

    def saw(self, windows: int, seconds: float) -> None:
        """Adjust the length after a call of this many windows."""
        if seconds > MAX_CALL_SECONDS:
            self.windows = max(1, windows // 2)
        elif windows >= self.windows and seconds < MIN_CALL_SECONDS:
            self.windows *= 8 if seconds < MIN_CALL_SECONDS / 16 else 2


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call to the device, for some of a block's windows."""

    block: Block
    windows: Windows
    num_steps: int  # updates that the windows complete
    num_examples: int  # rows that they count
    position: Position  # in the data, after the call
    ends_block: bool  # these are the block's last windows

    @property
    def ends_epoch(self) -> bool:
        """True if the windows include the epoch's last row."""
        return self.position.epoch > self.block.epoch


def calls(
    blocks: Iterable[Block],
    length: CallLength,
    num_steps: int | None,
    next_mark: Callable[[int], int | None] = lambda made: None,
) -> Iterator[Call]:
    """Divide blocks into calls.

    Args:
        num_steps: updates after which to end, None for all rows.
        next_mark: `next_mark(made)` gives the updates from here to one that must be the last of
            a call, None if there is none; `made` were in the calls before.
    """
    left, made = num_steps, 0
    for block in blocks:
        at, stop = block.windows.first, block.windows.first + block.windows.count
        while at < stop:
            if left == 0:
                return
            end = min(stop, at + length.windows)
            ends = np.flatnonzero(block.windows.ends[at:end])
            most = min((n for n in (left, next_mark(made)) if n is not None), default=None)
            if most is not None and len(ends) >= most:  # the last update: no part of the next one
                end, ends = at + int(ends[most - 1]) + 1, ends[:most]
            yield Call(
                block=block,
                windows=block.windows._replace(first=at, count=end - at),
                num_steps=len(ends),
                num_examples=int(block.windows.sizes[at:end].sum()),
                position=block.position_after(end),
                ends_block=end == stop,
            )
            left, made = None if left is None else left - len(ends), made + len(ends)
            at = end
