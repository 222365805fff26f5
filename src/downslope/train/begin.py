"""Start of a run: the loop at its first update, or at its last checkpoint."""

from __future__ import annotations

from downslope.choose.controller import Context
from downslope.config import Training
from downslope.launch.interrupts import Interrupts
from downslope.train.compiled_step import CompiledSteps
from downslope.train.diagnostics import Diagnostics
from downslope.train.dispatch import Dispatcher
from downslope.train.loop import Loop, change_step, follow_horizon
from downslope.train.progress_writer import ProgressWriter
from downslope.train.run_folder import RunFolder
from downslope.train.setup import TrainSetup
from downslope.train.state import begin_state, from_checkpoint


def begin(
    setup: TrainSetup, asked: Training, run: RunFolder, interrupts: Interrupts, begun: float
) -> Loop:
    """Create the loop of a new run, or restore it from the run's last checkpoint."""
    context, last = context_of(setup, asked), run.last
    if last is None:
        state = begin_state(setup, context)
        run.last = state.to_checkpoint(setup.fingerprint)  # a first good state to return to
    else:
        state = from_checkpoint(last, setup, context, str(run.folder))
    steps = CompiledSteps(setup.make_step, setup.first_step)
    loop = Loop(
        setup=setup,
        context=context,
        run=run,
        state=state,
        interrupts=interrupts,
        dispatcher=Dispatcher(tracks=state.monitor is not None),
        steps=steps,
        writer=ProgressWriter(run.journal, state.progress.num_examples),
        diagnostics=Diagnostics(setup) if setup.training.anatomy_share is not None else None,
        begun=begun,
        seconds_before=state.progress.seconds,
    )
    if state.knobs.batch_size != steps.current.batch_rows:
        change_step(loop, steps.change(state.knobs.batch_size))
    if state.knobs.clip_norm is not None and not steps.current.clips:
        change_step(loop, steps.clip())  # turned on before the interruption
    run.journal.write(
        "started" if last is None else "resumed",
        step=state.progress.num_steps,
        shuffling=steps.current.shuffling,
    )
    for decision in setup.first_decisions if last is None else ():
        run.journal.write("decided", step=0, seconds=0.0, **decision.to_json())
    follow_horizon(loop)
    return loop


def context_of(setup: TrainSetup, asked: Training) -> Context:
    """Facts about a run that controllers know before its first update."""
    epoch_steps = None if setup.num_rows is None else setup.num_rows / setup.batch_rows
    limits = [] if setup.num_steps is None else [float(setup.num_steps)]
    if setup.training.epochs is not None and epoch_steps is not None:
        limits.append(setup.training.epochs * setup.num_rows / setup.batch_rows)  # type: ignore[operator]
    return Context(
        training=setup.training,
        free=asked.free,
        has_end=setup.has_end,
        has_held_out=setup.evaluate is not None,
        epoch_steps=epoch_steps,
        run_steps=min(limits, default=None),
        is_plain=setup.optimizer.traits.is_plain,
        finds_rate=setup.optimizer.traits.finds_rate,
        can_change_batch=setup.can_change,
        max_batch_size=setup.most_rows,
        default_rate=setup.optimizer.learning_rate,
        has_clock=setup.costs is None or setup.training.seconds is not None,
    )
