"""A beam's position turn by turn, with known anomalies: a signal whose truth is known."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from downslope import UsageError
from downslope.arguments import number, one_of, whole

Kind = Literal["spike", "dropout", "drift", "phase_jump", "amplitude_loss", "noise_burst"]
KINDS: tuple[str, ...] = get_args(Kind)
# Samples that an anomaly lasts, and how strong it is, in the unit that `plant` names. Assumed
LASTING = {
    "spike": 1,
    "dropout": 50,
    "drift": 1000,
    "phase_jump": 200,
    "amplitude_loss": 200,
    "noise_burst": 50,
}
STRENGTH = {
    "spike": 1.0,
    "dropout": 1.0,
    "drift": 1.0,
    "phase_jump": 0.25,
    "amplitude_loss": 0.5,
    "noise_burst": 0.5,
}


def beam(
    turns: int,
    *,
    tune: float = 0.31,
    amplitude: float = 1.0,
    kick: float = 0.5,
    kick_every: int = 3000,
    tune_spread: float = 1e-3,
    ripple: float = 2e-4,
    ripple_turns: int = 900,
    harmonics: tuple[float, ...] = (0.1, 0.05),
    noise: float = 0.1,
    seed: int = 0,
) -> np.ndarray:
    """The position [n] that a monitor reads at each turn, in millimetres.

    `x(n) = a cos f(n) + sum_h a_h cos(h f(n)) + k exp(-2 pi^2 s^2 m^2) cos(2 pi Q m + p) + noise`,
    with f(n) the phase of a driven betatron oscillation of tune Q, whose tune the power supplies
    ripple; harmonics h = 2, 3, ... of it, from nonlinear magnets; and the free oscillation m turns
    after the last kick, whose phase p is random: kicks do not wait for the drive. Particles of
    different tunes, normal with standard deviation s, fall out of step: the mean of
    `cos(2 pi (Q + d) m + p)` over d is the Gaussian factor. There is no growth of the emittance,
    no coupling and no synchrotron motion.

    Args:
        turns: samples, 1 or more.
        tune: Q, oscillations in a turn, between 0 and 0.5.
        amplitude: a, of the driven oscillation, mm.
        kick: k, just after a kick, mm.
        kick_every: turns between kicks.
        tune_spread: s, in units of the tune.
        ripple, ripple_turns: how far, and in how many turns, the tune goes up and down.
        harmonics: a_2, a_3, ... mm.
        noise: standard deviation of the monitor's noise, mm.
        seed: of noise, kicks' phases, and where in ripple and kicks the signal begins.

    Raises:
        UsageError: an argument outside its range.

    Example:
        >>> round(float(beam(100_000, noise=0, kick=0, harmonics=()).std()), 3)  # of a cosine
        0.707

    Source:
        Meller, Chao, Peterson, Peggs and Furman (1987), "Decoherence of kicked beams".
    """
    whole("turns", turns)
    number("tune", tune, above=0, below=0.5)
    draw = np.random.default_rng(seed)
    begin = int(draw.integers(0, kick_every)) if kick_every > 1 else 0
    n = np.arange(turns)
    slow = 2 * np.pi * (n / ripple_turns + draw.uniform())
    phase = 2 * np.pi * (tune * n + draw.uniform()) + ripple * ripple_turns * np.sin(slow)
    x = amplitude * np.cos(phase)
    for harmonic, size in enumerate(harmonics, start=2):
        x += size * np.cos(harmonic * phase)
    after = (n + begin) % kick_every
    envelope = np.exp(-2 * (np.pi * tune_spread * after) ** 2)
    phases = draw.uniform(0, 2 * np.pi, size=(turns + begin) // kick_every + 1)
    x += kick * envelope * np.cos(2 * np.pi * tune * after + phases[(n + begin) // kick_every])
    return x + noise * draw.normal(size=turns)


def plant(
    signal: Any,
    kind: str,
    *,
    at: int,
    length: int | None = None,
    strength: float | None = None,
    period: float = 1 / 0.31,
    seed: int = 0,
) -> np.ndarray:
    """The signal [n] with an anomaly in it, simulated or recorded.

    Strengths: "spike", "drift" and "noise_burst" in standard deviations of the signal (a drift
    reaches its strength at its end, and is gone after it); "dropout" and "amplitude_loss" as the
    share that is lost of the deviation from the mean, "dropout" with the noise, so the signal
    stands still; "phase_jump" in periods, by which the signal runs ahead until the anomaly ends.

    Args:
        signal: [n].
        kind: one of `KINDS`.
        at: its first sample.
        length: samples that it lasts; None for `LASTING`.
        strength: in the unit above; None for `STRENGTH`.
        period: of the signal, for "phase_jump".
        seed: of the burst's noise and the spike's sign.

    Raises:
        UsageError: a kind that is not known, or an anomaly beyond the signal's end.
    """
    one_of("kind", kind, KINDS)
    x = np.array(signal, np.float64)
    length = LASTING[kind] if length is None else length
    strength = STRENGTH[kind] if strength is None else strength
    if not 0 <= at < at + length <= len(x):
        raise UsageError(f"at must leave room for {length} of {len(x)} samples; got {at}")
    draw, spread, mean = np.random.default_rng(seed), x.std(), x.mean()
    part = slice(at, at + length)
    if kind == "spike":
        x[part] += strength * spread * draw.choice([-1.0, 1.0])
    elif kind == "drift":
        x[part] += strength * spread * np.arange(1, length + 1) / length
    elif kind == "noise_burst":
        x[part] += strength * spread * draw.normal(size=length)
    elif kind == "phase_jump":
        x[part] = _ahead(x, at, length, strength * period)
    else:
        x[part] = mean + (1 - strength) * (x[part] - mean)
    return x


def _ahead(x: np.ndarray, at: int, length: int, shift: float) -> np.ndarray:
    """Samples `shift` later than from `at` on, between samples by their spectrum."""
    size = len(x)
    turned = np.fft.rfft(x) * np.exp(2j * np.pi * np.fft.rfftfreq(size) * shift)
    return np.fft.irfft(turned, size)[at : at + length]
