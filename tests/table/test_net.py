"""The net of a table: its scaling, its members, its dropout, and what it can learn."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax

import plain
from downslope import ModelOptions, TableOptions
from downslope.data.stored import TableBatch
from downslope.models import Lookup
from downslope.table.fit import fit
from downslope.table.model import TableModel
from downslope.table.net import Net, Scaling, mean_logits
from downslope.table.predict import predict

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROWS = 2000


def _batch(rng, count=7):
    x = rng.normal(size=(count, 3)).astype("float32")
    codes = np.stack([rng.integers(0, 5, count), rng.integers(0, 40, count)], 1).astype("int32")
    return TableBatch(x, codes, None, None)


def _net(**options):
    scaling = Scaling(
        center=(0.0, 1.0, 0.0), spread=(1.0, 2.0, 1.0), periodic=(0, 1), range=(-1.0, 1.0)
    )
    lookups = (Lookup("few", 5, 0, 1), Lookup("many", 40, 1, 1))
    defaults = {"hidden": (8, 4), "num_outputs": 2, "members": 3}
    return Net(scaling=scaling, lookups=lookups, **{**defaults, **options})


def _shaken(params, seed=0):
    """Parameters with a last layer that is not 0."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a + 0.3 * rng.normal(size=a.shape).astype(a.dtype), params)


def test_numbers_are_scaled_by_their_median_and_quartiles() -> None:
    """Catches mean and deviation, an indicator that is moved, and a division by 0."""
    rng = np.random.default_rng(0)
    rare = np.where(rng.random(999) < 0.1, 6.0, 2.0)  # both quartiles are 2
    wild = rng.standard_cauchy(999)
    mark = (rng.random(999) < 0.3).astype(float)
    x = np.stack([wild, rare, np.full(999, 3.0), mark], 1).astype("float32")
    found = Scaling.of(x, np.array([-2.0, 5.0]), num_indicators=1)
    low, middle, high = np.quantile(wild, [0.25, 0.5, 0.75])
    assert_allclose(found.center, [middle, 2, 3, 0], rtol=1e-5)
    assert_allclose(found.spread, [high - low, 2, 1, 1], rtol=1e-5)
    assert found.periodic == (0,)  # the others have too few values
    assert found.range == (-2.0, 5.0)
    assert Scaling.from_json(json.loads(json.dumps(found.to_json()))) == found
    wide = rng.normal(size=(50, 129)).astype("float32")
    assert len(Scaling.of(wide[:, 1:], np.zeros(50), num_indicators=0).periodic) == 128
    assert Scaling.of(wide, np.zeros(50), num_indicators=0).periodic == ()  # too slow


def test_members_do_not_touch_each_other() -> None:
    """Catches a gradient, or dropout, that one member shares with another."""
    net, rng = _net(), np.random.default_rng(0)
    batch, params = _batch(rng), _shaken(net.init(0))
    key = jax.random.key(1)

    def second(params):
        return net.outputs(params, batch, key)[1].sum()

    slopes = jax.grad(second)(params)
    for leaf in jax.tree.leaves(slopes):
        assert not np.any(leaf[0]) and not np.any(leaf[2])
    assert all(np.any(leaf[1]) for leaf in jax.tree.leaves(slopes["layers"]))
    first = net.outputs(params, batch, key)
    assert not np.allclose(first[0], first[1])
    alone = _net(members=1).outputs(jax.tree.map(lambda a: a[1:2], params), batch)
    assert_allclose(alone[0], net.outputs(params, batch)[1], rtol=1e-5, atol=1e-6)


def test_only_training_leaves_out_units() -> None:
    """Catches dropout in evaluations, and outputs whose mean it moves."""
    net, rng = _net(members=1, dropout=0.4, hidden=(400,)), np.random.default_rng(0)
    batch, params = _batch(rng), _shaken(net.init(0))
    whole = net.outputs(params, batch)
    assert_array_equal(whole, net.outputs(params, batch))
    drawn = np.stack([net.outputs(params, batch, jax.random.key(i)) for i in range(300)])
    assert not np.allclose(drawn[0], drawn[1])
    error = drawn.std(0) / np.sqrt(300)
    assert (abs(drawn.mean(0) - whole) < 5 * error).all()


def test_first_outputs_are_zero_and_codes_matter() -> None:
    net, rng = _net(), np.random.default_rng(0)
    batch = _batch(rng)
    assert not np.any(net.outputs(net.init(0), batch))
    params = _shaken(net.init(0))
    before = np.asarray(net.outputs(params, batch))
    for column in (0, 1):
        codes = batch.codes.copy()
        codes[0, column] = (codes[0, column] + 1) % 5
        after = np.asarray(net.outputs(params, batch._replace(codes=codes)))
        assert not np.allclose(before[:, 0], after[:, 0])
        assert_array_equal(before[:, 1:], after[:, 1:])


def test_members_are_averaged_as_probabilities() -> None:
    """Catches a mean of logits. Oracle: SciPy."""
    rng = np.random.default_rng(0)
    two, many = 3 * rng.normal(size=(4, 6)), 3 * rng.normal(size=(4, 6, 5))
    assert_allclose(expit(mean_logits(jnp.array(two))), expit(two).mean(0), rtol=1e-5)
    found = softmax(mean_logits(jnp.array(many)), axis=-1)
    assert_allclose(found, softmax(many, axis=-1).mean(0), rtol=1e-5)


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))

    def fitted(columns, **training):
        steps = {"optimizer": "nadam", "learning_rate": 0.03, "batch_size": 64, **training}
        return fit(
            pa.table(columns), TableOptions(target="y"), ModelOptions(model="net", hidden=(32, 32)),
            plain.training(**steps), out=tmp_path / "run",
        )  # fmt: skip

    return fitted


def test_what_is_kept_predicts_what_was_evaluated(fitted, tmp_path) -> None:
    """Catches dropout in the metrics, predictions out of range, and a scaling that is lost."""
    rng = np.random.default_rng(0)
    x, kind = rng.uniform(-2, 2, ROWS), rng.choice(["a", "b"], ROWS)
    y = np.sin(5 * x) * np.where(kind == "a", 1, -1)
    training = {"steps": 1500, "optimizer": "adam", "learning_rate": 0.01, "patience": None}
    found = fitted({"x": x, "kind": kind, "y": y}, **training)
    assert found.result.validation["rmse"].value < 0.45  # of 0.71
    assert found.result.validation["loss"].value == pytest.approx(
        (found.result.validation["rmse"].value / y.std()) ** 2 / 2, rel=0.02
    )
    again = TableModel.from_json(json.loads(json.dumps(found.model.to_json())))
    assert again == found.model
    far = pa.table({"x": [1e3, -1e3, 0.3], "kind": ["a", "b", "a"]})
    predicted = predict(tmp_path / "run", far).table["prediction"].to_numpy()
    assert (abs(predicted) <= abs(y).max() + 1e-6).all()
    assert predicted[2] == pytest.approx(np.sin(1.5), abs=0.5)


@pytest.mark.slow
def test_a_plateau_is_crossed_with_nothing_said(tmp_path, monkeypatch) -> None:
    """Catches a patience that takes a plateau for a floor, and frequencies too low to see it."""
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    x, kind = rng.normal(size=(ROWS, 6)), rng.choice(["a", "b"], ROWS)
    y = np.sin(5 * x[:, 0]) * np.where(kind == "a", 1, -1)
    columns = {f"x{i}": x[:, i] for i in range(6)} | {"kind": kind, "y": y}
    found = fit(pa.table(columns), TableOptions(target="y"))
    assert found.model.parts == ("net",)
    assert found.result.validation["rmse"].value < 0.2  # 0.7 of a constant
