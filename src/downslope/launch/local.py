"""Settings of this process before JAX starts, and its termination."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C so that temporary files are removed."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated at a SIGTERM inside the block; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_: int, __: FrameType | None) -> None:
    raise Terminated


def use_compilation_cache(folder: Path) -> None:
    """Keep compiled programs in `folder`, so that the next process need not compile them again.

    For programs that own their process, such as the command line; a library leaves
    JAX's configuration to its caller.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
