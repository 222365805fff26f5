"""A support vector machine on scikit-learn's digits, with a proof of how good it is."""

from __future__ import annotations

import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

import downslope
from downslope.recipes.svm import SVM


def main(epochs: int | None = None) -> downslope.Result:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, random_state=0, stratify=y)
    machines = {
        "one against the rest": SVM(max_iter=epochs, random_state=0),
        "Crammer and Singer": SVM(
            multi_class="crammer_singer", C=0.1, max_iter=epochs, random_state=0
        ),
        "RBF kernel, 500 features": SVM(
            loss="squared_hinge", kernel="rbf", C=10, max_iter=epochs, random_state=0
        ),
    }
    for name, model in machines.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the sentence says the same
            model.fit(x_train, y_train)
        print(f"{name}: {model.score(x_test, y_test):.3f} of the held-out digits are right.")
        print(f"  {model.certificate_}")
    return model.result_


if __name__ == "__main__":
    main()
