"""End of a run: parameters to keep, their held-out metrics, and the result."""

from __future__ import annotations

import dataclasses

import jax

from downslope.errors import StopReason
from downslope.estimate import Estimate, not_estimable
from downslope.metrics import Results
from downslope.objective import Params
from downslope.train.collect import write_measured, write_step_seconds
from downslope.train.evaluations import compare, evaluate, evaluating
from downslope.train.loop import Loop
from downslope.train.result import Result
from downslope.train.saving import save, undo
from downslope.train.spending import MEASURING

# records that a result keeps
HISTORY = ("progress", "evaluated", "measured", "anatomy", "decided", "horizon", "trial")


def finish(loop: Loop) -> Result:
    """Result of a finished run, rolled back if it diverged."""
    setup, reason = loop.setup, loop.stop_reason
    assert reason is not None
    diverged_at = _roll_back(loop) if reason is StopReason.DIVERGED else None
    if reason is not StopReason.DIVERGED:
        save(loop)  # before the evaluation below, which a longer run would not make here
    params, validation = _kept(loop)
    progress = loop.state.progress
    with loop.spending.on(MEASURING):
        readings = write_measured(loop)
    write_step_seconds(loop)
    seconds = loop.seconds
    return Result(
        params=setup.model(jax.device_get(params)),
        stop_reason=reason,
        history=[r for r in loop.run.journal.records if r["event"] in HISTORY],
        measurements={} if readings is None else readings.measurements(),
        validation=validation,
        train_loss=progress.smoothed_loss if setup.num_rows is None else progress.train_loss,
        num_steps=progress.num_steps,
        num_examples=progress.num_examples,
        num_epochs=loop.epochs,
        batch_size=loop.steps.current.batch_rows,
        learning_rate=loop.state.knobs.learning_rate,
        optimizer=setup.optimizer.name,
        seconds=seconds,
        spent_seconds=loop.spending.in_all(seconds),
        twice_as_long=_twice_as_long(loop, validation),
        shuffling=loop.steps.current.shuffling,
        diverged_at_step=diverged_at,
        signal=loop.interrupts.received if reason is StopReason.INTERRUPTED else None,
        run=loop.run.folder,
    )


def _roll_back(loop: Loop) -> int | None:
    """Return to the last good state; gives the number of the diverged update."""
    bad_step = None if loop.trouble is None else loop.trouble[1]
    undo(loop)
    step = loop.state.progress.num_steps
    loop.run.journal.write("diverged", step=step, bad_step=bad_step)
    return bad_step


def _kept(loop: Loop) -> tuple[Params, Results | None]:
    """Parameters of the lowest held-out loss, else the last ones, and their held-out metrics.

    The last ones are kept too if they reached a target, or if only a sample was evaluated, on
    which their loss is not above the lowest beyond its noise: of many evaluations of few rows the
    lowest is so by chance as well. All rows are evaluated once.
    """
    setup, step = loop.setup, loop.state.progress.num_steps
    if setup.training.patience and loop.state.held_out.evaluated_step != step:
        if loop.state.held_out.num_rows is None:  # the only evaluation: no sample is worth it
            loop.state.held_out = dataclasses.replace(
                loop.state.held_out, num_rows=setup.num_held_out
            )
        compare(loop, evaluate(loop))
    held_out = loop.state.held_out
    is_sampled = held_out.num_rows not in (None, setup.num_held_out)
    last = setup.kept_params(loop.state.device)
    params, at = held_out.params, held_out.lowest_step
    is_best = is_sampled and held_out.is_level
    if params is None or is_best or loop.stop_reason is StopReason.TARGET_REACHED:
        params, at = last, step
    if setup.evaluate is None:
        return params, None
    if loop.results is not None and loop.results[0] == at:
        return params, loop.results[1]
    with evaluating(loop, setup.evaluate):
        return params, setup.evaluate(params)


def _twice_as_long(loop: Loop, validation: Results | None) -> Estimate | None:
    """Held-out loss of a run twice as long; None unless a limit ended this one."""
    setup = loop.setup
    if loop.stop_reason not in (StopReason.FINISHED, StopReason.TIME_UP):
        return None
    if validation is None or "loss" not in validation:
        return not_estimable("no held-out loss, and a training loss may fall to 0", unit="")
    loss = validation["loss"]
    if setup.training.schedule != "flat_cosine" or not setup.training.patience:
        why = "measured only for the schedule and the patience that `fit` chooses"
        return not_estimable(why, unit=loss.unit)
    from downslope.choose.more_time import twice_as_long  # only what such runs need

    found = {}
    for record in loop.run.journal.records:
        if record["event"] == "evaluated" and record["num_rows"] == loop.state.held_out.num_rows:
            known = Estimate.from_json(record["metrics"].get("loss"))
            found |= {} if known.value is None else {record["step"]: known.value}
    return twice_as_long(list(found), list(found.values()), loss)
