"""The estimator: what it learns, what it refuses, what it says."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from downslope import DataError, UsageError
from downslope.recipes.embedding import Embedder, retrieval

pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = {"dim": 4, "hidden": (16,), "max_iter": 2, "learning_rate": 0.01, "random_state": 0}


def clouds(num=240, seed=0, noise=4.0):
    """Two columns tell the class; six more are noise."""
    draw = np.random.default_rng(seed)
    y = np.arange(num) % 6
    angle = y * np.pi / 3
    x = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * draw.normal(size=(num, 2))
    return np.hstack([x, noise * draw.normal(size=(num, 6))]).astype("f4"), y


@pytest.fixture(scope="module")
def fitted():
    x, y = clouds()
    return Embedder(**SMALL).fit(x, labels=y)


@pytest.mark.slow
def test_labels_teach_what_counts(fitted):
    """Catches embeddings that never leave their start: pixels alone find a sixth of them."""
    x, y = clouds(seed=1)
    plain, learned = (retrieval(z, y)["recall@1"].value for z in (x, fitted.transform(x)))
    assert plain < 0.4
    assert learned > 0.9
    assert fitted.score(x, y) == learned


def test_what_is_held_out_is_told(fitted):
    """Catches a held-out batch of another shape, in which the loss has another size."""
    assert fitted.batch_shape_ == (6, 13)
    found = fitted.result_.validation
    assert found["batch_recall@1"].value > 0.8
    assert fitted.validation_loss_ == found["held_out_loss"].value
    assert len(fitted.held_out_) == 6 * 13
    assert not fitted.collapse_.because


def test_neighbors_are_rows_given_to_fit(fitted):
    x, y = clouds()
    distances, places = fitted.neighbors(x[:10], k=3)
    assert places[:, 0].tolist() == list(range(10))
    np.testing.assert_allclose(distances[:, 0], 0, atol=1e-3)
    assert (y[places] == y[:10, None]).mean() > 0.9


def test_embeddings_have_length_one_and_are_those_of_the_net(fitted):
    x, _ = clouds()
    z = fitted.transform(x)
    assert z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(z, fitted.embedding_)


def test_clone_and_seed(fitted):
    x, y = clouds()
    again = clone(fitted).fit(x, y)  # y is labels
    np.testing.assert_array_equal(again.transform(x), fitted.embedding_)


@pytest.mark.slow
def test_a_pipeline_scales():
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), Embedder(**SMALL)).fit(X, y)
    assert model.score(X, y) > 0.9


@pytest.mark.slow
def test_groups_of_two_recordings():
    """Catches groups cut in two by what is held out, and groups of one row that are not named."""
    draw = np.random.default_rng(0)
    things = np.repeat(np.arange(60), 2)
    x = draw.normal(size=(60, 8))[things] + 0.1 * draw.normal(size=(120, 8))
    x, things = np.vstack([x, x[:1]]), np.append(things, 99)
    model = Embedder(**SMALL).fit(x, groups=things)
    assert model.left_out_ == [99]
    assert model.batch_shape_[1] == 2
    held = set(things[model.held_out_])
    kept = set(np.delete(things, model.held_out_))
    assert held and not held & kept
    assert model.score(x, things) > 0.9


@pytest.mark.slow
def test_views_of_your_own_teach_what_stays():
    """A view that draws the last six columns anew: only the first two are worth keeping."""
    import jax

    def view(key, rows):
        fresh = 4 * jax.random.normal(key, (len(rows), 6))
        return jnp.concatenate([rows[:, :2], fresh], axis=1)

    x, _ = clouds()
    model = Embedder(**{**SMALL, "max_iter": 8}).fit(x, views=view)
    new, classes = clouds(seed=1)
    assert model.score(new, classes) > 0.7
    assert model.batch_shape_[1] == 2


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["nt_xent", "pairs", "triplet", "triplet_soft"])
def test_every_loss_learns(loss):
    noise = 0.5  # in much noise the hardest triplets end in collapse, and the warning says so
    x, y = clouds(noise=noise)
    given = SMALL | {"loss": loss, "max_iter": 3, "learning_rate": 1e-3}
    model = Embedder(**given).fit(x, labels=y)
    assert model.score(*clouds(seed=1, noise=noise)) > 0.9


def test_a_collapse_while_training_is_told():
    """Catches an alarm that only knows rows that were equal from the start."""
    x, y = clouds()
    with pytest.warns(ConvergenceWarning, match="coincide"):
        model = Embedder(**{**SMALL, "loss": "triplet"}).fit(x, labels=y)
    assert model.collapse_.spread < 0.05


@pytest.mark.slow
def test_chunks_give_the_same_model(fitted):
    """Catches chunks whose parts of a batch are averaged as batches of their own."""
    x, y = clouds()
    model = Embedder(**SMALL, chunk_rows=32).fit(x, labels=y)
    assert abs(model.result_.train_loss - fitted.result_.train_loss) < 0.05


@pytest.mark.slow
def test_collapse_is_told():
    """Rows that cannot be told apart: the embeddings coincide, and the loss says so too."""
    with pytest.warns(ConvergenceWarning, match="coincide"):
        model = Embedder(**SMALL).fit(np.ones((80, 3)), labels=np.arange(80) % 4)
    assert model.collapse_.is_collapsed
    np.testing.assert_allclose(model.result_.train_loss, np.log(23), rtol=1e-3)


@pytest.mark.parametrize(
    ("more", "relation", "error", "text"),
    [
        ({}, {}, UsageError, "exactly one"),
        ({}, {"labels": "y", "views": "noise"}, UsageError, "exactly one"),
        ({}, {"views": "blur"}, UsageError, "views must be"),
        ({}, {"views": "shift"}, UsageError, "shift needs images"),
        ({}, {"labels": [0, 1]}, UsageError, "one label for each of 240 rows"),
        ({}, {"labels": np.arange(240)}, DataError, "2 classes with 2 rows"),
        ({"loss": "arc"}, {"labels": "y"}, UsageError, "loss must be"),
        ({"rows_per_class": 1}, {"labels": "y"}, UsageError, "rows_per_class"),
        ({"classes_per_batch": 1}, {"labels": "y"}, UsageError, "classes_per_batch"),
        ({"classes_per_batch": 7}, {"labels": "y"}, UsageError, "at most 6"),
        ({"temperature": 0}, {"labels": "y"}, UsageError, "temperature"),
        ({"margin": 3}, {"labels": "y"}, UsageError, "margin"),
        ({"temperature": "a"}, {"labels": "y"}, UsageError, "temperature must be a finite number"),
        ({"dim": 0}, {"labels": "y"}, UsageError, "dim"),
        ({"validation_fraction": 1}, {"labels": "y"}, UsageError, "validation_fraction"),
    ],
)
def test_wrong_use_is_told_in_one_line(more, relation, error, text):
    x, y = clouds()
    relation = {k: y if isinstance(v, str) and v == "y" else v for k, v in relation.items()}
    with pytest.raises(error, match=text) as told:
        Embedder(**{**SMALL, **more}).fit(x, **relation)
    assert "\n" not in str(told.value)


def test_rows_that_are_not_finite_are_refused():
    x, y = clouds()
    x[3, 1] = np.nan
    with warnings.catch_warnings(), pytest.raises(ValueError, match="NaN"):
        Embedder(**SMALL).fit(x, labels=y)
