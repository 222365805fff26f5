"""Estimators compared with the nearest of scikit-learn: quality on held-out rows, and time.

python -m benchmarks.estimators
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from sklearn import linear_model, neural_network, svm
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, make_classification
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from downslope import sklearn as ours

REPEATS = 3


def tables() -> dict[str, tuple[str, Any]]:
    """Real tables, and a made one of 100,000 rows; by name, with their task."""
    many = make_classification(
        100_000, 30, n_informative=15, n_classes=3, class_sep=0.8, flip_y=0.05, random_state=0
    )
    wide, _ = many
    draw = np.random.default_rng(0)
    numbers = wide @ draw.normal(size=30) + np.sin(wide[:, 0]) * 3 + draw.normal(size=len(wide))
    return {
        "digits": ("classes", load_digits(return_X_y=True)),
        "breast_cancer": ("classes", load_breast_cancer(return_X_y=True)),
        "100k rows, 3 classes": ("classes", many),
        "diabetes": ("numbers", load_diabetes(return_X_y=True)),
        "100k rows, a number": ("numbers", (wide, numbers)),
    }


def pairs(task: str, rows: int) -> list[tuple[Any, Any]]:
    """Ours and theirs, each with its defaults except where the problem would differ."""
    if task == "numbers":
        return [
            (ours.LinearRegressor(), linear_model.LinearRegression()),
            (ours.LinearRegressor(optimizer="adam"), linear_model.SGDRegressor()),
            (ours.MLPRegressor(), neural_network.MLPRegressor(hidden_layer_sizes=(64, 64))),
        ]
    c = 1 / (1e-4 * rows)
    return [
        (ours.LinearClassifier(), linear_model.LogisticRegression(C=c)),
        (ours.LinearClassifier(), linear_model.SGDClassifier("log_loss")),
        (ours.LinearSVC(), svm.LinearSVC(C=c)),
        (ours.MLPClassifier(), neural_network.MLPClassifier((64, 64))),
    ]


def measure(model: Any, data: Any) -> tuple[float, float, float]:
    """Seconds of the first fit, median of later ones, and the mean held-out score."""
    x_train, x_test, y_train, y_test = train_test_split(*data, test_size=0.25, random_state=0)
    seconds, scores = [], []
    for seed in range(1 + REPEATS):
        piece = clone(model)
        if "random_state" in piece.get_params():
            piece.set_params(random_state=seed)
        pipeline = make_pipeline(StandardScaler(), piece)
        begin = time.perf_counter()
        pipeline.fit(x_train, y_train)
        seconds.append(time.perf_counter() - begin)
        scores.append(pipeline.score(x_test, y_test))
    return seconds[0], float(np.median(seconds[1:])), float(np.mean(scores))


def main() -> None:
    warnings.simplefilter("ignore")  # of scikit-learn's limits on passes
    print("| table | estimator | score | first fit, s | next fit, s | nearest | score | fit, s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (task, data) in tables().items():
        for mine, other in pairs(task, len(data[1])):
            first, later, score = measure(mine, data)
            _, seconds, known = measure(other, data)
            print(
                f"| {name} | {type(mine).__name__} | {score:.3f} | {first:.2f} | {later:.2f} "
                f"| {type(other).__name__} | {known:.3f} | {seconds:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
