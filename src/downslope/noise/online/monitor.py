"""Running estimates from the measured updates of a run: noise scale, temperatures, stability."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.estimate import SMALLEST, Estimate, not_estimable
from downslope.noise.online.probes import PROJECTED, Probe
from downslope.noise.scale.steps import Noise, from_halves, no_noise
from downslope.noise.statistics.arrays import Floats
from downslope.noise.statistics.series import ratio_of_series
from downslope.noise.tails.clipping import clip_fraction
from downslope.noise.temperature.dynamics import PRECONDITIONED, MomentumKind, unit_draws
from downslope.noise.temperature.equilibrium import equilibrium_ratio, update_equilibrium_ratio
from downslope.noise.temperature.prescribed import effective_temperature, measured_temperature
from downslope.noise.trajectory import Trajectory

MAX_PROBES_KEPT = 1024  # bounds the memory of a run's measurements
MIN_UPDATES_READ = 24  # measured updates behind a number; from 20 on intervals are right
MAX_UPDATES_READ = 256
SAME_RATE = 1e-3  # relative change of the learning rate that counts as none; assumed
NO_CLIPPING = "clipping is off"
CLIPPED = "gradients were clipped: it is prescribed for those that were not"
NONE_YET = "no update has been measured yet"
# What a correlation of neighbouring updates of at least this much means. For plain SGD it goes to
# 1 - rate * curvature; for the sign at stationarity Pflug 1990, Chee and Toulis 2018.
MEANINGS_OF_PLAIN = (
    (0.0, "moving on"),
    (-0.5, "turning back: stationary under noise, or past the minimum of the dominant mode"),
    (-1.0, "oscillating"),
    (-np.inf, "growing with alternating sign"),
)
MEANINGS = (
    (SMALLEST, "neighbouring updates agree"),  # above 0
    (-0.5, "neighbouring updates disagree"),
    (-np.inf, "neighbouring updates undo each other: the learning rate is near its limit"),
)


@dataclass(frozen=True, kw_only=True)
class MonitorSettings:
    """Settings of a run that the estimates from its measured updates depend on.

    Attributes:
        is_plain: a step is the gradient or its momentum times the rate; temperatures are defined
            for such rules only.
        momentum: beta, 0 without.
        momentum_kind: None without momentum.
        has_metric: noise is measured in the optimizer's own metric too.
        dim: number of trained parameters.
        batch_size: examples per update.
        num_rows: rows of the table, None for a generator.
        interacts: whether the examples of a batch interact: then the batch is the unit of noise.
        clips: whether gradients are clipped.
        gradients_only: updates follow from gradients alone (no weight decay, no proximal step).
    """

    is_plain: bool
    momentum: float
    momentum_kind: MomentumKind | None
    has_metric: bool
    dim: int
    batch_size: int
    num_rows: int | None
    interacts: bool
    clips: bool
    gradients_only: bool


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Estimates from the measured updates of a run.

    Attributes:
        step: the latest measured update, or None before there is one.
        noise: |G|^2, tr Sigma and the noise scale B_simple, in the Euclidean metric.
        preconditioned_scale: B_P = tr(P Sigma) / (G^T P G), P the preconditioner of the optimizer;
            None for an optimizer without one.
        temperature: T_eff, from settings and noise; loss per parameter.
        measured_temperature: T_meas, from the updates.
        equilibrium: R_eq, 1 once the run is stationary.
        clip_fraction: share of updates whose gradient was clipped.
        step_correlation: m, of neighbouring updates: negative where they oscillate.
        stability: meaning of m, in words.
    """

    step: int | None
    noise: Noise
    preconditioned_scale: Estimate | None
    temperature: Estimate
    measured_temperature: Estimate
    equilibrium: Estimate
    clip_fraction: Estimate
    step_correlation: Estimate
    stability: str

    @property
    def scale(self) -> Estimate:
        """Noise scale in the metric that the optimizer steps in: the one to choose a batch by."""
        found = self.preconditioned_scale
        return self.noise.scale if found is None else found

    def measurements(self) -> dict[str, Estimate]:
        """The estimates by name, as `Result.measurements` and the journal hold them."""
        found = self.preconditioned_scale
        return {
            "noise_scale": self.noise.scale,
            **({} if found is None else {"preconditioned_noise_scale": found}),
            "gradient_signal": self.noise.signal,
            "gradient_noise": self.noise.trace,
            "temperature": self.temperature,
            "measured_temperature": self.measured_temperature,
            "equilibrium_ratio": self.equilibrium,
            "clip_fraction": self.clip_fraction,
            "step_correlation": self.step_correlation,
        }


class NoiseMonitor:
    """Record of the latest measured updates of a run, in bounded memory, with running estimates.

    The noise is estimated from the measured updates of the last octave (since half the steps), at
    least 24 and at most 256 of them: enough for an interval, few enough to follow a change.
    """

    def __init__(self, settings: MonitorSettings):
        self.settings = settings
        self._steps = np.zeros(0, np.int64)
        self._probes = np.zeros((0, len(Probe._fields)))
        self._read: tuple[MonitorSettings, Readings] | None = None  # of all probes
        self.trajectory = Trajectory(PROJECTED)

    def add(self, steps: Any, probes: Any) -> None:
        """Add measured updates: their step numbers [k] and probes [k, F]."""
        self._read = None
        self._steps = np.concatenate([self._steps, np.asarray(steps, np.int64)])[-MAX_PROBES_KEPT:]
        found = np.asarray(probes, np.float64)
        self._probes = np.concatenate([self._probes, found])[-MAX_PROBES_KEPT:]

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, for a checkpoint."""
        found = {"steps": self._steps.copy(), "probes": self._probes.copy()}
        return found | {f"path_{k}": array for k, array in self.trajectory.arrays().items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Return to the state that `arrays` gave."""
        self._steps, self._probes = arrays["steps"], arrays["probes"]
        self._read = None
        parts = {k.removeprefix("path_"): array for k, array in arrays.items() if "path_" in k}
        self.trajectory.restore(parts)

    def read(self) -> Readings:
        """Estimates from the updates added so far, under the present settings."""
        if self._read is None or self._read[0] != self.settings:  # else nothing changed
            self._read = self.settings, self._readings()
        return self._read[1]

    def _readings(self) -> Readings:
        noise = self._noise()
        correlation, stability = self._stability()
        return Readings(
            step=int(self._steps[-1]) if len(self._steps) else None,
            noise=noise,
            preconditioned_scale=self._preconditioned_scale(),
            temperature=self._temperature(noise.trace),
            measured_temperature=self._measured_temperature(),
            equilibrium=self._equilibrium(),
            clip_fraction=self._clip_fraction(),
            step_correlation=correlation,
            stability=stability,
        )

    def norms(self) -> Floats:
        """Norms [k] of the gradients of the last octave's measured updates, before clipping."""
        squares = self._column("square_gradient", self._latest("square_gradient"))
        return np.sqrt(squares[np.isfinite(squares)])

    def _column(self, name: str, rows: Any) -> Floats:
        return self._probes[rows, Probe._fields.index(name)]

    def _columns(self, rows: np.ndarray, *names: str) -> list[Floats]:
        return [self._column(name, rows) for name in names]

    def _latest(self, known: str) -> np.ndarray:
        """Indices of the last octave's probes that have this field."""
        have = np.flatnonzero(~np.isnan(self._column(known, slice(None))))
        octave = have[self._steps[have] >= self._steps[have[-1]] / 2] if len(have) else have
        return have[-min(max(len(octave), MIN_UPDATES_READ), MAX_UPDATES_READ) :]

    def _preconditioned_scale(self) -> Estimate | None:
        return self._noise("preconditioned_").scale if self.settings.has_metric else None

    def _noise(self, metric: str = "") -> Noise:
        dot, distance = f"{metric}dot", f"{metric}square_distance"
        names = (dot, distance, "rows_first", "rows_second")
        dots, distances, *sizes = self._columns(self._latest(dot), *names)
        kind = {"preconditioned": bool(metric), "interacting": self.settings.interacts}
        if not all((size > 0).all() and np.isfinite(size).all() for size in sizes):
            return no_noise("the sizes of the halves that were compared are unknown")
        if self.settings.interacts:  # a batch is one unit, whatever its size
            return from_halves(dots, distances, 1, 1, **kind)
        return from_halves(dots, distances, *sizes, **kind)

    def _rate(self, rows: np.ndarray) -> float | str:
        """The learning rate that these updates share, or the reason why there is none."""
        rates = self._column("learning_rate", rows)
        if not len(rates):
            return NONE_YET
        if not 0 < rates[-1] < np.inf:
            return "the optimizer holds its own learning rate"
        if not abs(rates - rates[-1]).max() <= SAME_RATE * rates[-1]:  # a NaN is another rate too
            return "the learning rate changed meanwhile"
        return float(rates[-1])

    def _temperature(self, trace: Estimate) -> Estimate:
        rate = self._rate_of_formulas(self._latest("square_update")[-1:])
        if isinstance(rate, str):
            return not_estimable(rate, unit="loss")
        s = self.settings
        draws = unit_draws(s.batch_size, s.num_rows, s.interacts)
        found = effective_temperature(
            trace, s.dim, learning_rate=rate, momentum=s.momentum, momentum_kind=s.momentum_kind,
            **draws,
        )  # fmt: skip
        clipped = (self._column("clipped", self._latest("clipped")) > 0).any()
        return found.flagged(CLIPPED) if clipped else found

    def _rate_of_formulas(self, rows: np.ndarray) -> float | str:
        """The learning rate, or the reason why the formulas of the temperature do not hold."""
        s = self.settings
        if not s.is_plain:
            return PRECONDITIONED
        if s.momentum_kind == "nesterov":
            return "the parameters kept are those ahead, not those that the velocity moves"
        if not s.gradients_only:
            return "weight decay or a proximal step moves the parameters too"
        return self._rate(rows)

    def _measured_temperature(self) -> Estimate:
        rows, s = self._latest("square_update"), self.settings
        rate = self._rate_of_formulas(rows)
        if isinstance(rate, str):
            return not_estimable(rate, unit="loss")
        squares = self._column("square_update", rows)
        return measured_temperature(
            squares, s.dim, learning_rate=rate, momentum=s.momentum, momentum_kind=s.momentum_kind
        )

    def _settled(self) -> np.ndarray:
        """Indices of probes far enough from their anchor: in the second half of an octave."""
        rows = np.flatnonzero(~np.isnan(self._column("position_dot_update", slice(None))))
        done = self._steps[rows] + 1
        octave = np.floor(np.log2(done))
        late = done >= 1.5 * 2**octave
        newest = octave[late].max(initial=0)
        chosen = rows[late & (octave == newest)]
        return chosen if len(chosen) >= MIN_UPDATES_READ else rows[late & (octave >= newest - 1)]

    def _equilibrium(self) -> Estimate:
        rows, s = self._settled(), self.settings
        if not len(rows):
            return not_estimable(NONE_YET, unit="")
        names = ("square_update", "position_dot_update", "position_dot_gradient")
        squares, of_update, of_gradient = self._columns(rows, *names)
        rate = self._rate_of_formulas(rows)
        if isinstance(rate, str):  # the form that holds for every optimizer
            return update_equilibrium_ratio(of_update, squares)
        return equilibrium_ratio(of_gradient, squares, rate, s.momentum, s.momentum_kind)

    def _clip_fraction(self) -> Estimate:
        if not self.settings.clips:
            return not_estimable(NO_CLIPPING, unit="share of gradients")
        found = clip_fraction(self._column("clipped", self._latest("clipped")), 0.5)
        # updates were counted, not examples
        return dataclasses.replace(found, num_examples=None, num_steps=found.num_examples)

    def _stability(self) -> tuple[Estimate, str]:
        rows, s = self._latest("update_dot_before"), self.settings
        dots, squares = self._columns(rows, "update_dot_before", "square_before")
        m = ratio_of_series(dots, squares, what="correlation of neighbouring updates")
        if m.value is None:
            return m, "unknown"
        is_plain = s.is_plain and s.momentum_kind is None and isinstance(self._rate(rows), float)
        meanings = MEANINGS_OF_PLAIN if is_plain else MEANINGS
        return m, next(meaning for least, meaning in meanings if m.value >= least)
