"""What several tests of the data ask of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from downslope.data.stream import Block
from downslope.tree import arrays


def _counted(block: Block) -> Iterator[tuple[np.ndarray, bool]]:
    """The rows that each window of a block counts (copies), and whether it ends an update."""
    (rows,) = arrays(block.rows)
    windows = block.windows
    for i in range(windows.first, windows.first + windows.count):
        yield rows[windows.lows[i] : windows.highs[i]].copy(), bool(windows.ends[i])


@pytest.fixture(scope="session")
def counted() -> Callable[[Block], Iterator[tuple[np.ndarray, bool]]]:
    return _counted
