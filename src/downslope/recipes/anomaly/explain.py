"""Why a window is an alarm: which samples, and which frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.recipes.anomaly.scoring import PARTS, Scorer
from downslope.recipes.anomaly.stream import Scores

SHARE = 0.5  # of a window's squared residuals that the named samples hold. Assumed


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Windows in a row that are alarms, as one event.

    Attributes:
        start, end: first sample of the first window, and the sample after the last one's last.
        known: samples that had come when the first window was complete.
        score: the largest.
        because: the part of the score that was largest: "error" or "peak" of what the autoencoder
            could not rebuild, "spectrum" or "line" of the power by frequency, "missing" samples.
        samples: the fewest samples of the worst window that hold half of the squared residuals.
        frequency: centre of the frequency that lies furthest from the normal, in units of
            `sampling_rate` (cycles per sample by default); None where samples are missing.
        resolution: half the distance to the next frequency, in the same unit.
        power: power at that frequency over the normal one; 1 is normal.
    """

    start: int
    end: int
    known: int
    score: float
    because: str
    samples: tuple[int, ...]
    frequency: float | None
    resolution: float
    power: float | None

    def __str__(self) -> str:
        where = f"samples {self.start:,} to {self.end - 1:,}"
        if self.frequency is None:
            return f"{where}: {len(self.samples)} samples are no finite numbers"
        first = f"most around {self.samples[len(self.samples) // 2]:,}"
        return (
            f"{where}: {self.because} {self.score:.3g}, {first}; "
            f"frequency {self.frequency:.4g} ± {self.resolution:.2g} has {self.power:.3g} "
            "times its normal power"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values; an infinite score is null."""
        score = self.score if np.isfinite(self.score) else None
        return {**vars(self), "score": score, "samples": list(self.samples)}


def explain(
    scorer: Scorer, scores: Scores, windows: np.ndarray, *, sampling_rate: float
) -> list[Alarm]:
    """The alarms among scored windows, each run of overlapping ones as one event.

    Args:
        scorer: that gave the scores.
        scores: of the windows.
        windows: [k, L].
        sampling_rate: samples in a unit of time.
    """
    found = np.flatnonzero(scores.alarms)
    gaps = scores.starts[found[1:]] >= scores.ends[found[:-1]]
    events = np.split(found, np.flatnonzero(gaps) + 1) if len(found) else []
    return [_event(scorer, scores, windows, event, sampling_rate) for event in events]


def _event(
    scorer: Scorer, scores: Scores, windows: np.ndarray, event: np.ndarray, sampling_rate: float
) -> Alarm:
    worst = event[scores.scores[event].argmax()]
    window, length = windows[worst : worst + 1], windows.shape[1]
    first, known = int(scores.starts[event[0]]), int(scores.ends[event[0]])
    broken = ~np.isfinite(window[0])
    because, frequency, power = "missing", None, None
    if broken.any():
        places = np.flatnonzero(broken)
    else:
        because = PARTS[scorer.parts(window)[0].argmax()]
        places = _holding(scorer.residuals(window)[0] ** 2)
        away = scorer.deviations(window)[0, : scorer.spectrum.num_frequencies]
        number = int(np.abs(away).argmax())
        frequency = number / length * sampling_rate
        level = scorer.spectrum.mean[number]
        seen = max(0.0, level + away[number] * scorer.spectrum.spread[number])
        power = float((seen / level) ** 3)
    return Alarm(
        start=first,
        end=int(scores.ends[event[-1]]),
        known=known,
        score=float(scores.scores[worst]),
        because=because,
        samples=tuple(int(place + scores.starts[worst]) for place in np.sort(places)),
        frequency=frequency,
        resolution=0.5 / length * sampling_rate,
        power=power,
    )


def _holding(squares: np.ndarray) -> np.ndarray:
    """The fewest places that hold a share of the sum."""
    order = np.argsort(squares)[::-1]
    held = np.cumsum(squares[order])
    return order[: 1 + int(np.searchsorted(held, SHARE * held[-1]))]
