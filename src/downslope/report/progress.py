"""Progress in one line: live on a terminal, every ten seconds elsewhere."""

from __future__ import annotations

import time
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from downslope.report.reading import estimate, scale_name
from downslope.report.words import brief, time_shares

PLAIN_SECONDS = 10.0  # between lines where there is no terminal


class Progress:
    """A reader of the journal that shows the latest numbers; a context manager.

    Args:
        stream: to write to; the commands use standard error, so that results can be piped.
        explain: print every decision and its reason, and at the end where the time went and what a
            run twice as long would have given.
    """

    def __init__(self, stream: TextIO, *, explain: bool = False):
        self._explain = explain
        self._console = Console(file=stream, highlight=False)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True)
            if self._console.is_terminal
            else None
        )
        self._held_out = self._noise = ""
        self._shown_at = time.monotonic()

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Print one sentence above the line."""
        self._console.print(Text(sentence), soft_wrap=True)

    def __call__(self, record: dict[str, Any]) -> None:
        """Show a journal record."""
        event = record["event"]
        if event in ("started", "resumed"):
            if event == "resumed":
                self.say(f"resumed at step {record['step']:,}")
            self.say(record["shuffling"])
        elif event == "evaluated":
            self._held_out = held_out_text(record["metrics"])
        elif event == "diverged":
            self.say(f"diverged at step {record['bad_step']:,}; back to step {record['step']:,}")
        elif event == "solved":
            self.say(record["statement"])
        elif event == "decided" and (self._explain or record["policy"] == "after_trouble"):
            self.say(decision_text(record))
        elif event == "stopped" and self._explain:
            shares = time_shares(record.get("spent_seconds"))
            if shares:
                self.say(f"time: {shares}")
            if longer := record.get("twice_as_long"):
                self.say(f"held-out loss of a run twice as long: {estimate(longer)}")
        elif event == "measured":
            self._noise = noise_text(record)
        elif event == "progress":
            self._show(progress_text(record) + self._held_out + self._noise)

    def _show(self, line: str) -> None:
        if self._live:
            self._live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
        elif time.monotonic() - self._shown_at >= PLAIN_SECONDS:
            self._shown_at = time.monotonic()
            self.say(line)


def progress_text(record: dict[str, Any]) -> str:
    """The line for a progress record.

    Example:
        >>> progress_text({"epoch": 2, "step": 1500, "loss": 0.25, "fraction": 0.5, "seconds": 8.0,
        ...                "examples_per_second": 2.5e6, "waiting_share": 0.031})
        'epoch 2, step 1,500, loss 0.25, 2.5M examples/s, 3 % waiting for data, up to 8 s left'
    """
    loss = "not finite" if record["loss"] is None else f"{record['loss']:.4g}"
    parts = [
        f"epoch {record['epoch']}",
        f"step {record['step']:,}",
        f"loss {loss}",
        f"{brief(record['examples_per_second'])} examples/s",
        f"{record['waiting_share']:.0%} waiting for data".replace("%", " %"),
    ]
    fraction = record["fraction"]
    if fraction:
        left = record["seconds"] * (1 - min(1.0, fraction)) / fraction
        parts.append(f"up to {duration(left)} left")
    return ", ".join(parts)


def decision_text(record: dict[str, Any]) -> str:
    """The line for a decision.

    Example:
        >>> decision_text({"step": 40, "knob": "learning_rate", "old": 0.01, "new": 0.0316228,
        ...                "because": "the loss fell most"})
        'step 40: learning_rate 0.01 -> 0.0316 since the loss fell most'
    """
    old, new = (
        f"{v:.3g}" if isinstance(v, float) else str(v) for v in (record["old"], record["new"])
    )
    change = new if record["old"] is None else f"{old} -> {new}"
    return f"step {record['step']:,}: {record['knob']} {change} since {record['because']}"


def held_out_text(metrics: dict[str, Any]) -> str:
    """The end of the line: one held-out metric, the most telling one."""
    for name in ("accuracy", "rmse", "quantile_loss", "loss"):
        if name in metrics:
            return f"; held out: {name} {metrics[name]['value']:.4g}"
    return ""


def noise_text(record: dict[str, Any]) -> str:
    """The part of the line on a record of measurements: the noise scale or its lower bound.

    Example:
        >>> noise_text({"noise_scale": {"value": 44.9, "lo": 38.2, "hi": 52.9}})
        '; noise scale 44.9 (38.2 to 52.9)'
        >>> noise_text({"noise_scale": {"lo": 310.0, "reason": "signal lost in noise"}})
        '; noise scale at least 310'
    """
    name = scale_name(record)
    found, words = estimate(record[name], unit=""), name.replace("_", " ")
    if found.is_measured:
        return f"; {words} {found}"
    return f"; {words} at least {brief(found.lo)}" if found.lo else ""


def duration(seconds: float) -> str:
    """A time in hours, minutes and seconds.

    Example:
        >>> duration(4.2), duration(200), duration(8000)
        ('4 s', '3 min 20 s', '2 h 13 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
