"""MLflow: a run in a tracking store, on this machine or on a server."""

from __future__ import annotations

import re
import time
from typing import Any

from downslope.loggers.logger import Logger, needed

SEND_SECONDS = 5.0  # between requests: one takes up to a tenth of a second; assumed
MAX_METRICS, MAX_TAGS = 1000, 100  # in one request, by MLflow's limits
_NOT_IN_KEYS = re.compile(r"[^\w\-./ ]")
MAX_TAG_LENGTH = 5000  # characters
_STATUS = {"interrupted": "KILLED", "diverged": "FAILED", None: "FAILED"}


class MLflow(Logger):
    """Log a run to MLflow: numbers as metrics, decisions and the end of the run as tags.

    Args:
        tracking_uri: the store, such as `sqlite:///mlflow.db` or a server's address; by default
            MLflow's own setting.
        experiment: created if it does not exist.
        name: of the run; by default MLflow's choice.
        run_id: of an MLflow run to continue, for a resumed run.

    Attributes:
        run_id: of the MLflow run, known from the first record on.

    Raises:
        UsageError: the package `mlflow` is not installed.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        experiment: str = "downslope",
        name: str | None = None,
        run_id: str | None = None,
    ):
        self._store = _Tracking(tracking_uri, experiment, name, run_id)
        super().__init__(self._store)

    @property
    def run_id(self) -> str | None:
        """Id of the MLflow run, None before the first record."""
        return self._store.run_id


class _Tracking:
    """The sink behind `MLflow`, which sends several records in one request."""

    def __init__(self, uri: str | None, experiment: str, name: str | None, run_id: str | None):
        self._entities = needed("mlflow.entities", "mlflow")
        self._tracking = needed("mlflow.tracking", "mlflow")
        self._uri, self._experiment, self._name, self.run_id = uri, experiment, name, run_id
        self._client: Any = None
        self._metrics: list[Any] = []
        self._tags: dict[str, str] = {}
        self._sent = 0.0

    def start(self, resumed_step: int | None) -> dict[str, int]:
        """Begin a run, or continue one after the steps that it holds."""
        client = self._client = self._tracking.MlflowClient(tracking_uri=self._uri)
        if self.run_id is None:
            found = client.get_experiment_by_name(self._experiment)
            experiment = (
                found.experiment_id if found else client.create_experiment(self._experiment)
            )
            self.run_id = client.create_run(experiment, run_name=self._name).info.run_id
            return {}
        client.update_run(self.run_id, status="RUNNING")
        keys = client.get_run(self.run_id).data.metrics
        histories = {key: client.get_metric_history(self.run_id, key) for key in keys}
        return {key: max(m.step for m in history) for key, history in histories.items()}

    def go_back(self, step: int) -> bool:
        """Return False: MLflow keeps every value."""
        return False

    def write(self, step: int, numbers: dict[str, float], texts: dict[str, str]) -> None:
        now = round(1000 * time.time())
        self._metrics += [
            self._entities.Metric(_NOT_IN_KEYS.sub("_", name), number, now, step)
            for name, number in numbers.items()
        ]
        for name, text in texts.items():
            key = f"{_NOT_IN_KEYS.sub('_', name)}/step {step:09d}"
            before = [self._tags[key]] if key in self._tags else []
            self._tags[key] = "; ".join([*before, text])[:MAX_TAG_LENGTH]
        if time.monotonic() - self._sent >= SEND_SECONDS:
            self._send()

    def _send(self) -> None:
        tags = [self._entities.RunTag(key, text) for key, text in self._tags.items()]
        metrics, self._metrics, self._tags = self._metrics, [], {}
        for start in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(self.run_id, metrics[start : start + MAX_METRICS])
        for start in range(0, len(tags), MAX_TAGS):
            self._client.log_batch(self.run_id, tags=tags[start : start + MAX_TAGS])
        self._sent = time.monotonic()

    def stop(self, reason: str | None) -> None:
        self._send()
        self._client.set_terminated(self.run_id, _STATUS.get(reason, "FINISHED"))
        self._client = None
