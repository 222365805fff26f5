"""Embeddings of scikit-learn's digits: by labels, and by views of unlabelled rows."""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import downslope
from downslope.metrics import Results
from downslope.recipes.embedding import Embedder, retrieval


def main(epochs: int | None = 8) -> downslope.Result:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, random_state=0, stratify=y)
    print(f"pixels as they are: {_told(retrieval(x_test, y_test))}")
    model = Embedder(max_iter=epochs, random_state=0).fit(x_train, labels=y_train)
    print(f"by labels: {_told(model.retrieval(x_test, y_test))}")
    print(f"  {model.collapse_}")
    _, places = model.neighbors(x_test[:1], k=5)
    print(f"  a {y_test[0]} lies near {', '.join(str(y_train[i]) for i in places[0])}")

    new = y >= 6  # digits that the next one never sees
    unseen = Embedder(max_iter=epochs, random_state=0).fit(x[~new] / 16, views="mask")
    print(f"digits 6 to 9, pixels: {_told(retrieval(x[new] / 16, y[new]))}")
    print(f"digits 6 to 9, by views of 0 to 5: {_told(unseen.retrieval(x[new] / 16, y[new]))}")
    return model.result_


def _told(found: Results) -> str:
    return f"recall@1 {found['recall@1']}, MAP@R {found['map@r']}"


if __name__ == "__main__":
    main()
