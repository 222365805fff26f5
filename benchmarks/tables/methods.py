"""Methods: each trains on a table's rows and predicts others, nothing tuned."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import downslope
from benchmarks.tables.sets import Split, TableSet

if TYPE_CHECKING:
    import pandas

DOWNSLOPE = "downslope"
CONSTANT = "constant"
BINS = 15


class Outcome(NamedTuple):
    """Predictions for the test rows: numbers [n] or probabilities [n, classes], and the time."""

    predictions: np.ndarray
    seconds: float


Method = Callable[[TableSet, Split, list[Any], int], Outcome]


def _downslope(model: str | None) -> Method:
    """`downslope fit` in Python: the time is that of training and predicting."""

    def run(table: TableSet, split: Split, classes: list[Any], seed: int) -> Outcome:
        import tempfile

        from downslope.table.fit import fit
        from downslope.table.predict import predict

        options = downslope.TableOptions(target=table.target, task=table.task, seed=seed)
        chosen = None if model is None else downslope.ModelOptions(model=model)  # pyright: ignore
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            fit(split.train, options, chosen, out=f"{folder}/run")
            found = predict(f"{folder}/run", split.test).table
            seconds = time.perf_counter() - begin
        assert found is not None
        if table.task == "regress":
            return Outcome(found["prediction"].to_numpy(), seconds)
        parts = [found[f"probability_{c}"].to_numpy() for c in classes]
        return Outcome(np.stack(parts, axis=1), seconds)

    return run


def _codes(split: Split, target: str) -> Split:
    """Strings as pandas categories, the same for both parts."""
    import pandas

    train, test = split.train.drop(columns=target), split.test.drop(columns=target)
    for name in train.columns:
        if train[name].dtype.kind not in "ifub":
            values = pandas.Index(train[name].dropna().astype(str).unique())
            kind = pandas.CategoricalDtype(values)
            train[name] = train[name].astype(str).where(train[name].notna()).astype(kind)
            test[name] = test[name].astype(str).where(test[name].notna()).astype(kind)
    return Split(train, test)


def _fitted(table: TableSet, split: Split, estimator: Any, x: Any, classes: list[Any]) -> Outcome:
    begin = time.perf_counter()
    estimator.fit(x.train, split.train[table.target])
    if table.task == "regress":
        found = np.asarray(estimator.predict(x.test))
    else:
        given = estimator.predict_proba(x.test)
        found = np.zeros((len(given), len(classes)))
        for column, name in enumerate(estimator.classes_):
            found[:, classes.index(name)] = given[:, column]
    return Outcome(found, time.perf_counter() - begin)


def _lightgbm(table: TableSet, split: Split, classes: list[Any], seed: int) -> Outcome:
    import lightgbm

    kind = lightgbm.LGBMRegressor if table.task == "regress" else lightgbm.LGBMClassifier
    estimator = kind(random_state=seed, verbose=-1)
    return _fitted(table, split, estimator, _named(_codes(split, table.target)), classes)


def _named(split: Split) -> Split:
    """Column names that LightGBM takes."""
    names = {name: f"c{place}" for place, name in enumerate(split.train.columns)}
    return Split(split.train.rename(columns=names), split.test.rename(columns=names))


def _hist(table: TableSet, split: Split, classes: list[Any], seed: int) -> Outcome:
    from sklearn import ensemble

    kinds = ensemble.HistGradientBoostingRegressor, ensemble.HistGradientBoostingClassifier
    # it takes 255 categories at most; columns with more are numbered
    coded = _codes(split, table.target)
    for name in coded.train.columns:
        values = coded.train[name]
        if values.dtype.name == "category" and len(values.cat.categories) > 250:
            coded.train[name], coded.test[name] = values.cat.codes, coded.test[name].cat.codes
    estimator = kinds[table.task == "classify"](
        random_state=seed, categorical_features="from_dtype"
    )
    return _fitted(table, split, estimator, coded, classes)


def _categories_as_strings(split: Split, target: str) -> Split:
    """Numbers without gaps, the median in their place, and strings, a word where one is missing."""
    train, test = split.train.drop(columns=target), split.test.drop(columns=target)
    for name in train.columns:
        if train[name].dtype.kind in "ifub":
            middle = train[name].median()
            train[name], test[name] = (p[name].astype(float).fillna(middle) for p in (train, test))
        else:
            train[name], test[name] = (
                p[name].astype(str).where(p[name].notna(), "missing") for p in (train, test)
            )
    return Split(train, test)


def _pytabkit(kind: str) -> Method:
    """A net of pytabkit at its tuned defaults, on the CPU."""

    def run(table: TableSet, split: Split, classes: list[Any], seed: int) -> Outcome:
        import pytabkit

        task = "Regressor" if table.task == "regress" else "Classifier"
        estimator = getattr(pytabkit, f"{kind}_{task}")(random_state=seed, device="cpu")
        x = _categories_as_strings(split, table.target)
        return _fitted(table, split, estimator, x, classes)

    return run


def _catboost(table: TableSet, split: Split, classes: list[Any], seed: int) -> Outcome:
    import catboost

    kind = catboost.CatBoostRegressor if table.task == "regress" else catboost.CatBoostClassifier
    x = _categories_as_strings(split, table.target)
    names = [name for name in x.train.columns if x.train[name].dtype.kind not in "ifub"]
    estimator = kind(
        random_state=seed, verbose=False, cat_features=names, allow_writing_files=False
    )
    return _fitted(table, split, estimator, x, classes)


def _xgboost(table: TableSet, split: Split, classes: list[Any], seed: int) -> Outcome:
    import xgboost

    kind = xgboost.XGBRegressor if table.task == "regress" else xgboost.XGBClassifier
    numbered = [p.assign(**{table.target: _places(p[table.target], classes)}) for p in split]
    estimator = kind(random_state=seed, enable_categorical=True)
    x = _named(_codes(split, table.target))
    places = list(range(len(classes)))
    return _fitted(table, Split(*numbered), estimator, x, places)


def _places(target: Any, classes: list[Any]) -> Any:
    return target.map(classes.index) if classes else target


def _linear(table: TableSet, split: Split, classes: list[Any], seed: int) -> Outcome:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    coded = _codes(split, table.target)
    encode = make_column_transformer(
        (
            make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
            make_column_selector(dtype_exclude="category"),
        ),
        (
            OneHotEncoder(handle_unknown="ignore", min_frequency=2),
            make_column_selector(dtype_include="category"),
        ),
    )
    last = (
        RidgeCV(np.geomspace(1e-3, 1e3, 13))
        if table.task == "regress"
        else LogisticRegression(max_iter=2000)
    )
    return _fitted(table, split, make_pipeline(encode, last), coded, classes)


def _constant(table: TableSet, split: Split, classes: list[Any], seed: int) -> Outcome:
    y = split.train[table.target]
    if table.task == "regress":
        return Outcome(np.full(len(split.test), y.mean()), 0.0)
    shares = y.value_counts(normalize=True).reindex(classes).to_numpy()
    return Outcome(np.tile(shares, (len(split.test), 1)), 0.0)


METHODS: dict[str, Method] = {
    DOWNSLOPE: _downslope(None),
    "downslope linear": _downslope("linear"),
    "downslope mlp": _downslope("mlp"),
    "logistic or ridge": _linear,
    "LightGBM": _lightgbm,
    "HistGradientBoosting": _hist,
    "XGBoost": _xgboost,
    "CatBoost": _catboost,
    "RealMLP": _pytabkit("RealMLP_TD"),
    "TabM": _pytabkit("TabM_D"),
    CONSTANT: _constant,
}


def losses_of(
    table: TableSet, test: pandas.DataFrame, found: np.ndarray, classes: list[Any]
) -> np.ndarray:
    """Loss of each test row [n]: log loss in nats, or squared error."""
    y = test[table.target]
    if table.task == "regress":
        return (found - y.to_numpy(float)) ** 2
    places = np.array([classes.index(v) for v in y])
    return -np.log(np.clip(found[np.arange(len(found)), places], 1e-7, 1))


def calibration_error(y: np.ndarray, found: np.ndarray) -> float:
    """Expected calibration error of the predicted class, 15 bins of equal width.

    Source: Guo et al. (2017), equation 3.
    """
    sure, is_right = found.max(axis=1), found.argmax(axis=1) == y
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs((sure - is_right)[bins == b].sum()) for b in range(BINS)]
    return float(np.sum(gaps) / len(y))
