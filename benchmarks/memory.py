"""Anonymous memory of a process: its memory beyond files that the kernel can drop."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

WAIT_SECONDS = 0.02


def peak_bytes(part: str, table: Path) -> int:
    """Largest anonymous memory of a process that converts a table, or trains on it."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.child", part, str(table)])
    peak = 0
    try:
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(WAIT_SECONDS)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"{part} ended with exit code {process.returncode}")
    return peak


def _anonymous(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = [line for line in file if line.startswith("RssAnon")]
    except OSError:  # it has just ended
        return 0
    return 1024 * int(lines[0].split()[1]) if lines else 0
