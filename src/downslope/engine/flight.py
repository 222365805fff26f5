"""A run in the air: calls to the device, and what is learned from each, one call late.

While the device works on a call, the host takes in the call before: losses, timing,
buffers that are free again. Host syncs happen here and nowhere else in the loop.
"""

from __future__ import annotations

import math
import time
from typing import Any

import jax
import numpy as np

from downslope.config import Training
from downslope.data.stream import Stream
from downslope.engine.assemble import Engine
from downslope.engine.looks import Looks, short_record
from downslope.engine.pace import Call, Pace
from downslope.engine.run import Run
from downslope.engine.tally import Tally
from downslope.metrics import Results
from downslope.noise.running.probes import project
from downslope.noise.running.watch import Readings
from downslope.objective import Params
from downslope.step.loop import Seen
from downslope.step.state import Knobs

POINT_SECONDS = 0.2  # between points of the path, at least
# By a program of its own: inside the loop's it made every step a third slower (measured).
PROJECT = jax.jit(project)
PROGRESS_SECONDS = 0.5  # between progress records
MEASURED_SHARE = 0.005  # of the time so far, between measured records: a day's run keeps some 2000
READING_SHARE = 0.003  # of the time, at most, for making them: epochs may take less than that


class Flight:
    """The state of a run while it trains.

    Attributes:
        tally: the account of all calls that have landed.
        pace: how long the next call should be.
        healthy: no loss was non-finite and none has exploded.
    """

    def __init__(self, engine: Engine, training: Training, run: Run):
        self.engine, self.training, self.run = engine, training, run
        self.pace, self.healthy = Pace(), True
        self._state, self.tally, self._best = self._begin()
        self.watch = engine.watch(run.last)
        self._looks = Looks(engine, training)
        self._air: tuple[Call, Seen, Any, float] | None = None
        self._on_device: tuple[Any, Any] = (None, None)
        self._results: tuple[int, Results] | None = None
        self._bad_step: int | None = None
        self._saved_moment: tuple[int, int | None] | None = None
        self._begun = self._landed = self._saved = self._told = time.perf_counter()
        self._seconds_before = self.tally.seconds
        self._told_examples, self._told_waited, self._told_read = self.tally.num_examples, 0.0, 0.0
        self._pointed = -math.inf
        self._measured, self._reading_seconds = -math.inf, 0.0

    def _begin(self) -> tuple[Any, Tally, Params | None]:
        if self.run.last is not None:
            return self.engine.restore(self.run.last, str(self.run.folder))
        state, tally = self.engine.start(), Tally()
        self.run.last = self.engine.snapshot(state, tally, None, None)  # to roll back to
        return state, tally, None

    def open(self) -> Stream:
        """The stream of blocks from where the run stands."""
        self._stream = self.engine.open_stream(self.tally.position)
        return self._stream

    @property
    def steps_left(self) -> int | None:
        """Updates to make until the run is finished."""
        total = self.engine.num_steps
        return None if total is None else max(0, total - self.tally.num_steps)

    @property
    def seconds(self) -> float:
        """Time spent training, over all sittings."""
        return self._seconds_before + time.perf_counter() - self._begun

    def launch(self, call: Call, knobs: Knobs) -> None:
        """Sends a call to the device, then lands the one before."""
        if self._on_device[0] is not call.block:
            self._on_device = call.block, jax.device_put(call.block.rows)
        self._state, seen = self.engine.steps(self._state, self._on_device[1], call.windows, knobs)
        sent = time.perf_counter()
        point = None
        if self.watch is not None and sent - self._pointed >= POINT_SECONDS:
            self._pointed, point = sent, PROJECT(self._state.params)
        self.land()
        self._air = call, seen, point, sent

    def land(self) -> None:
        """Waits for the call in the air and takes in what it saw."""
        if self._air is None:
            return
        (call, seen, point, sent), self._air = self._air, None
        loss_sums, healthy = np.asarray(seen.loss_sums), bool(seen.healthy)  # host sync
        now = time.perf_counter()
        self.pace.saw(call.windows.count, now - max(sent, self._landed))
        self._landed = now
        if call.ends_block:
            self._stream.release(call.block)
        if not self.healthy:
            return
        part = slice(call.windows.first, call.windows.first + call.windows.count)
        if not healthy:
            done = call.windows.first + int(seen.done)
            ended = int(call.block.windows.ends[call.windows.first : done].sum())
            self.healthy, self._bad_step = False, self.tally.num_steps + ended + 1
            return
        if self.watch is not None:
            count = int(seen.num_probes)
            if count:
                self.watch.add(
                    np.asarray(seen.probe_steps)[:count], np.asarray(seen.probes)[:count]
                )
        sizes = call.block.windows.sizes[part]
        self.tally.add(loss_sums[part], sizes, call.num_steps, call.position)
        if self.watch is not None and point is not None:
            self.watch.add_point(point, self.tally.num_steps)
        self.tally.seconds = self.seconds
        if self.tally.exploded:
            self.healthy, self._bad_step = False, self.tally.num_steps
        elif now - self._told >= PROGRESS_SECONDS or call.ends_epoch:
            self._tell(now)

    def _tell(self, now: float) -> None:
        """Writes a progress record about the time since the last one."""
        tally, seconds = self.tally, max(now - self._told, 1e-9)
        waited, read = self._stream.seconds_waited, self._stream.seconds_read
        self.run.journal.write(
            "progress",
            step=tally.num_steps,
            epoch=tally.position.epoch,
            fraction=self._fraction(),
            loss=tally.smoothed_loss,
            examples_per_second=(tally.num_examples - self._told_examples) / seconds,
            waiting_share=min(1.0, (waited - self._told_waited) / seconds),
            reading_share=min(1.0, (read - self._told_read) / seconds),
            seconds=tally.seconds,
        )
        self._told, self._told_examples = now, tally.num_examples
        self._told_waited, self._told_read = waited, read
        if now - self._measured >= max(
            MEASURED_SHARE * tally.seconds, self._reading_seconds / READING_SHARE
        ):
            self._measured = now
            self.measure()
            self._reading_seconds = time.perf_counter() - now

    def measure(self) -> Readings | None:
        """Writes a record of what the measured steps say, and gives it; None where none is."""
        if self.watch is None:
            return None
        readings = self.watch.read()
        if readings.step is not None:
            found = {name: m.to_json() for name, m in readings.measurements().items()}
            self.run.journal.write(
                "measured",
                step=self.tally.num_steps,
                seconds=self.tally.seconds,
                batch_size=self.engine.batch_rows,
                stability=readings.stability,
                **{name: _filled(m) for name, m in found.items()},
            )
        return readings

    def _fraction(self) -> float | None:
        """How much of the run is done, by whichever limit comes first."""
        shares = []
        if self.engine.num_steps:
            shares.append(self.tally.num_steps / self.engine.num_steps)
        if self.training.seconds:
            shares.append(self.tally.seconds / self.training.seconds)
        return max(shares, default=None)

    def evaluate(self) -> None:
        """Evaluates the parameters on held-out rows, where there are any."""
        if self.engine.evaluate is None:
            return  # without a wait: the device goes on with the next epoch
        self.land()
        if not self.healthy:
            return
        params = self.engine.kept_params(self._state)
        results = self.engine.evaluate(params)
        self._results = self.tally.num_steps, results
        loss = results["loss"].value if "loss" in results else None
        if self.tally.evaluated(loss, self.training.tolerance) and self.training.patience:
            self._best = jax.device_get(params)
        self.run.journal.write(
            "evaluated",
            step=self.tally.num_steps,
            epoch=self.tally.position.epoch,
            seconds=self.seconds,
            metrics={name: estimate.to_json() for name, estimate in results.items()},
            missing=results.reasons,
        )

    def checkpoint_if_due(self) -> None:
        """Saves a checkpoint when the last one is old enough."""
        if time.perf_counter() - self._saved >= self.training.checkpoint_seconds:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Saves where the run stands, unless it has gone wrong."""
        self.land()
        moment = (self.tally.num_steps, self.tally.evaluated_step)
        if not self.healthy or moment == self._saved_moment:
            return
        self._saved_moment = moment
        self.tally.seconds = self.seconds
        snapshot = self.engine.snapshot(self._state, self.tally, self._best, self.watch)
        self.run.checkpoint(self.tally.num_steps, snapshot)
        self._saved = time.perf_counter()
        if self.run.folder:
            self.run.journal.write("saved", step=self.tally.num_steps, seconds=self.tally.seconds)

    def look_if_due(self) -> None:
        """Looks closely at one subject of the noise, if the share of time for that allows."""
        if not self._looks.is_due(self.seconds - self._seconds_before):  # of this sitting
            return
        self.land()
        if not self.healthy:
            return
        name, found = self._looks.look(self._state, self.watch, self.steps_left)
        values = {"reason": found} if isinstance(found, str) else short_record(found)
        self.run.journal.write(
            "anatomy", step=self.tally.num_steps, seconds=self.seconds, subject=name, **values
        )

    def roll_back(self) -> int | None:
        """Returns to the last good state; gives the step that went wrong."""
        if self.run.last is not None:
            self._state, self.tally, self._best = self.engine.restore(self.run.last, "checkpoint")
            self.watch = self.engine.watch(self.run.last)
        self.run.journal.write("diverged", step=self.tally.num_steps, bad_step=self._bad_step)
        return self._bad_step

    def kept_params(self) -> Params:
        """The parameters of the lowest held-out loss, or else those reached."""
        if self.training.patience and self.tally.evaluated_step != self.tally.num_steps:
            self.evaluate()
        return self.engine.kept_params(self._state) if self._best is None else self._best

    def validation(self, params: Params) -> Results | None:
        """Held-out metrics of the parameters that are kept."""
        if self.engine.evaluate is None:
            return None
        kept = self.tally.num_steps if self._best is None else self.tally.best_step
        if self._results is not None and self._results[0] == kept:
            return self._results[1]
        return self.engine.evaluate(params)


def _filled(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what is missing in it; a zero is a value."""
    return {k: v for k, v in record.items() if v is not None and v != "" and v != []}
