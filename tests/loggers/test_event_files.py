"""TensorBoard's own reader says what was written."""

from __future__ import annotations

import pytest

from downslope.loggers import TensorBoard, from_name

pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")


def progress(step, loss):
    return {"event": "progress", "step": step, "loss": loss}


STARTED = {"event": "started", "step": 0, "shuffling": "fully"}
STOPPED = {"event": "stopped", "step": 30, "reason": "finished", "advice": "go on"}
DECIDED = {"event": "decided", "step": 12, "knob": "batch_size", "old": 128, "new": 256,
           "because": "zwölf times the noise"}  # fmt: skip


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    return found.Reload()


def series(folder, tag):
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_numbers_and_sentences(tmp_path):
    """Catches values that TensorBoard cannot read, and texts that it does not show as such."""
    log = from_name(f"tensorboard:{tmp_path / 'logs'}")
    for record in (STARTED, progress(10, 0.5), DECIDED, progress(20, 0.25), STOPPED):
        log(record)
    assert series(tmp_path / "logs", "train/loss") == [(10, 0.5), (20, 0.25)]
    assert series(tmp_path / "logs", "knobs/batch_size") == [(12, 256.0)]
    found = read(tmp_path / "logs")
    (event,) = found.Tensors("decisions/batch_size")
    text = "batch_size 128 -> 256: zwölf times the noise"
    assert event.step == 12 and event.tensor_proto.string_val[0].decode() == text
    metadata = found.SummaryMetadata("decisions/batch_size")
    assert metadata.plugin_data.plugin_name == "text"
    (end,) = found.Tensors("stopped")
    assert end.tensor_proto.string_val[0] == b"finished: go on"


def test_a_resumed_run_goes_on_without_double_steps(tmp_path):
    """Catches a second file whose steps overlap the first: killed at 30, saved at 20."""
    first = TensorBoard(tmp_path)
    for record in (STARTED, progress(10, 3.0), progress(20, 2.0), progress(30, 1.0)):
        first(record)
    first.close()
    second = TensorBoard(tmp_path)
    for record in ({"event": "resumed", "step": 20}, progress(28, 1.5), progress(40, 0.5)):
        second(record)
    second.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert series(tmp_path, "train/loss") == [(10, 3.0), (20, 2.0), (28, 1.5), (40, 0.5)]


def test_what_was_undone_is_gone(tmp_path):
    """Catches steps that are shown although the run took them back."""
    with TensorBoard(tmp_path) as log:
        for record in (STARTED, progress(10, 3.0), progress(20, 99.0)):
            log(record)
        log({"event": "undone", "step": 10, "what": "exploded"})
        log(progress(15, 2.0))
        log(progress(20, 1.0))
    assert series(tmp_path, "train/loss") == [(10, 3.0), (15, 2.0), (20, 1.0)]


def test_nothing_is_made_before_the_first_record(tmp_path):
    TensorBoard(tmp_path / "logs").close()
    assert not (tmp_path / "logs").exists()
