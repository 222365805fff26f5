"""A pipeline and a grid search of scikit-learn over an estimator that tunes itself."""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import downslope
from downslope.sklearn import LinearClassifier


def main(epochs: int | None = None) -> downslope.Result:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0, stratify=y)
    pipeline = make_pipeline(StandardScaler(), LinearClassifier(max_iter=epochs, random_state=0))
    search = GridSearchCV(pipeline, {"linearclassifier__alpha": [1e-4, 1e-2]}, cv=3)
    search.fit(x_train, y_train)
    best = search.best_estimator_[-1]
    print(f"alpha {best.alpha:g}, accuracy on held-out rows {search.score(x_test, y_test):.3f}")
    print(f"trained for {best.n_iter_} passes: {best.result_.stop_reason.advice}")
    return best.result_


if __name__ == "__main__":
    main()
