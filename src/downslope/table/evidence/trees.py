"""The model beside gradient-boosted trees of scikit-learn at their defaults, where it is installed.

For tables trees are what people use. Where they are better, the report says so.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from downslope.data.stored import TableBatch
from downslope.report.journal import Record
from downslope.table.evidence.baselines import in_units, metric_of, predictions_of
from downslope.table.evidence.context import Context, Skipped
from downslope.table.evidence.intervals import ends
from downslope.table.evidence.predictions import counted
from downslope.table.model import TableModel

RUN_SHARE = 0.2  # of the run's time
MIN_SECONDS = 0.5  # below, importing scikit-learn would be most of it
MAX_TREES, FIRST_TREES = 100, 10  # scikit-learn's default; those that are timed
CELLS_PER_SECOND = 5_000_000  # rows times columns: about what binning and 100 trees take; assumed
MIN_ROWS = 2000
MAX_CATEGORIES = 254  # that scikit-learn tells apart


def trees(context: Context) -> Record:
    """The held-out score of histogram gradient boosting, on the rows that the model is judged on.

    It is trained on the encoded rows in at most a fifth of the run's time: on some of the rows, or
    with fewer trees, where all would take longer.
    """
    seconds = RUN_SHARE * context.run_seconds
    if seconds < MIN_SECONDS:
        raise Skipped(f"a fifth of the run, {seconds:.2g} s, is too short to fit them")
    end = time.perf_counter() + seconds
    sample, metric = context.held_out_sample(), metric_of(context)
    if metric.levels:
        raise Skipped("fitted for means and classes only, not for quantiles")
    ensemble = _ensemble()
    rows, model = context.stored.train, context.model
    most = int(CELLS_PER_SECOND * (end - time.perf_counter()) / model.encoding.width)
    count = min(rows.num_rows, max(MIN_ROWS, most))
    train = rows.unpack(rows.read(0, count))
    estimator = _estimator(ensemble, model, metric.name)
    num_trees = _fit(estimator, train, model, end)
    x = inputs(model, sample.batch)
    if metric.name == "log_loss":
        given = estimator.predict_proba(x)
        found = np.zeros((len(given), len(model.encoding.classes)))
        found[:, estimator.classes_.astype(int)] = given
    else:
        found = estimator.predict(x)
        found = found if metric.name == "accuracy" else in_units(context, found)
    ours = predictions_of(context, metric, context.outputs(sample))
    truth, weight, ours, theirs = counted(sample, ours, found)
    truth = in_units(context, truth)
    values, others = metric.rows(truth, ours), metric.rows(truth, theirs)
    gain = metric.gain(others, values, weight)
    how = f"{num_trees} trees of scikit-learn, otherwise at its defaults, on {count:,} of "
    return {
        "metric": metric.name, "unit": metric.unit, "lower_is_better": metric.lower_is_better,
        "num_rows": len(truth), "model": ends(metric.estimate(values, weight)),
        "trees": ends(metric.estimate(others, weight)), "gain_over_trees": gain and ends(gain),
        "num_trees": num_trees, "how": f"{how}{rows.num_rows:,} training rows",
    }  # fmt: skip


def _ensemble() -> Any:
    try:
        from sklearn import ensemble
    except ImportError as error:
        raise Skipped("scikit-learn is not installed") from error
    return ensemble


def _estimator(ensemble: Any, model: TableModel, metric: str) -> Any:
    categorical = [
        model.encoding.num_numeric + place
        for place, table in enumerate(_single(model))
        if table.num_codes <= MAX_CATEGORIES
    ]
    options = {"categorical_features": categorical or None, "warm_start": True, "random_state": 0}
    if metric in ("log_loss", "accuracy"):
        return ensemble.HistGradientBoostingClassifier(**options)
    loss = "squared_error" if metric == "rmse" else "absolute_error"
    return ensemble.HistGradientBoostingRegressor(loss=loss, **options)


def _fit(estimator: Any, train: TableBatch, model: TableModel, end: float) -> int:
    """Fit until the time is over; returns the number of trees."""
    x, y, weight = inputs(model, train), np.asarray(train.y), np.asarray(train.weight)
    begin = time.perf_counter()
    estimator.set_params(max_iter=FIRST_TREES).fit(x, y, sample_weight=weight)
    each = (time.perf_counter() - begin) / FIRST_TREES
    more = int((end - time.perf_counter()) / each)
    if more > 0:
        estimator.set_params(max_iter=min(MAX_TREES, FIRST_TREES + more))
        estimator.fit(x, y, sample_weight=weight)
    return int(estimator.n_iter_)


def inputs(model: TableModel, batch: TableBatch) -> np.ndarray:
    """Numbers, and the code of every column of categories, [n, columns]; text is left out."""
    codes = [np.asarray(batch.codes)[:, table.first_slot] for table in _single(model)]
    return np.column_stack([np.asarray(batch.x), *codes])


def _single(model: TableModel) -> list[Any]:
    return [table for table in model.lookups if table.num_slots == 1]
