"""Plain training: a value for every setting that would otherwise be chosen during training."""

from __future__ import annotations

from typing import Any

import downslope

PLAIN: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 3e-3,
    "batch_size": 128,
    "schedule": "constant",
    "warmup_steps": 0,
    "clip_norm": None,
    "average": None,
    "patience": 5,
}


LINEAR = downslope.ModelOptions(model="linear")


def command(*arguments):
    """Words of a command; `fit` trains a linear model, unless it names another, for no report."""
    words = [str(a) for a in arguments]
    if words[:1] != ["fit"]:
        return words
    linear = [] if {"--model", "--resume"} & {*words} else ["--model", "linear"]
    return [*words, *linear, "--no-report"]


def fit(loss, model, data, **options):
    """`downslope.fit` with these options, and plain values for the rest."""
    return downslope.fit(loss, model, data, **PLAIN | options)


def training(**options):
    """`downslope.Training` with these options, and plain values for the rest."""
    return downslope.Training(**PLAIN | options)
