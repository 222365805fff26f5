"""A run in the air: calls to the device, and what is learned from each, one call late.

While the device works on a call, the host takes in the call before: losses, timing,
buffers that are free again. Host syncs happen here and nowhere else in the loop.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from downslope.data.stream import Replay, Stream
from downslope.metrics import Results
from downslope.noise.online.monitor import NoiseMonitor, Readings
from downslope.noise.online.probes import project
from downslope.objective import Params
from downslope.step.loop import Seen
from downslope.step.state import Knobs, own, to_device
from downslope.train.calls import Call, Pace, calls
from downslope.train.checkpoint import Snapshot
from downslope.train.diagnostics import Looks, short_record
from downslope.train.gears import Gear
from downslope.train.progress import Telling
from downslope.train.run_folder import Run
from downslope.train.setup import Engine
from downslope.train.tally import Tally

POINT_SECONDS = 0.2  # between points of the path, at least
# By a program of its own: inside the loop's it made every step a third slower (measured).
PROJECT = jax.jit(project)
COPY_SHARE = 0.01  # of the time, at most, for copies of a good state
KEPT_TIMES = 32  # calls whose time of an update is remembered, for each batch size
WORSE = 1.1  # times the loss of a good state, on the same rows; assumed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    """Where a run stood, on the host, to return to within the same process."""

    state: Any
    tally: dict[str, Any]
    best: Params | None
    watch: NoiseMonitor | None


class Flight:
    """The state of a run while it trains.

    Args:
        begun: when the run began, by `time.perf_counter`; by default now.

    Attributes:
        gear: the program for the batch size in use.
        tally: the account of all calls that have landed.
        pace: how long the next call should be.
        trouble: what went wrong, in words, or None: "not finite" or "exploded".
        bad_step: the update at which it did.
        step_seconds: by batch size, time of an update in each of the latest calls.
        compile_seconds: time that the first program took to compile, None before.
        remembers: gives what else a checkpoint is to hold: plain values, and arrays by name.
    """

    def __init__(self, engine: Engine, run: Run, begun: float | None = None):
        self.engine, self.training, self.run = engine, engine.training, run
        self.gear, self.pace = engine.gear, Pace()
        self.trouble: str | None = None
        self.bad_step: int | None = None
        self.step_seconds: dict[int, deque[float]] = {}
        self.compile_seconds: float | None = None
        self.remembers: Callable[[], tuple[dict[str, Any], dict[str, Any]]] = lambda: ({}, {})
        self._state, self.tally, self._best = self._begin()
        self.watch = engine.watch(run.last)
        self._looks = Looks(engine, self.training)
        self._air: tuple[Call, Seen, Any, float] | None = None
        self._on_device: tuple[Any, Any] = (None, None)
        self._results: tuple[int, Results] | None = None
        self._saved_moment: tuple[int, int | None] | None = None
        now = time.perf_counter()
        self._begun = now if begun is None else begun
        self._landed = self._saved = now
        self._remembered, self._copy_seconds = -math.inf, 0.0
        self._learning_rate: float | None = None
        self._seconds_before = self.tally.seconds
        self._pointed = -math.inf
        self._telling = Telling(run.journal, self.tally.num_examples)

    def _begin(self) -> tuple[Any, Tally, Params | None]:
        if self.run.last is not None:
            return self.engine.restore(self.run.last, str(self.run.folder))
        state, tally = self.engine.start(), Tally()
        self.run.last = self.engine.snapshot(state, tally, None, None)  # to roll back to
        return state, tally, None

    @property
    def healthy(self) -> bool:
        """No loss was non-finite and none has exploded."""
        return self.trouble is None

    def open(self) -> Stream:
        """The stream of blocks from where the run stands, in the gear in use."""
        stream = self.gear.open_stream(self.tally.position)
        self._stream: Stream | Replay = stream
        self._on_device = (None, None)
        self._telling.opened()
        return stream

    def change(self, gear: Gear) -> None:
        """Goes on in another gear from the next `open` on."""
        self.land()  # what was made in the gear before
        self.gear = gear
        if self.watch is not None:
            self.watch.settings = dataclasses.replace(
                self.watch.settings, batch_size=gear.batch_rows, clips=gear.clips
            )

    def start_again(self) -> None:
        """Goes on from the first parameters and a fresh optimizer; all counts go on."""
        self.land()
        self._state = self.engine.start()._replace(step=self._state.step)
        self.run.last = self.mark()  # a step that goes wrong leads back here, not to the old start

    def shapes(self) -> Any:
        """The shapes and types of the state."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), self._state)

    def fly(
        self,
        knobs: Knobs,
        num_steps: int,
        stops: Callable[[], bool],
        rows: Replay | None = None,
    ) -> None:
        """Makes so many updates from where the run stands, without evaluating or saving.

        Ends earlier where a step goes wrong, or when `stops()`.

        Args:
            rows: an open replay of the rows from here on, in place of reading them.
        """
        with self.open() if rows is None else contextlib.nullcontext(rows) as stream:
            self._stream = stream
            self._telling.pause()  # nothing is told of trials
            for call in calls(stream, self.pace, num_steps):
                self.launch(call, knobs)
                if not self.healthy or stops():
                    break
            self.land()  # nothing of it is left in the air, to be taken for a later call
        self._telling.begin(self.tally.num_examples)

    def mark(self) -> Snapshot:
        """A copy of where the run stands, to return to."""
        self.land()
        found = self.engine.snapshot(self._state, self.tally, self._best, self.watch)
        document, arrays = self.remembers()
        found.document.update(document)
        found.tensors.update(arrays)
        return found

    def hold(self) -> Held:
        """As `mark`, quicker and in memory only: for trials."""
        self.land()
        return Held(
            state=jax.tree.map(own, jax.device_get(self._state)),
            tally=self.tally.to_json(),
            best=self._best,
            watch=copy.deepcopy(self.watch),
        )

    def return_to(self, mark: Snapshot | Held) -> None:
        """Goes back to where the run stood, healthy again."""
        if isinstance(mark, Held):
            self._state, self._best = to_device(mark.state), mark.best
            self.tally, self.watch = Tally.from_json(mark.tally), copy.deepcopy(mark.watch)
        else:
            self._state, self.tally, self._best = self.engine.restore(mark, "checkpoint")
            self.watch = self.engine.watch(mark)
        self.change(self.gear)
        self.trouble = None
        self._telling.begin(self.tally.num_examples)

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
        begin = time.perf_counter()
        self._state, seen = self.gear.steps(self._state, self._on_device[1], call.windows, knobs)
        self._learning_rate = float(knobs.learning_rate) or None  # 0 where the rule holds its own
        sent = time.perf_counter()
        if self.compile_seconds is None:
            self.compile_seconds = sent - begin
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
        took = now - max(sent, self._landed)
        self.pace.saw(call.windows.count, took)
        if took > 0 and call.num_steps:
            times = self.step_seconds.setdefault(self.gear.batch_rows, deque(maxlen=KEPT_TIMES))
            times.append(took / call.num_steps)
        self._landed = now
        if call.ends_block:
            self._stream.release(call.block)
        if not self.healthy:
            return
        part = slice(call.windows.first, call.windows.first + call.windows.count)
        if not healthy:
            done = call.windows.first + int(seen.done)
            ended = int(call.block.windows.ends[call.windows.first : done].sum())
            self.trouble, self.bad_step = "not finite", self.tally.num_steps + ended + 1
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
        if self.tally.jumped and not self.tally.leapt and not self._is_worse():
            self.tally.calm()
        if self.tally.exploded:
            self.trouble, self.bad_step = "exploded", self.tally.num_steps
        elif self._telling.is_due(now, ends_epoch=call.ends_epoch):
            self._tell(now)

    def _is_worse(self) -> bool:
        """Whether the loss of the same rows lies above that at the last good state.

        The losses of other batches may be as high by themselves, where a few rows decide.
        """
        if self.run.last is None:
            return True
        good = self.engine.restore(self.run.last, "checkpoint")[0].params
        before, now = (self.engine.sample_loss(p) for p in (good, self._state.params))
        return not now <= WORSE * before

    def _tell(self, now: float) -> None:
        """Writes a progress record, and now and then one of what was measured."""
        self._telling.tell(
            now,
            self.tally,
            self._stream,
            fraction=self.fraction,
            batch_size=self.gear.batch_rows,
            learning_rate=self._learning_rate,
        )
        if self._telling.measures_now(now, self.tally.seconds):
            self.measure()
            self._telling.measured(now)

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
                num_examples=self.tally.num_examples,
                seconds=self.tally.seconds,
                batch_size=self.gear.batch_rows,
                stability=readings.stability,
                **{name: _filled(m) for name, m in found.items()},
            )
        return readings

    def write_times(self) -> None:
        """Writes how long an update of each batch size took, as seen in the latest calls."""
        if self.step_seconds:
            self.run.journal.write(
                "timed",
                step=self.tally.num_steps,
                batch_sizes=list(self.step_seconds),
                step_seconds=[list(times) for times in self.step_seconds.values()],
            )

    @property
    def fraction(self) -> float | None:
        """How much of the run is done, by whichever limit comes first; None without an end."""
        if self.engine.open_ended:
            return None
        shares = []
        if self.engine.num_steps:
            shares.append(self.tally.num_steps / self.engine.num_steps)
        elif self.training.epochs and self.engine.num_rows:
            position = self.tally.position
            done = position.epoch + position.row / self.engine.num_rows
            shares.append(done / self.training.epochs)
        if self.training.seconds:
            shares.append(self.tally.seconds / self.training.seconds)
        return max(shares, default=None)

    def evaluate(self) -> Results | None:
        """Evaluates the parameters on held-out rows, where there are any."""
        if self.engine.evaluate is None:
            return None  # without a wait: the device goes on with the next epoch
        self.land()
        if not self.healthy:
            return None
        params = self.engine.kept_params(self._state)
        results = self.engine.evaluate(params)
        self._results = self.tally.num_steps, results
        loss = float(results["loss"]) if "loss" in results else None
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
        return results

    def remember(self) -> None:
        """Keeps a good state to go back to, if making the copy takes little of the time."""
        begin = time.perf_counter()
        if begin - self._remembered < self._copy_seconds / COPY_SHARE or self.tally.rises:
            return
        self.run.last = self.mark()
        self._remembered = time.perf_counter()
        self._copy_seconds = self._remembered - begin

    def bad_rows(self) -> tuple[int, ...]:
        """Numbers of the first rows whose own loss is not finite at the last good state."""
        if self.run.last is None:
            return ()
        params = self.engine.restore(self.run.last, "checkpoint")[0].params
        return self.engine.bad_rows(params)

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
        self.run.checkpoint(self.tally.num_steps, self.mark())
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
            self.return_to(self.run.last)
        self.run.journal.write("diverged", step=self.tally.num_steps, bad_step=self.bad_step)
        return self.bad_step

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
