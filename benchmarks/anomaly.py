"""The anomaly detector beside PyOD on the same windows: average precision, time, detections.

python -m benchmarks.anomaly            # needs pyod, torch and heartpy
python -m benchmarks.anomaly --quick    # a shorter beam, peers with their defaults only
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from downslope.recipes.anomaly import AnomalyDetector, Scores, simulate, threshold, windows

# Peers: their defaults, then settings tried by hand on the beam (more trees on larger samples; no
# dropout, a narrow middle, larger batches and twice the passes).
FOREST = {"defaults": {}, "tuned": {"n_estimators": 300, "max_samples": 2048}}
NET = {
    "defaults": {"hidden_neuron_list": [64, 32]},
    "tuned": {
        "hidden_neuron_list": [32, 8],
        "dropout_rate": 0.0,
        "epoch_num": 20,
        "batch_size": 128,
    },
}
ROOM = 3000  # samples around an anomaly planted in the beam


def beam(turns: int) -> tuple[list[np.ndarray], np.ndarray, float]:
    """Normal signal, another recording to plant anomalies in, and samples a period."""
    return [simulate.beam(turns)], simulate.beam(turns, seed=1), 1 / 0.31


def pulse() -> tuple[list[np.ndarray], np.ndarray, float]:
    """A finger's pulse over 11 minutes, recorded: the first 60 % are taken as normal."""
    import heartpy

    x = np.asarray(heartpy.load_exampledata(2)[0], float)
    cut = int(0.6 * len(x))
    return [x[:cut]], x[cut:], 60.0


def lengths(period: float) -> dict[str, int]:
    """Samples that anomalies last: those of the simulator, or as many periods for slow signals."""
    if period < 16:
        return simulate.LASTING
    lasts = {"dropout": 1, "drift": 5, "phase_jump": 3, "amplitude_loss": 3, "noise_burst": 1}
    return {"spike": 1} | {kind: round(count * period) for kind, count in lasts.items()}


def planted(signal: np.ndarray, kind: str, period: float) -> tuple[np.ndarray, np.ndarray]:
    """The signal with anomalies of a kind far apart, and their places [k, 2]."""
    length, x, places = lengths(period)[kind], signal.copy(), []
    room = ROOM if period < 16 else round(20 * period)
    strength = 5.0 if kind == "spike" and period >= 16 else None
    for number, at in enumerate(range(room, len(x) - room - length, room)):
        near = slice(at - room // 2, at + length + room // 2)
        x[near] = simulate.plant(
            signal[near],
            kind,
            at=room // 2,
            length=length,
            strength=strength,
            period=period,
            seed=number,
        )
        places.append((at, at + length))
    return x, np.array(places)


def touches(scores: Scores, places: np.ndarray) -> np.ndarray:
    """Which windows [k] share a sample with an anomaly, as its number or -1."""
    number = np.searchsorted(places[:, 1], scores.starts, side="right")
    number = np.minimum(number, len(places) - 1)
    inside = (scores.ends > places[number, 0]) & (scores.starts < places[number, 1])
    return np.where(inside, number, -1)


def delays(scores: Scores, places: np.ndarray) -> np.ndarray:
    """Samples from the beginning of each found anomaly to the end of its first alarm."""
    hit = touches(scores, places)
    found = []
    for number, (begin, _) in enumerate(places):
        ends = scores.ends[(hit == number) & scores.alarms]
        found += [ends[0] - begin] if len(ends) else []
    return np.array(found)


def peers(quick: bool, rows: int) -> dict[str, Callable[[], Any]]:
    import torch
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.iforest import IForest

    torch.set_num_threads(1)  # more made it 14 times slower on two shared cores

    def net(how: Any) -> Callable[[], Any]:
        return lambda: AutoEncoder(**how, random_state=0, verbose=0)

    def forest(how: Any) -> Callable[[], Any]:
        return lambda: IForest(**how, random_state=0)

    # on few windows 20 passes are 80 updates: as many passes as make 2,000 of them
    NET["tuned"]["epoch_num"] = max(20, 256_000 // rows)
    kept = ["defaults"] if quick else ["defaults", "tuned"]
    nets = {f"PyOD AutoEncoder, {name}": net(NET[name]) for name in kept}
    return nets | {f"PyOD IForest, {name}": forest(FOREST[name]) for name in kept}


def timed(work: Callable[[], Any]) -> tuple[Any, str]:
    """What the work gives, and its seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return found, f"{clock:.1f} ({processor:.1f})"


def compare(name: str, data: Any, quick: bool) -> None:
    """Prints both tables for one signal."""
    from sklearn.metrics import average_precision_score

    normal, test, period = data
    seconds = {}
    detector, seconds["downslope, first fit"] = timed(lambda: AnomalyDetector().fit(normal))
    detector, seconds["downslope, next fit"] = timed(
        lambda: AnomalyDetector(random_state=1).fit(normal)
    )
    print(
        f"\n## {name}\n\n{len(normal[0]):,} normal samples; threshold: {detector.threshold_.rate}"
    )

    clean = detector.windows(test)
    low, high = threshold.clopper_pearson(
        clean.alarms.sum() / detector.layout_.overlap, len(clean.starts) / detector.layout_.overlap
    )
    print(f"alarms in {len(clean.starts):,} other normal windows: {clean.alarms.mean():.2g} "
          f"({low:.2g} to {high:.2g})\n")  # fmt: skip
    print("| anomaly | found | median delay, samples | in periods |\n|---|---|---|---|")
    mixed, labels, ours = [], [], []
    for kind in simulate.KINDS:
        signal, places = planted(test, kind, period)
        scores = detector.windows(signal)
        late = delays(scores, places)
        low, high = threshold.clopper_pearson(len(late), len(places))
        middle = f"{np.median(late):.0f} | {np.median(late) / period:.1f}" if len(late) else "- | -"
        share = f"{len(late) / len(places):.2f} ({low:.2f} to {high:.2f})"
        print(f"| {kind} | {share} | {middle} |")
        mixed.append(windows.cut(signal, scores.starts, detector.layout_.length))
        labels.append(touches(scores, places) >= 0)
        ours.append(scores.scores)
    rows = np.concatenate(mixed)
    starts = detector.layout_.swept(len(normal[0]))
    train = windows.cut(normal[0], starts, detector.layout_.length)
    train = train[: round(0.7 * len(train))]  # what ours trains on and stops by
    truth, found = np.concatenate(labels), {"downslope": np.concatenate(ours)}
    for peer, make in peers(quick, len(train)).items():
        make().fit(train[:256])  # torch and numba start up once, which is not the fit's time
        model = make()
        _, seconds[peer] = timed(lambda model=model: model.fit(train))
        found[peer] = model.decision_function(rows)
    print(
        "\n| detector | average precision | by kind | fit, s (of the processor) |\n"
        "|---|---|---|---|"
    )
    for peer, values in found.items():
        kinds = [
            f"{average_precision_score(truth[part], values[part]):.2f}"
            for part in np.array_split(np.arange(len(truth)), len(simulate.KINDS))
        ]
        took = [v for k, v in seconds.items() if k.startswith(peer)]
        score = average_precision_score(truth, values)
        print(f"| {peer} | {score:.3f} | {' '.join(kinds)} | {', then '.join(took)} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")  # of the peers
    print(f"kinds, in order: {' '.join(simulate.KINDS)}")
    compare("beam, simulated", beam(60_000 if quick else 300_000), quick)
    compare("pulse, recorded", pulse(), quick)


if __name__ == "__main__":
    main()
