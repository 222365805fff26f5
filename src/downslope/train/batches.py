"""Which batch sizes a run can use, and how long an update of each takes."""

from __future__ import annotations

import math

import numpy as np

from downslope.choose.decision import Decision
from downslope.choose.explore import look_at_batch, may_pay
from downslope.choose.next_batch import next_batch_size
from downslope.step.state import Knobs
from downslope.train.flight import Flight
from downslope.train.gears import LADDER, Gear
from downslope.train.setup import Engine

FEWEST_TIMES = 3  # calls behind the time of an update
LOOK_SHARE = 10  # times the compiling of a gear that a run must have lasted to look at another
PATIENCE = 1.2  # the same question is asked again after the run has become so many times as long
SMALLEST = 16


class Batches:
    """The gears of a run, compiled one at a time in the background when they may pay.

    A gear is looked at by training in it: the time is not lost. Looking costs its compiling,
    so it begins once the run has lasted ten times that.
    """

    def __init__(self, engine: Engine, flight: Flight):
        self._engine, self._flight, self._make = engine, flight, engine.make_gear
        self._gears: dict[int, Gear] = {engine.gear.batch_rows: engine.gear}
        self._looking: Gear | None = None
        self._ask_at = self._look_from = 0.0

    def larger(self) -> int | None:
        """The next larger batch size whose program is there."""
        size = self._flight.gear.batch_rows * LADDER
        return size if self._is_usable(size) else None

    def seconds_per_example(self, batch_size: int) -> float | None:
        """Median time of an update over its examples, None where it was not timed."""
        times = self._flight.step_seconds.get(batch_size, ())
        return float(np.median(times)) / batch_size if len(times) >= FEWEST_TIMES else None

    def turn(self, knobs: Knobs) -> Decision | None:
        """Looks whether another batch size would be faster; gives a change, or None."""
        if self._looking is not None and self._looking.is_ready:
            gear, self._looking = self._looking, None
            self._gears[gear.batch_rows] = gear
            return self._look_at(gear)
        if self._looking is not None and self._looking.failed is not None:
            fault, self._looking, self._look_from = self._looking.failed, None, math.inf
            step = self._flight.tally.num_steps
            self._flight.run.journal.write("not compiled", step=step, because=str(fault)[:200])
        decision = self._decide()
        if decision is not None:
            return decision
        self._look_further(knobs)
        return None

    def go_on_with(self, batch_size: int, knobs: Knobs) -> None:
        """Puts the run in the gear of a batch size."""
        if batch_size not in self._gears:
            self._gears[batch_size] = self._make(batch_size, self._flight.gear.clips)
        self._flight.change(self._gears[batch_size])

    def clip(self) -> None:
        """Puts the run in a gear of the same batch size that clips; those that do not are dropped.

        This compiles while the run waits: it happens once, if at all.
        """
        self.close()
        self._looking = None
        size = self._flight.gear.batch_rows
        gear = self._make(size, True, self._flight.gear.step_rows)
        self._gears = {size: gear}
        self._flight.change(gear)

    def close(self) -> None:
        """Waits for a compilation under way: a process must not exit in the middle of one."""
        if self._looking is not None:
            self._looking.join()

    def _is_usable(self, size: int) -> bool:
        gear = self._gears.get(size)
        return gear is not None and (
            gear.is_ready or gear in (self._engine.gear, self._flight.gear)
        )

    def _noise(self) -> tuple[float | None, float | None, float | None]:
        if self._flight.watch is None:
            return None, None, None
        scale = self._flight.watch.read().noise.scale
        return scale.value, scale.lo, scale.hi

    def _look_at(self, gear: Gear) -> Decision | None:
        _, low, high = self._noise()
        return look_at_batch(
            batch_size=self._flight.gear.batch_rows,
            candidate=gear.batch_rows,
            noise_lo=low,
            noise_hi=high,
            seconds=self._flight.seconds,
            cost=gear.compile_seconds or 0.0,
        )

    def _decide(self) -> Decision | None:
        """Whether another size that was timed is faster; asked once an octave of time."""
        flight = self._flight
        here = flight.gear.batch_rows
        timed = sorted(s for s in flight.step_seconds if self.seconds_per_example(s) is not None)
        if len(timed) < 2 or here not in timed or flight.seconds < self._ask_at:
            return None
        self._ask_at = flight.seconds * PATIENCE
        value, low, high = self._noise()
        if low is None and high is None:
            return None
        return next_batch_size(
            batch_size=here,
            noise_scale=value,
            noise_lo=low,
            noise_hi=high,
            timed_sizes=timed,
            timed_seconds=[tuple(flight.step_seconds[size]) for size in timed],
            ladder=[size for size in timed if self._is_usable(size)],
            most=self._engine.most_rows,
            compiled=timed,
            seconds_left=flight.seconds,  # as much as it has lasted, for want of better
        )

    def _look_further(self, knobs: Knobs) -> None:
        """Begins to compile a neighbour on the ladder that was not looked at yet."""
        flight = self._flight
        if self._looking is not None or flight.compile_seconds is None:
            return
        cost = flight.compile_seconds
        if flight.seconds < self._look_from or flight.seconds - cost < LOOK_SHARE * cost:
            return
        self._look_from = flight.seconds * PATIENCE
        here = flight.gear.batch_rows
        for size in (here * LADDER, here // LADDER):
            if size in self._gears or not SMALLEST <= size <= self._engine.most_rows:
                continue
            _, low, high = self._noise()
            if not may_pay(
                batch_size=here,
                candidate=size,
                noise_lo=low,
                noise_hi=high,
                seconds=flight.seconds,
                cost=cost,
            ):
                continue
            self._looking = self._make(size, flight.gear.clips)
            self._looking.prepare(flight.shapes(), flight.tally.position, knobs)
            return
