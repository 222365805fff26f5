"""What a journal's record says as numbers by name, and as sentences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]

_TRAIN = {"loss": "train/loss", "learning_rate": "knobs/learning_rate",
          "batch_size": "knobs/batch_size", "epoch": "train/epoch",
          "examples_per_second": "speed/examples_per_second",
          "waiting_share": "speed/waiting_share"}  # fmt: skip


def scalars(record: Record) -> dict[str, float]:
    """The finite numbers of a record by name; an interval's ends are `_lo` and `_hi`.

    `train/loss`, `held_out/<metric>`, `noise/<measurement>`, `knobs/<knob>`, `speed/<what>`.

    Args:
        record: of a journal, as a reader gets it.

    Example:
        >>> scalars({"event": "evaluated", "step": 40, "metrics": {
        ...     "accuracy": {"value": 0.97, "lo": 0.95, "hi": 0.98, "unit": "share"}}})
        {'held_out/accuracy': 0.97, 'held_out/accuracy_lo': 0.95, 'held_out/accuracy_hi': 0.98}
        >>> scalars({"event": "decided", "step": 40, "knob": "learning_rate", "new": 0.03})
        {'knobs/learning_rate': 0.03}
    """
    found = _NUMBERS.get(record["event"], lambda _: {})(record)
    return {name: float(value) for name, value in found.items() if _is_number(value)}


def sentences(record: Record) -> dict[str, str]:
    """The sentences of a record by name: decisions with their reason, what went wrong, the end.

    Example:
        >>> sentences({"event": "decided", "step": 40, "knob": "learning_rate", "old": 0.01,
        ...            "new": 0.0316228, "because": "the loss fell most"})
        {'decisions/learning_rate': 'learning_rate 0.01 -> 0.03162: the loss fell most'}
    """
    event = record["event"]
    if event == "decided":
        change = f"{_shown(record['old'])} -> {_shown(record['new'])}"
        knob = record["knob"]
        return {f"decisions/{knob}": f"{knob} {change}: {record['because']}"}
    if event == "undone":
        step = f"{record['step']:,}"
        return {"trouble": f"{record.get('what', 'a step went wrong')}; back to step {step}"}
    if event == "diverged":
        bad_step, step = record.get("bad_step"), f"{record['step']:,}"
        at = f" at step {bad_step:,}" if bad_step is not None else ""
        return {"trouble": f"diverged{at}; back to step {step}"}
    if event == "solved" and record.get("statement"):
        return {"solved": record["statement"]}
    if event == "stopped":
        return {"stopped": f"{record['reason']}: {record['advice']}"}
    return {}


def _progress(record: Record) -> dict[str, Any]:
    return {name: record.get(key) for key, name in _TRAIN.items()}


def _evaluated(record: Record) -> dict[str, Any]:
    return _estimates("held_out", record["metrics"])


def _measured(record: Record) -> dict[str, Any]:
    return _estimates("noise", record)


def _decided(record: Record) -> dict[str, Any]:
    return {f"knobs/{record['knob']}": record["new"]}


def _solved(record: Record) -> dict[str, Any]:
    return {"train/loss": record.get("loss")} if record.get("is_solved") else {}


_NUMBERS: dict[str, Callable[[Record], dict[str, Any]]] = {
    "progress": _progress,
    "evaluated": _evaluated,
    "measured": _measured,
    "decided": _decided,
    "solved": _solved,
}


def _estimates(group: str, found: dict[str, Any]) -> dict[str, Any]:
    """Of each estimate its value and the ends of its interval; one bound may stand alone."""
    return {
        f"{group}/{name}{end}": estimate.get(key)
        for name, estimate in found.items()
        if isinstance(estimate, dict)
        for key, end in (("value", ""), ("lo", "_lo"), ("hi", "_hi"))
    }


def _is_number(value: Any) -> bool:
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and math.isfinite(value)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
