"""A beam monitor learns its normal signal, then detects faults as samples arrive."""

from __future__ import annotations

import numpy as np

from downslope.recipes.anomaly import AnomalyDetector
from downslope.recipes.anomaly.simulate import KINDS, beam, plant


def main() -> AnomalyDetector:
    detector = AnomalyDetector(false_alarm_rate=0.01).fit(beam(100_000))
    print(f"period     {detector.period_}")
    print(f"threshold  {detector.threshold_.value:.2f}: {detector.threshold_.rate}")
    for number, kind in enumerate(KINDS, start=1):
        signal = plant(beam(4_000, seed=number), kind, at=2_000)
        detector.reset()
        pieces = [detector.score(piece) for piece in np.array_split(signal, 40)]
        ends = np.concatenate([found.ends[found.alarms] for found in pieces])
        late = ends[ends > 2_000]
        print(
            f"\n{kind}: {'not found' if not len(late) else f'known after {late[0] - 2_000} turns'}"
        )
        for alarm in detector.explain(signal):
            print(f"  {alarm}")
    return detector


if __name__ == "__main__":
    main()
