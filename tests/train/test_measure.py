"""`downslope.measure` with every kind of data, run and optimizer."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

import downslope
import plain
from downslope import DataError, MismatchError, Training, UsageError
from downslope.noise import Extras
from downslope.train.assemble import assemble
from downslope.train.measure import MAX_INPUTS, _inputs, measure, rate_at
from downslope.train.sources import sample

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(0).normal(size=(600, 3)).astype("f4") * np.float32([2, 1, 0.5])
Y = (X @ np.float32([1, -2, 3]) + np.random.default_rng(1).normal(size=600)).astype("f4")
WRONG = [5, 77, 301]
Y[WRONG] += 100
OPTIONS = {"batch_size": 20, "learning_rate": 0.02, "epochs": 2, "measure_every": 2}


def loss(model, batch, key):
    return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2


def model(size=3):
    return {"w": np.zeros(size, "f4"), "name": "line"}


def look(data=(X, Y), **options):
    options = {"training": plain.training(optimizer="sgd", **OPTIONS), **options}
    return measure(loss, model(), data, num_examples=600, **options)


def run(folder, **options):
    return plain.fit(loss, model(), (X, Y), out=folder, **{**OPTIONS, **options})


def top_rows(found):
    return set(found.sections["tails"].tables["top_rows"][:3])


def test_arrays_are_told_by_the_callers_row_numbers():
    assert top_rows(look(sections=["tails"])) == set(WRONG)
    held = look(sections=["tails"], validation=0.2)
    setup = assemble(loss, model(), (X, Y), Training(), validation=0.2)
    trained = set(setup.source.row_numbers.tolist())
    assert len(trained) == 480
    assert set(WRONG) & trained <= top_rows(held) <= trained


def test_a_located_row_is_asked_for_only_where_it_is_named():
    asked = []

    def locate(rows):
        asked.append(len(rows[0]))
        return rows[1].astype(int)

    found = look(sections=["tails"], locate=locate)
    assert top_rows(found) == set(Y[WRONG].astype(int))
    assert len(asked) == 1
    assert asked[0] <= 10
    look(sections=["scale"], locate=locate)
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["memory map", "generator", "shuffled", "stored"])
def test_kinds_of_data(kind, tmp_path):
    truth = look(sections=["scale"]).records()["scale/noise_scale"].value
    data = X, Y
    if kind == "memory map":
        np.save(tmp_path / "x.npy", X.astype("f8"))
        data = np.load(tmp_path / "x.npy", mmap_mode="r"), Y
    elif kind == "shuffled":
        data = downslope.Arrays((X, Y), shuffled=True)
    elif kind == "stored":
        data = Stored(X, Y)
    elif kind == "generator":
        data = downslope.Generator(lambda rng, n: (X[:n], Y[:n]))
    training = plain.training(optimizer="sgd", batch_size=20, steps=3)
    found = look(data, sections=["scale", "tails", "temperature"], training=training)
    assert found.records()["scale/noise_scale"].value == pytest.approx(truth, rel=1e-4)
    assert top_rows(found) == set(WRONG)


def test_a_generator_needs_no_end():
    source = downslope.Generator(lambda rng, n: (X[:n], Y[:n]))
    found = measure(loss, model(), source, num_examples=50, sections=["scale"])
    assert found.records()["scale/noise_scale"].num_examples == 50


class Stored:
    """A source of the caller's own, in the order of its rows."""

    num_rows, row_bytes, shuffled, fingerprint = 600, 16, False, "mine"

    def __init__(self, x, y):
        self.rows = np.column_stack([x, y])

    def read(self, start, stop, out=None):
        if out is None:
            return self.rows[start:stop]
        out[:] = self.rows[start:stop]
        return out

    def expect(self, start, stop):
        """Nothing to do."""

    def unpack(self, rows):
        return rows[..., :3], rows[..., 3]

    def close(self):
        """Nothing to close."""


def test_a_sample_of_a_generator_is_none_of_its_batches():
    source = downslope.Generator(lambda rng, n: rng.normal(size=n))
    rows, numbers = sample(source, 5, 3)
    assert numbers is None
    assert not np.array_equal(rows, source.batch(seed=3, number=0, num_rows=5))


def test_samples_are_drawn_without_replacement():
    setup = assemble(loss, model(), (X, Y), Training())
    rows, numbers = sample(setup.source, 200, 0)
    assert len(set(numbers.tolist())) == 200
    np.testing.assert_array_equal(rows[0], X[numbers])
    assert len(sample(setup.source, 5000, 0)[1]) == 600
    assert not np.array_equal(numbers, sample(setup.source, 200, 1)[1])


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_sample_of_a_stored_table_spreads_over_it_unless_it_was_shuffled(shuffled):
    """Catches the rows of one customer of a sorted file, and a read for each of many rows."""
    source, read = Stored(X, Y), []
    source.shuffled = shuffled
    source.read = lambda start, stop: read.append(range(start, stop)) or source.rows[start:stop]
    for seed in range(5):
        read.clear()
        rows, numbers = sample(source, 40, seed)
        places = [row for part in read for row in part]
        np.testing.assert_array_equal(rows, source.rows[places])
        assert len(set(places)) == 40
        assert (len(read) == 1) is shuffled
        if not shuffled:
            assert numbers.tolist() == places and np.ptp(places) > 300


@pytest.mark.parametrize(
    ("optimizer", "given", "names"),
    [
        ("adam", {}, {"b1", "b2"}),
        ("rmsprop", {}, {"decay"}),
        ("adam", {"mine": 0.9}, {"mine"}),
        ("sgd", {}, None),
    ],
)
def test_the_memory_is_that_of_the_optimizers_averages(optimizer, given, names):
    """Catches a survey without a run that knows no optimizer, and given decays passed over."""
    training = plain.training(**OPTIONS, optimizer=optimizer)
    found = look(sections=["memory"], training=training, extras=Extras(decays=given))
    assert ("memory" in found.skipped) is (names is None)
    if names:
        assert set(found.sections["memory"].tables) == names


SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in ("nesterov", "rmsprop", "prodigy")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adagrad", "schedule_free", *SLOW])
def test_runs_of_every_optimizer(name, tmp_path):
    trained = run(tmp_path / "run", optimizer=name)
    found = measure(loss, model(), (X, Y), run=tmp_path / "run")
    records = found.records()
    assert "trajectory" in found.sections
    ratio = records["curvature/stability_ratio"]
    if name in ("schedule_free", "prodigy"):
        assert f"preconditioner of {name} is not known" in ratio.reason
    else:
        assert ratio.is_measured
    plain = name in ("sgd", "momentum", "nesterov")
    assert records["temperature/temperature"].is_measured == plain
    assert ("escape" in found.sections) == plain
    assert ("memory/adagrad_stall_ratio" in records) == (name == "adagrad")
    assert ("memory" in found.skipped) == (name == "sgd")
    if name == "sgd":  # the noise is that of where the run stands
        g = X * (X @ trained.params["w"] - Y)[:, None]
        assert records["scale/gradient_noise"].value == pytest.approx(
            g.var(0, ddof=1).sum(), rel=0.01
        )
        assert records["temperature/measured_temperature"].value is not None


@pytest.mark.slow
def test_an_optimizer_of_ones_own(tmp_path):
    run(tmp_path / "run", optimizer=optax.lion, learning_rate=0.001)
    with pytest.raises(UsageError, match=r"optimizer of its own \(lion\); give training"):
        measure(loss, model(), (X, Y), run=tmp_path / "run")
    training = plain.training(**{**OPTIONS, "optimizer": optax.lion, "learning_rate": 0.001})
    found = measure(loss, model(), (X, Y), run=tmp_path / "run", training=training)
    assert found.records()["scale/noise_scale"].value > 0
    assert not found.records()["temperature/temperature"].is_measured

    # one called sgd is not ours either: it may hold momentum of its own
    def sgd(learning_rate):
        return optax.sgd(learning_rate, momentum=0.9)

    own = look(training=plain.training(**{**OPTIONS, "optimizer": sgd}), sections=["temperature"])
    assert not own.records()["temperature/temperature"].is_measured


@pytest.mark.slow
def test_the_learning_rate_follows_its_schedule(tmp_path):
    run(tmp_path / "run", optimizer="sgd", schedule="inverse_time", decay_steps=20)
    found = measure(loss, model(), (X, Y), run=tmp_path / "run", sections=["curvature"]).records()
    sharpest = np.linalg.eigvalsh(X.T @ X / 600)[-1]
    rate = 0.02 / (1 + 59 / 20)  # of the last of 60 steps
    assert found["curvature/stability_ratio"].value == pytest.approx(rate * sharpest / 2, rel=1e-3)
    training = plain.training(**OPTIONS)
    setup = assemble(loss, model(), (X, Y), training)
    assert rate_at(setup, setup.start(), setup.knobs()) == pytest.approx(0.02)


def test_smooth_penalties_belong_to_the_loss():
    def penalty(model):
        return 3 * (model["w"] ** 2).sum() + model["w"].sum()

    bare = look(sections=["curvature", "scale"]).records()
    training = plain.training(**OPTIONS, optimizer="sgd", l2=2.0)
    found = look(sections=["curvature", "scale"], penalty=penalty, training=training).records()
    more = found["curvature/lambda_max"].value - bare["curvature/lambda_max"].value
    assert more == pytest.approx(6 + 2, rel=1e-3)
    g = (X * -Y[:, None]).mean(0) + 1
    trace = found["scale/gradient_noise"].value
    assert found["scale/gradient_signal"].value == pytest.approx(g @ g - trace / 600, rel=1e-3)
    assert trace == pytest.approx(bare["scale/gradient_noise"].value, rel=1e-4)
    spared = look(
        sections=["curvature"], training=training, penalize=lambda m: {"w": False, "name": None}
    )
    assert spared.records()["curvature/lambda_max"].value == pytest.approx(
        bare["curvature/lambda_max"].value, rel=1e-4
    )


def centred(model, batch, key):
    out = batch[0] @ model["w"]
    return 0.5 * (out - out.mean() - batch[1]) ** 2


@pytest.mark.parametrize("every", [None, 4])
def test_interaction_is_seen_also_where_steps_are_not_measured(every):
    training = plain.training(**{**OPTIONS, "measure_every": every}, optimizer="sgd")
    found = measure(centred, model(), (X, Y), training=training, sections=["scale", "tails"])
    assert found.records()["scale/noise_scale"].unit == "batches"
    assert "top_batches" in found.sections["tails"].tables


def test_losses_with_a_key_are_taken_at_one_draw():
    def noisy(model, batch, key):
        return loss(model, batch, key) + jax.random.normal(key, batch[1].shape) * model["w"][0]

    one, two = (
        measure(noisy, model(), (X, Y), sections=["scale"]).records()["scale/noise_scale"]
        for _ in range(2)
    )
    assert one == two


def test_what_is_no_run_of_this(tmp_path):
    with pytest.raises(DataError, match="not the folder of a run"):
        measure(loss, model(), (X, Y), run=tmp_path)
    run(tmp_path / "run", optimizer="adam")
    with pytest.raises(MismatchError):
        measure(loss, model(4), (np.ones((9, 4), "f4"), np.ones(9, "f4")), run=tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(DataError, match="no checkpoint yet"):
        measure(loss, model(), (X, Y), run=tmp_path / "run")


def test_arguments_out_of_range():
    with pytest.raises(UsageError, match="num_examples must be a whole number"):
        measure(loss, model(), (X, Y), num_examples=1)
    with pytest.raises(UsageError, match="sections must be names of"):
        measure(loss, model(), (X, Y), sections=["noise"])
    with pytest.raises(UsageError, match="relative_error"):
        look(relative_error=-1.0, sections=["required"])


def test_a_single_row():
    found = measure(loss, model(), (X[:1], Y[:1]))
    assert "needs at least two rows; got 1 rows" in found.skipped["scale"]


def test_extras_pass_through():
    found = look(sections=["order", "memory"], extras=Extras(labels=np.repeat([0, 1], 300)))
    assert "shuffle before training" in found.sections["order"].sentences[0]


@pytest.mark.parametrize(("columns", "is_known"), [(0, False), (3, True), (MAX_INPUTS, True),
                                                   (MAX_INPUTS + 1, False)])  # fmt: skip
def test_inputs_are_the_first_columns_of_numbers(columns, is_known):
    """Catches integers taken for inputs, and so many columns that their condition takes minutes."""
    batch = {"a": np.zeros((4, 2), int), "b": np.zeros(4), "c": np.ones((4, columns))}
    found = _inputs(batch)
    assert (found is not None and found.shape == (4, columns)) is is_known
