"""Exact statistics at the end, prediction by them, and use inside `downslope.fit`."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import downslope
from downslope import DataError, UsageError
from downslope.recipes import batch_norm as bn

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1000, 4)).astype("f4") * np.float32([1, 5, 0.1, 20]) + 3
LAB = np.array(["Rome", "Bern", "Oslo"])[RNG.integers(0, 3, 1000)]
X[LAB == "Oslo"] += 7
MODEL = {
    "into": RNG.normal(size=(4, 6)).astype("f4"),
    "norm": {"scale": np.full(6, 1.5, "f4"), "shift": np.full(6, 0.3, "f4")},
    "out": RNG.normal(size=(6, 3)).astype("f4"),
}


def net(model, x, norm):
    hidden = jnp.tanh(norm("first", x @ model["into"], model["norm"]))
    return norm("second", hidden @ model["out"])


def truth(x, labs, weight, epsilon=1e-5):
    """Statistics of both layers by NumPy in float64, rows of a laboratory together."""
    z, found = x.astype(np.float64) @ MODEL["into"].astype(np.float64), []
    for place in range(2):
        normal, means, variances = np.empty_like(z), [], []
        for lab in np.unique(labs):
            own = labs == lab
            means.append(np.average(z[own], axis=0, weights=weight[own]))
            variances.append(np.average((z[own] - means[-1]) ** 2, axis=0, weights=weight[own]))
            normal[own] = (z[own] - means[-1]) / np.sqrt(variances[-1] + epsilon)
        found.append((np.array(means), np.array(variances)))
        if place == 0:
            hidden = np.tanh(normal * MODEL["norm"]["scale"] + MODEL["norm"]["shift"])
            z = hidden @ MODEL["out"].astype(np.float64)
    return found, normal


ONE = np.ones(1000)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("block_rows", [None, 7, 256])
def test_statistics_are_exact_whatever_the_block(wide, block_rows):
    """Catches a mean of blocks' means (7 leaves a rest of 6), and layers that are not frozen."""
    with jax.enable_x64(wide):
        data = X.astype("f8") if wide else X
        found = bn.population_statistics(net, MODEL, data, block_rows=block_rows)
    (layers, _) = truth(X, np.zeros(1000), ONE)
    for each, (mean, variance) in zip(found.layers.values(), layers, strict=True):
        assert each.mean.dtype == np.float64 and each.mean.ndim == 1
        np.testing.assert_allclose(each.mean, mean[0], rtol=0, atol=1e-13 if wide else 3e-6)
        np.testing.assert_allclose(each.variance, variance[0], rtol=1e-11 if wide else 3e-6)
    assert list(found.layers) == ["first", "second"] and found.num_rows == 1000


@pytest.mark.parametrize("block_rows", [None, 64])
def test_statistics_of_laboratories_with_weights(block_rows):
    weight = RNG.random(1000) + 0.1
    found = bn.population_statistics(
        net, MODEL, X, lab=LAB, weight=weight, block_rows=block_rows, epsilon=1e-3
    )
    layers, normal = truth(X, LAB, weight, epsilon=1e-3)
    assert found.labs == ("Bern", "Oslo", "Rome")
    for each, (mean, variance) in zip(found.layers.values(), layers, strict=True):
        np.testing.assert_allclose(each.mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(each.variance, variance, rtol=1e-4)
    predict = bn.Predictor(net=net, model=MODEL, population=found)
    np.testing.assert_allclose(predict(X, LAB), normal, atol=1e-4)
    few = np.array([3, 500, 999])
    np.testing.assert_allclose(predict(X[few], LAB[few]), normal[few], atol=1e-4)
    again = pickle.loads(pickle.dumps(predict))
    np.testing.assert_array_equal(again(X[few], LAB[few]), predict(X[few], LAB[few]))


def test_sources_and_frames_give_the_same(tmp_path):
    np.save(tmp_path / "x.npy", X)
    source = downslope.open(tmp_path / "x.npy")
    codes = np.unique(LAB, return_inverse=True)[1].astype("f4")
    plain = bn.population_statistics(net, MODEL, X, lab=codes)
    with_labs = {"x": X, "lab": codes}
    found = [
        bn.population_statistics(
            net, MODEL, with_labs, lab=lambda b: b["lab"], inputs=lambda b: b["x"]
        ),
        bn.population_statistics(net, MODEL, source, lab=codes, block_rows=100),
    ]
    for other in found:
        for name, each in plain.layers.items():
            np.testing.assert_allclose(other.layers[name].variance, each.variance, rtol=1e-5)


def test_unseen_laboratories_are_one_clear_error():
    found = bn.population_statistics(net, MODEL, X, lab=LAB)
    predict = bn.Predictor(net=net, model=MODEL, population=found)
    with pytest.raises(UsageError, match="got 'Paris'") as told:
        predict(X[:2], ["Rome", "Paris"])
    assert "\n" not in str(told.value)
    with pytest.raises(UsageError, match="laboratory of each row"):
        predict(X[:2])
    with pytest.raises(UsageError, match="2 rows"):
        predict(X[:2], ["Rome"])
    whole = bn.population_statistics(net, MODEL, X)
    with pytest.raises(UsageError, match="must be None"):
        bn.Predictor(net=net, model=MODEL, population=whole)(X[:2], ["Rome", "Rome"])


def twice(model, x, norm):
    return norm("a", x) + norm("a", 2 * x)


def summed(model, x, norm):
    return norm("a", x.sum(0, keepdims=True))


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"data": downslope.Generator(lambda rng, n: rng.normal(size=(n, 4)))}, UsageError, "ever"),
        ({"net": lambda m, x, norm: x}, UsageError, "did not call norm"),
        ({"net": twice}, UsageError, "used twice"),
        ({"net": summed}, UsageError, "rows"),
        ({"block_rows": 0}, UsageError, "block_rows"),
        ({"block_rows": np.float32(0.1)}, UsageError, "got 0.1"),
        ({"epsilon": "a"}, UsageError, "epsilon must be a finite number above 0"),
        ({"lab": LAB[:5]}, UsageError, "one label"),
        ({"lab": np.r_[["x"], LAB[1:]]}, DataError, "'x' has 1 rows"),
        ({"lab": [None, *LAB[1:]]}, DataError, "missing"),
        ({"weight": np.ones(3)}, UsageError, "weight"),
        ({"weight": -np.ones(1000)}, DataError, "weight"),
        ({"data": np.r_[X[:700], [[np.nan] * 4], X]}, DataError, "row 701"),
        ({"data": X[:1]}, DataError, "fewer than 2"),
    ],
)
def test_what_cannot_be_passed_over_is_told(given, error, told):
    given = {"net": net, "data": X, **given}
    with pytest.raises(error, match=told):
        bn.population_statistics(given.pop("net"), MODEL, given.pop("data"), **given)


def test_one_laboratory_a_mini_batch_and_balanced_draws():
    """Catches draws by rows: types that are 9 : 1 and 1 : 9 are drawn alike."""
    lab = np.repeat(["a", "b"], 200)
    kind = (RNG.random(400) < np.where(lab == "a", 0.9, 0.1)).astype("i4")
    weight = bn.balanced(lab, kind)
    draw = bn.OneLab(np.stack([lab == "b", kind], 1), lab, weight)
    seen = []
    for seed in range(20):
        rows, codes = draw(np.random.default_rng(seed), 500)
        assert len(set(codes)) == 1 and (rows[:, 0] == codes[0]).all()
        seen.append(rows[:, 1].mean())
    np.testing.assert_allclose(seen, kind.mean(), atol=0.09)
    with pytest.raises(UsageError, match="leave each laboratory a row"):
        bn.OneLab(X, LAB, (LAB != "Rome").astype(float))


# Training ----------------------------------------------------------------------------------


def classifier(model, x, norm):
    x = norm("columns", x)  # their spreads differ by 200
    hidden = jax.nn.relu(norm("hidden", x @ model["into"], model["norm"]))
    return hidden @ model["out"]


def start():
    rng = np.random.default_rng(1)
    return {
        "into": rng.normal(size=(4, 16)).astype("f4"),
        "norm": bn.init(16),
        "out": rng.normal(0, 0.1, (16, 2)).astype("f4"),
    }


TARGET = ((X[:, 0] - 3) * (X[:, 2] - 3) > 0).astype("i4")


def nll(outputs, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1)[:, 0]


@pytest.mark.slow
def test_train_freeze_predict():
    """The whole way; frozen results are those of a net that saw all rows at once."""

    def loss(model, batch, key):
        x, y = batch
        return nll(classifier(model, x, bn.by_batch()), y).mean()

    result = downslope.fit(
        loss, start(), (X[LAB != "Oslo"], TARGET[LAB != "Oslo"]), batch_size=64, steps=600,
        learning_rate=0.01,
    )  # fmt: skip
    x, y = X[LAB != "Oslo"], TARGET[LAB != "Oslo"]
    found = bn.population_statistics(classifier, result.params, x)
    predict = bn.Predictor(net=classifier, model=result.params, population=found)
    outputs = predict(x)
    assert (outputs.argmax(1) == y).mean() > 0.9
    whole = classifier(result.params, jnp.asarray(x), bn.by_batch())
    np.testing.assert_allclose(outputs, whole, atol=1e-3)
    np.testing.assert_allclose(predict(x[5:6]), outputs[5:6], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["equinox", "flax"])
def test_nets_of_other_libraries(kind):
    """Catches a model handed to a compiled function whole: it holds functions."""
    x = X[:64]
    if kind == "equinox":
        eqx = pytest.importorskip("equinox")

        class Net(eqx.Module):
            first: eqx.nn.Linear
            norm: dict
            act: object = jax.nn.relu

        model = Net(eqx.nn.Linear(4, 3, key=jax.random.key(0)), bn.init(3))

        def forward(model, x, norm):
            return model.act(norm("h", jax.vmap(model.first)(x), model.norm))

    else:
        nnx = pytest.importorskip("flax.nnx")

        class Module(nnx.Module):
            def __init__(self):
                self.first = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
                self.scale = nnx.Param(jnp.ones(3))

        model = Module()

        def forward(model, x, norm):
            return jax.nn.relu(norm("h", model.first(x), {"scale": model.scale[...]}))

    def loss(model, batch, key):
        return (forward(model, batch, bn.by_ghost(16)) ** 2).sum(1)

    result = downslope.fit(loss, model, x, batch_size=32, steps=3, learning_rate=0.1)
    found = bn.population_statistics(forward, result.params, x)
    predict = bn.Predictor(net=forward, model=result.params, population=found)
    whole = forward(result.params, jnp.asarray(x), bn.by_batch())
    np.testing.assert_allclose(predict(x), whole, atol=1e-4)


def rows_loss(norm):
    def loss(model, batch, key):
        x, y = batch
        return nll(classifier(model, x, norm), y)

    return loss


@pytest.mark.slow
def test_noise_of_it_is_labelled_and_that_of_frozen_statistics_is_not():
    """Catches gradients of single examples, which normalised rows do not have."""
    found = bn.population_statistics(classifier, start(), X)
    for norm, labelled in ((bn.by_batch(), True), (bn.by_ghost(4), True), (found.norm(), False)):
        seen = downslope.measure(
            rows_loss(norm), start(), (X, TARGET), sections=["scale"],
            training=downslope.Training(batch_size=32, epochs=1), num_examples=256,
        )  # fmt: skip
        scale = seen.sections["scale"].records["noise_scale"]
        assert any("interact" in flag for flag in scale.flags) is labelled


@pytest.mark.slow
def test_micro_batches_of_ghost_batches_train_alike_and_others_are_refused():
    """Catches a batch of 64 that is normalised 16 by 16 without a word."""
    given = dict(batch_size=64, steps=5, learning_rate=0.1, optimizer="sgd")
    whole, parts = (
        downslope.fit(
            rows_loss(bn.by_ghost(16)), start(), (X, TARGET), microbatch_size=size, **given
        )
        for size in (None, 32)
    )
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(parts.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    for norm in (bn.by_batch(), bn.by_ghost(24)):
        for every in (16, None):
            with pytest.raises(UsageError, match="micro-batches"):
                downslope.fit(
                    rows_loss(norm), start(), (X, TARGET), microbatch_size=32,
                    measure_every=every, **given,
                )  # fmt: skip


@pytest.mark.slow
def test_held_out_rows_are_taken_in_batches_of_the_same_size():
    """Catches a held-out loss by the statistics of thousands of rows, which is another loss."""
    model, x, y = start(), X[:512], TARGET[:512]
    loss = rows_loss(bn.by_batch())
    result = downslope.fit(
        loss, model, (x, y), validation=(x, y), batch_size=16, epochs=1, learning_rate=1e-30
    )
    truth = np.mean([
        np.asarray(loss(model, (jnp.asarray(x[i : i + 16]), y[i : i + 16]), None))
        for i in range(0, 512, 16)
    ])  # fmt: skip
    assert result.validation["loss"].value == pytest.approx(truth, abs=1e-5)


def test_labels_of_any_kind():
    """Catches the truth value of pandas' NA, and bare errors of mixed labels."""
    pd = pytest.importorskip("pandas")
    missing = pd.Series(["a", pd.NA] * 500, dtype="string")
    mixed = np.array([1, "a"] * 500, object)
    found = bn.population_statistics(net, MODEL, X, lab=LAB)
    predict = bn.Predictor(net=net, model=MODEL, population=found)
    for use in (
        lambda lab: bn.population_statistics(net, MODEL, X, lab=lab),
        lambda lab: bn.OneLab(X, lab),
        lambda lab: bn.balanced(lab),
        lambda lab: bn.balanced(LAB, lab),
        lambda lab: predict(X, lab),
    ):
        with pytest.raises(DataError, match="row 2: missing label"):
            use(missing)
        with pytest.raises(UsageError, match="labels of one kind; got int and str"):
            use(mixed)
    unused = pd.Categorical(LAB, categories=["Bern", "Nowhere", "Oslo", "Rome"])
    other = bn.population_statistics(net, MODEL, X, lab=unused)
    assert other.labs == found.labs
    np.testing.assert_array_equal(other.codes(unused), found.codes(LAB))


def test_weights_of_draws():
    """Catches lists, which have no order with a number, and weights that are none."""
    draw = bn.OneLab([[0.0], [1.0], [2.0]], ["a", "a", "b"], [0, 1, 1])
    assert set(draw(np.random.default_rng(0), 50)[0].ravel().tolist()) in ({1.0}, {2.0})
    for weight, error in (([1, 1], UsageError), (["x"] * 3, UsageError), ([1, -1, 1], DataError)):
        with pytest.raises(error, match="weight must be"):
            bn.OneLab(np.zeros((3, 1)), ["a", "a", "b"], weight)
