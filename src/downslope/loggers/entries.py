"""A journal record as numbers and sentences by name."""

from __future__ import annotations

import math
from typing import Any

Record = dict[str, Any]

PROGRESS_NAMES = {
    "loss": "train/loss",
    "epoch": "train/epoch",
    "learning_rate": "knobs/learning_rate",
    "batch_size": "knobs/batch_size",
    "examples_per_second": "speed/examples_per_second",
    "waiting_share": "speed/waiting_share",
}


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
    found: dict[str, Any] = {}
    match record["event"]:
        case "progress":
            found = {name: record.get(key) for key, name in PROGRESS_NAMES.items()}
        case "evaluated":
            found = _estimates("held_out", record["metrics"])
        case "measured":
            found = _estimates("noise", record)
        case "decided":
            found = {f"knobs/{record['knob']}": record["new"]}
        case "solved" if record.get("is_solved"):
            found = {"train/loss": record.get("loss")}
    return {name: float(value) for name, value in found.items() if _is_finite(value)}


def sentences(record: Record) -> dict[str, str]:
    """The sentences of a record by name: decisions with their reason, trouble, the end.

    Example:
        >>> sentences({"event": "decided", "step": 40, "knob": "learning_rate", "old": 0.01,
        ...            "new": 0.0316228, "because": "the loss fell most"})
        {'decisions/learning_rate': 'learning_rate 0.01 -> 0.03162: the loss fell most'}
    """
    match record["event"]:
        case "decided":
            knob, old, new = record["knob"], _shown(record["old"]), _shown(record["new"])
            return {f"decisions/{knob}": f"{knob} {old} -> {new}: {record['because']}"}
        case "undone":
            what = record.get("what", "a step failed")
            return {"trouble": f"{what}; back to step {record['step']:,}"}
        case "diverged":
            bad_step = record.get("bad_step")
            at = "" if bad_step is None else f" at step {bad_step:,}"
            return {"trouble": f"diverged{at}; back to step {record['step']:,}"}
        case "solved" if record.get("statement"):
            return {"solved": record["statement"]}
        case "stopped":
            return {"stopped": f"{record['reason']}: {record['advice']}"}
    return {}


def _estimates(group: str, found: dict[str, Any]) -> dict[str, Any]:
    """The value and the ends of each estimate; a bound without a value included."""
    return {
        f"{group}/{name}{end}": estimate.get(key)
        for name, estimate in found.items()
        if isinstance(estimate, dict)
        for key, end in (("value", ""), ("lo", "_lo"), ("hi", "_hi"))
    }


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
