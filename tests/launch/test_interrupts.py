"""Tests of `downslope.launch.interrupts`: a signal is a request, a second one ends at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from downslope.launch.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_raises_nothing(number):
    """Catches a KeyboardInterrupt in the middle of a step, and SIGTERM left to kill."""
    with Interrupts() as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert interrupts.received == number


def test_a_second_signal_falls_through():
    """Catches a run that cannot be left by pressing Ctrl-C again."""
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_the_handlers_of_before_are_put_back():
    """Catches handlers that stay after the run, also after a signal and after an error."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
    mine = signal.getsignal(signal.SIGTERM)
    default = signal.getsignal(signal.SIGINT)
    try:
        for fault in (None, "signal", "error"):
            try:
                with Interrupts():
                    assert signal.getsignal(signal.SIGTERM) is not mine
                    if fault == "signal":
                        os.kill(os.getpid(), signal.SIGTERM)
                    if fault == "error":
                        raise ValueError
            except ValueError:
                pass
            assert signal.getsignal(signal.SIGTERM) is mine
            assert signal.getsignal(signal.SIGINT) is default
        assert not seen
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == ["mine"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_may_train():
    """Catches the ValueError that Python raises for signal handlers outside the main thread."""
    found = []

    def train():
        with Interrupts() as interrupts:
            found.append(interrupts.received)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert found == [None]


def test_a_second_sigterm_ends_the_process():
    """Catches a process that only SIGKILL can end."""
    script = (
        "import os, signal\n"
        "from downslope.launch.interrupts import Interrupts\n"
        "with Interrupts() as i:\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print(i.received, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == f"{int(signal.SIGTERM)}\n"
    assert done.returncode == -signal.SIGTERM


def test_what_is_ignored_stays_ignored():
    """Catches a job in the background that Ctrl-C on another one ends."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
