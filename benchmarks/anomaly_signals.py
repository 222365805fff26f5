"""Signals for the anomaly benchmark: one simulated, three recorded, one of them labelled.

The electrocardiograms are in the folder `sample-data` of the source of WFDB for Python
(github.com/MIT-LCP/wfdb-python): record 3975656 of MIMIC-II, 125 samples a second over nearly five
hours, and record 100 of the MIT-BIH Arrhythmia Database, 360 a second over half an hour, whose
beats are labelled.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from downslope.recipes.anomaly import simulate

# Of the 8-bit electrocardiogram: a beat reaches from 6 to -50. A piece that leaves this range was
# recorded while the patient moved. It is no part of the normal signal, and of the test neither.
QUIET, PIECE, SHORTEST = (-60, 20), 1250, 6
ROOM = 3000  # samples around an anomaly planted in the beam
# Faults of slow signals last this many periods; strengths only if unlike the simulator's.
PERIODS = {"dropout": 1, "drift": 5, "phase_jump": 3, "amplitude_loss": 3, "noise_burst": 1}
SLOW = {"spike": 5.0}
STRONG = {
    "spike": 10.0,
    "dropout": 1.0,
    "drift": 3.0,
    "phase_jump": 0.5,
    "amplitude_loss": 0.8,
    "noise_burst": 1.0,
}
NORMAL_BEAT = 1  # code of a normal beat in an annotation file
ODD_BEATS = (5, 8)  # premature: ventricular, atrial


@dataclass(frozen=True, kw_only=True)
class Task:
    """A signal to learn from and another to find anomalies in.

    Attributes:
        name: as shown.
        normal: stretches without anomalies.
        test: [n], normal too.
        period: samples.
        given: whether the detector is given the period.
        held_out: share of the normal signal that calibrates.
        places: [k, 2] of labelled anomalies in the test signal, or none.
    """

    name: str
    normal: list[np.ndarray]
    test: np.ndarray
    period: float
    given: bool = False
    held_out: float = 0.3
    places: np.ndarray | None = None


def beam(turns: int, seed: int) -> Task:
    """Two simulated recordings of a beam's position."""
    normal, test = simulate.beam(turns, seed=2 * seed), simulate.beam(turns, seed=2 * seed + 1)
    return Task(name="beam, simulated", normal=[normal], test=test, period=1 / 0.31)


def pulse() -> Task:
    """A finger's pulse over 11 minutes, recorded: the first 60 % are taken as normal."""
    import heartpy

    x = np.asarray(heartpy.load_exampledata(2)[0], float)
    cut = int(0.6 * len(x))
    return Task(name="pulse, recorded", normal=[x[:cut]], test=x[cut:], period=60.0)


def heart(folder: Path) -> Task:
    """An electrocardiogram: two hours to learn from, the next 75 minutes to plant anomalies in."""
    before, after = (
        np.fromfile(next(folder.rglob(f"3975656_{part}.dat")), np.uint8)[::2].astype(float) - 128
        for part in ("0005", "0006")
    )
    # after 45 % of the second part an electrode moves, and the beats are a fifth as high
    stretches = quiet(after[: int(0.45 * len(after))])
    return Task(
        name="heart, recorded",
        normal=quiet(before),
        test=max(stretches, key=len),
        period=134.0,
        given=True,
        held_out=0.5,  # 1,457 independent windows; with 0.3 there are 868, and 0.1 % needs 999
    )


def quiet(x: np.ndarray) -> list[np.ndarray]:
    """Stretches of a minute or more whose pieces of ten seconds keep within the range of beats."""
    pieces = x[: len(x) // PIECE * PIECE].reshape(-1, PIECE)
    fine = (pieces.min(1) > QUIET[0]) & (pieces.max(1) < QUIET[1])
    ends = np.flatnonzero(np.diff(np.r_[False, fine, False]))
    spans = zip(ends[::2], ends[1::2], strict=True)
    return [pieces[low:high].ravel() for low, high in spans if high - low >= SHORTEST]


def labelled(folder: Path) -> Task:
    """Record 100: stretches of normal beats of its first 15 minutes, and all of its last 15."""
    x = twelve_bits(next(folder.rglob("100.dat")).read_bytes())[::2].astype(float)
    at, codes = annotations(next(folder.rglob("100.atr")).read_bytes())
    half = len(x) // 2
    odd = at[np.isin(codes, ODD_BEATS)]
    edges = np.r_[0, odd[odd < half], half]
    normal = [x[low + 720 * (low > 0) : high - 720] for low, high in itertools.pairwise(edges)]
    late = odd[odd >= half] - half
    return Task(
        name="heart, labelled",
        normal=[part for part in normal if len(part) > 20_000],
        test=x[half:],
        period=len(x) / (codes == NORMAL_BEAT).sum(),
        given=True,
        places=np.stack([late - 90, late + 90], axis=1),  # half a second around the beat
    )


def twelve_bits(raw: bytes) -> np.ndarray:
    """Samples of WFDB's format 212: two of 12 bits in three bytes, one signal after the other."""
    low, both, high = np.frombuffer(raw, np.uint8).astype(np.int16).reshape(-1, 3).T
    pairs = np.stack([low + ((both & 15) << 8), high + ((both >> 4) << 8)], axis=1).ravel()
    return np.where(pairs > 2047, pairs - 4096, pairs)


def annotations(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Samples [k] and codes [k] of WFDB's annotation files."""
    words, at, now, place = np.frombuffer(raw, "<u2"), [], 0, 0
    while place < len(words) and words[place]:
        code, value = int(words[place]) >> 10, int(words[place]) & 1023
        place += 1
        if code == 59:  # a long way to the next
            now += (int(words[place]) << 16) + int(words[place + 1])
            place += 2
        elif code == 63:  # a text
            place += (value + 1) // 2
        elif code < 60:
            now += value
            at.append((now, code))
    found = np.array(at)
    return found[:, 0], found[:, 1]


def planted(
    task: Task, kind: str, strengths: dict[str, float], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The test signal with anomalies of a kind far apart, and their places [k, 2]."""
    slow = task.period >= 16
    length = simulate.LASTING[kind]
    if slow and kind in PERIODS:
        length = round(PERIODS[kind] * task.period)
    room = round(20 * task.period) if slow else ROOM
    x, places = task.test.copy(), []
    draw = np.random.default_rng(seed)
    for number, begin in enumerate(range(room, len(x) - room - length, room)):
        at = begin + int(draw.integers(0, max(1, round(task.period))))
        near = slice(at - room // 2, at + length + room // 2)
        x[near] = simulate.plant(
            task.test[near],
            kind,
            at=room // 2,
            length=length,
            strength=strengths.get(kind),
            period=task.period,
            seed=1000 * seed + number,
        )
        places.append((at, at + length))
    return x, np.array(places)
