"""MLflow's own client says what was written, to a database on this machine."""

from __future__ import annotations

import pytest

from downslope.loggers import MLflow, from_name

pytest.importorskip("mlflow", reason="needs MLflow: pip install 'downslope[mlflow]'")
pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy, for a local store")
# MLflow and its store use what their own dependencies deprecate; that is no fault of ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One store for all tests: its tables take seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'store.db'}"


def progress(step, loss):
    return {"event": "progress", "step": step, "loss": loss}


STARTED = {"event": "started", "step": 0, "shuffling": "fully"}
DECIDED = {"event": "decided", "step": 12, "knob": "batch_size", "old": 128, "new": 256,
           "because": "noise allows it"}  # fmt: skip


def stopped(reason="finished"):
    return {"event": "stopped", "step": 30, "reason": reason, "advice": "go on"}


def client(uri):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def series(uri, run_id, key):
    history = client(uri).get_metric_history(run_id, key)
    return sorted((metric.step, metric.value) for metric in history)


@pytest.mark.slow
def test_numbers_and_sentences(uri):
    """Catches metrics without steps, names that MLflow refuses, and a run left running."""
    log = MLflow(uri, experiment="trials", name="first")
    metrics = {"f1 [macro]": {"value": 0.5, "lo": 0.25, "hi": 0.75}}
    evaluated = {"event": "evaluated", "step": 20, "metrics": metrics}
    for record in (STARTED, progress(10, 0.5), DECIDED, progress(20, 0.25), evaluated, stopped()):
        log(record)
    assert series(uri, log.run_id, "train/loss") == [(10, 0.5), (20, 0.25)]
    assert series(uri, log.run_id, "held_out/f1 _macro__lo") == [(20, 0.25)]
    run = client(uri).get_run(log.run_id)
    tags = run.data.tags
    assert tags["decisions/batch_size/step 000000012"] == "batch_size 128 -> 256: noise allows it"
    assert tags["stopped/step 000000030"] == "finished: go on"
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert client(uri).get_experiment(run.info.experiment_id).name == "trials"


def test_a_resumed_run_goes_on_without_double_steps(uri):
    """Catches values logged twice: killed at 30, saved at 20."""
    first = MLflow(uri)
    with first:
        for record in (STARTED, progress(10, 3.0), progress(20, 2.0), progress(30, 1.0)):
            first(record)
    assert client(uri).get_run(first.run_id).info.status == "FAILED"
    second = MLflow(uri, run_id=first.run_id)
    for record in ({"event": "resumed", "step": 20}, progress(28, 1.5), progress(30, 1.0)):
        second(record)
    second(progress(40, 0.5))
    second(stopped("interrupted"))
    assert series(uri, first.run_id, "train/loss") == [(10, 3.0), (20, 2.0), (30, 1.0), (40, 0.5)]
    assert client(uri).get_run(first.run_id).info.status == "KILLED"


def test_requests_are_few_and_within_limits(uri, monkeypatch):
    """Catches a request for every record, which a server far away would slow training by."""
    log = from_name(f"mlflow:{uri}")
    log(STARTED)
    log(progress(0, 1.0))
    sizes, send = [], type(log._store._client).log_batch
    monkeypatch.setattr(
        type(log._store._client),
        "log_batch",
        lambda self, run_id, metrics=(), tags=(): (
            sizes.append((len(metrics), len(tags))) or send(self, run_id, metrics, (), tags)
        ),
    )
    for step in range(1, 1202):
        log(progress(step, 1 / step))
    for step in range(120):
        log({**DECIDED, "step": step, "new": "a word"})
    log(stopped())
    assert sum(n for n, _ in sizes) == 1201 and sum(n for _, n in sizes) == 121
    assert max(n for n, _ in sizes) <= 1000 and max(n for _, n in sizes) <= 100
    assert len(sizes) < 12
