"""The anomaly detector and PyOD on the same windows: detections, average precision, time.

python -m benchmarks.anomaly                    # needs pyod, torch and heartpy
python -m benchmarks.anomaly --ecg FOLDER       # electrocardiograms too, see anomaly_signals.py
python -m benchmarks.anomaly --quick            # a shorter beam, two seeds
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks.anomaly_signals import SLOW, STRONG, Task, beam, heart, labelled, planted, pulse
from downslope.recipes.anomaly import AnomalyDetector, Scores, simulate
from downslope.recipes.anomaly.learning import split
from downslope.recipes.anomaly.threshold import clopper_pearson
from downslope.recipes.anomaly.windows import cut

# Peers: their defaults, then settings tried by hand on the beam (more trees on larger samples; no
# dropout, a narrow middle, larger batches and twice the passes). Forests use both processors;
# torch one, since two made it 14 times slower on two shared ones.
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
COLD = """
import numpy, time
rows = numpy.load({path!r})
begun = time.perf_counter()
{work}
print(time.perf_counter() - begun)
"""
OURS = (
    "from downslope.recipes.anomaly import AnomalyDetector; "
    "AnomalyDetector(period={period}).fit(rows)"
)
FORESTS = "from pyod.models.iforest import IForest; IForest(n_jobs=2).fit(rows)"
NETS = (
    "from pyod.models.auto_encoder import AutoEncoder; import torch; torch.set_num_threads(1); "
    "AutoEncoder(verbose=0).fit(rows)"
)


def touches(scores: Scores, places: np.ndarray) -> np.ndarray:
    """For each window [k] the number of an anomaly that it shares a sample with, or -1."""
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


def detector_of(task: Task, seed: int, rate: float = 1e-3) -> AnomalyDetector:
    period = task.period if task.given else None
    return AnomalyDetector(
        period=period, held_out=task.held_out, random_state=seed, false_alarm_rate=rate
    )


def peers(rows: int, seed: int) -> dict[str, Callable[[], Any]]:
    import torch
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.iforest import IForest

    torch.set_num_threads(1)

    def net(how: Any) -> Callable[[], Any]:
        return lambda: AutoEncoder(**how, random_state=seed, verbose=0)

    def forest(how: Any) -> Callable[[], Any]:
        return lambda: IForest(**how, random_state=seed, n_jobs=2)

    # on few windows 20 passes are 80 updates: as many passes as make 2,000 of them
    tuned = NET["tuned"] | {"epoch_num": max(20, 256_000 // rows)}
    nets = {name: net(how) for name, how in (NET | {"tuned": tuned}).items()}
    made = {f"PyOD AutoEncoder, {name}": make for name, make in nets.items()}
    return made | {f"PyOD IForest, {name}": forest(how) for name, how in FOREST.items()}


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result of the work, with its wall and processor seconds."""
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - clock, time.process_time() - processor


def share(count: float, whole: float) -> str:
    low, high = clopper_pearson(count, whole)
    return f"{count / whole:.2g} ({low:.2g} to {high:.2g})"


def detections(task: Task) -> None:
    """Print which share of the faults is found, and when."""
    detector = detector_of(task, 0).fit(task.normal)
    layout, threshold = detector.layout_, detector.threshold_
    print(f"\n## {task.name}\n\n{sum(map(len, task.normal)):,} normal samples; windows of "
          f"{layout.length}; threshold {threshold.value:.3g}: {threshold.rate}")  # fmt: skip
    clean = detector.windows(task.test)
    alarms, count = clean.alarms.sum() / layout.overlap, len(clean.starts) / layout.overlap
    print(f"bend: {detector.gain_}\nalarms in {len(clean.starts):,} other normal windows: "
          f"{share(alarms, count)}\n")  # fmt: skip
    often = detector_of(task, 0, rate=0.01).fit(task.normal)
    print("| anomaly | found | median delay, samples | at 1 % | stronger | delay | at 1 % |\n"
          "|---|---|---|---|---|---|---|")  # fmt: skip
    for kind in simulate.KINDS:
        cells = []
        for strengths in (SLOW if task.period >= 16 else {}, STRONG):
            signal, places = planted(task, kind, strengths, seed=0)
            late = delays(detector.windows(signal), places)
            middle = f"{np.median(late):.0f}" if len(late) else "-"
            more = len(delays(often.windows(signal), places)) / len(places)
            cells += [share(len(late), len(places)), middle, f"{more:.2f}"]
        print(f"| {kind} | {' | '.join(cells)} |")


def scored(task: Task, detector: AnomalyDetector, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """For each kind of fault: windows, whether they hold one, and our scores."""
    if task.places is not None:
        signals = [(task.test, task.places)]
    else:
        strengths = SLOW if task.period >= 16 else {}
        signals = [planted(task, kind, strengths, seed) for kind in simulate.KINDS]
    for signal, places in signals:
        found = detector.windows(signal)
        rows = cut(signal, found.starts, detector.layout_.length)
        yield rows, touches(found, places) >= 0, found.scores


def ranked(tasks: Callable[[int], Task], seeds: int) -> None:
    """Print average precisions and times over seeds, ours and peers' in turn."""
    precision: dict[str, list[float]] = {}
    seconds: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        task = tasks(seed)
        made = detector_of(task, seed)
        detector, *took = timed(lambda d=made, t=task: d.fit(t.normal))
        parts = split(task.normal, detector.layout_, held_out=detector.held_out)
        train = np.concatenate([parts.train, parts.validation])
        kinds = list(scored(task, detector, seed))
        rows, truth, ours = (np.concatenate(part) for part in zip(*kinds, strict=True))
        found = {"downslope": ours}
        seconds.setdefault("downslope", []).append((took[0], took[1]))
        for peer, make in peers(len(train), seed).items():
            if seed == 0:
                make().fit(train[:256])  # torch and numba start up once, before the fit
            model = make()
            _, *took = timed(lambda m=model, x=train: m.fit(x))
            seconds.setdefault(peer, []).append((took[0], took[1]))
            found[peer] = model.decision_function(rows)
        for peer, values in found.items():
            precision.setdefault(peer, []).append(average_precision_score(truth, values))
    print(f"\n| detector, {seeds} seeds, {len(train):,} windows | average precision | "
          "ours less theirs, least | fit, s | of processors, s | times ours |\n"
          "|---|---|---|---|---|---|")  # fmt: skip
    best = np.array(precision["downslope"])
    for peer, values in precision.items():
        clock, processor = np.median(seconds[peer], axis=0)
        ratio = np.median(
            [a[0] / b[0] for a, b in zip(seconds[peer], seconds["downslope"], strict=True)]
        )
        least = "" if peer == "downslope" else f"{(best - values).min():.3f}"
        print(f"| {peer} | {np.mean(values):.3f} | {least} | {clock:.2f} | {processor:.2f} | "
              f"{ratio:.1f} |")  # fmt: skip


def cold(task: Task, folder: Path) -> None:
    """Print the time of a first fit in a new process, including imports."""
    layout = detector_of(task, 0).fit(task.normal).layout_
    rows = np.concatenate([cut(x, layout.swept(len(x)), layout.length) for x in task.normal])
    np.save(folder / "rows.npy", rows)
    np.save(folder / "signal.npy", max(task.normal, key=len))
    given = task.period if task.given else None
    works = {"downslope": OURS.format(period=given), "IForest": FORESTS, "AutoEncoder": NETS}
    print("\nfirst fit in a new process with its imports, s:", end="")
    for name, work in works.items():
        path = folder / ("signal.npy" if name == "downslope" else "rows.npy")
        text = COLD.format(path=str(path), work=work)
        took = [
            float(subprocess.run([sys.executable, "-W", "ignore", "-c", text], env=os.environ,
                                 capture_output=True, text=True, check=True).stdout.split()[-1])
            for _ in range(3)
        ]  # fmt: skip
        print(f" {name} {np.median(took):.1f}", end=";")
    print()


def report(task: Task) -> None:
    """Print the detections of labelled beats, at the lowest false alarm rate that can be stated."""
    assert task.places is not None
    detector = detector_of(task, 0, rate=0.01).fit(task.normal)
    scores, rate = detector.windows(task.test), detector.threshold_.rate
    hit = touches(scores, task.places)
    late = delays(scores, task.places)
    fine = hit < 0
    print(f"\n## {task.name}\n\n{sum(map(len, task.normal)):,} normal samples; {rate}\n"
          f"premature beats found: {share(len(late), len(task.places))}; alarms in "
          f"{fine.sum():,} other windows: "
          f"{share(scores.alarms[fine].sum() / 2, fine.sum() / 2)}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ecg", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of the peers
    turns, seeds = (60_000, 2) if given.quick else (300_000, 5)
    recorded = [pulse()] + ([heart(given.ecg)] if given.ecg else [])
    tasks: list[Callable[[int], Task]] = [lambda seed: beam(turns, seed)]
    tasks += [lambda seed, task=task: task for task in recorded]
    for make in tasks:
        detections(make(0))
        ranked(make, seeds)
    with tempfile.TemporaryDirectory() as folder:
        cold(tasks[0](0), Path(folder))
    if given.ecg:
        found = labelled(given.ecg)
        report(found)
        ranked(lambda seed: found, seeds)


if __name__ == "__main__":
    main()
