"""Two branches: against the truth of made news, and against tables that lack something."""

from __future__ import annotations

import copy
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from downslope.errors import DataError, UsageError
from downslope.recipes.fusion import FusionClassifier, FusionRegressor, rated_news
from downslope.recipes.fusion.columns import Reading
from downslope.recipes.fusion.simulate import BAD, GOOD
from downslope.recipes.fusion.text import Words
from downslope.recipes.fusion.values import read_columns

NUMBERS = ["gdp", "inflation", "debt"]
pytestmark = pytest.mark.usefixtures("quick_compilation")  # small runs: compiling is most of them


def table(news):
    return pd.DataFrame(news.X)


def linear():
    """All columns side by side; on these tables without an interaction it is the truth."""
    columns = [("n", "passthrough", NUMBERS), ("w", CountVectorizer(min_df=2), "news")]
    return make_pipeline(ColumnTransformer(columns), LogisticRegression(C=0.1, max_iter=1000))


def gains(sizes, peers, seeds=3, rows=2000):
    """By peer, its held-out loss less that of both branches together, one a seed."""
    found = {name: [] for name in peers}
    for seed in range(seeds):
        known, new = (rated_news(n, seed=s, **sizes) for n, s in ((rows, seed), (5000, 90 + seed)))
        both = FusionClassifier(text="news", random_state=seed).fit(table(known), known.y)
        loss = log_loss(new.y, both.predict_proba(table(new)))
        for name, peer in peers.items():
            if "random_state" in peer.get_params():
                peer.set_params(random_state=seed)
            peer.fit(table(known), known.y)
            found[name].append(log_loss(new.y, peer.predict_proba(table(new))) - loss)
    return {name: np.array(values) for name, values in found.items()}


def lower_end(gain):
    """Of the 95 % interval of the mean gain."""
    return gain.mean() - stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain)


def upper_end(gain):
    return 2 * gain.mean() - lower_end(gain)


@pytest.fixture(scope="module")
def news():
    return rated_news(3000, seed=0), rated_news(3000, seed=50)


@pytest.fixture(scope="module")
def fitted(news):
    known, _ = news
    return FusionClassifier(text="news", random_state=0).fit(table(known), known.y)


# -- the made news ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_bayes_loss_is_that_of_the_true_probabilities():
    """Catches an entropy of the wrong rows, and ratings drawn from other probabilities."""
    news = rated_news(40_000, levels=4, seed=3)
    told = -np.log(news.probabilities[np.arange(40_000), news.y])
    assert told.mean() == pytest.approx(news.bayes_loss, abs=4 * stats.sem(told))
    shares = np.bincount(news.y) / 40_000
    np.testing.assert_allclose(shares, news.probabilities.mean(0), atol=0.01)


@pytest.mark.slow
def test_the_interaction_is_hidden_from_every_linear_model():
    """Catches an interaction with a linear part: a linear model would see some of it."""
    draws = [rated_news(20_000, numbers=0, words=0, interaction=2, seed=4)]
    draws += [rated_news(20_000, numbers=1, words=1, interaction=0, seed=4)]
    counts = CountVectorizer().fit_transform(draws[0].X["news"]).toarray()
    x = np.column_stack([*(draws[0].X[name] for name in NUMBERS), counts])
    shares = []
    for news in draws:
        fitted, *_ = np.linalg.lstsq(x, news.score, rcond=None)
        shares.append(np.var(x @ fitted) / np.var(news.score))
    assert shares[0] < 0.015 and shares[1] > 0.999  # 110 columns of 20,000 rows fit 0.0055


# -- what two branches gain -------------------------------------------------------------------


@pytest.mark.slow
def test_both_branches_see_what_neither_sees_alone(news, fitted):
    """Catches branches that are added up and never joined: that is the linear model's loss."""
    known, new = news
    loss = log_loss(new.y, fitted.predict_proba(table(new)))
    side_by_side = linear().fit(table(known), known.y).predict_proba(table(new))
    assert new.bayes_loss - 0.02 < loss < new.bayes_loss + 0.08
    assert log_loss(new.y, side_by_side) > loss + 0.08


@pytest.mark.slow
def test_gain_where_the_interaction_exists():
    """Paired over 3 seeds; catches a gain that is within the spread of the seeds."""
    alone = {
        "numbers": FusionClassifier(text=(), numbers=NUMBERS, categories=[]),
        "words": FusionClassifier(text="news", numbers=[], categories=[]),
        "linear": linear(),
    }
    for gain in gains({}, alone).values():
        assert lower_end(gain) > 0.05


@pytest.mark.slow
def test_no_gain_where_the_interaction_does_not():
    """Fails if the linear peer is handicapped, or the rows leak: a truth cannot be beaten.

    The same measure is above 0 in the test before, so that it can tell a gain.
    """
    gain = gains({"interaction": 0.0}, {"linear": linear()})["linear"]
    assert lower_end(gain) < 0  # does not beat the truth
    assert upper_end(gain) > -0.05  # and does not lose much to it
    peer = FusionClassifier(text=(), numbers=NUMBERS, categories=[])
    gain = gains({"interaction": 0.0, "words": 0.0}, {"numbers": peer})["numbers"]
    assert lower_end(gain) < 0 and upper_end(gain) > -0.05


@pytest.mark.slow
def test_ordered_classes_use_their_order(news):
    """Catches thresholds that do not move, and classes read in the order of the alphabet."""
    known, new = (rated_news(n, levels=4, seed=s) for n, s in ((3000, 1), (3000, 51)))
    names = np.array(["C", "B", "A", "AA"])
    model = FusionClassifier(text="news", order=list(names), random_state=0)
    model.fit(table(known), names[known.y])
    assert model.classes_.tolist() == names.tolist()
    loss = log_loss(new.y, model.predict_proba(table(new)))
    assert loss < new.bayes_loss + 0.1
    np.testing.assert_allclose(model.thresholds_, stats.logistic.ppf([0.25, 0.5, 0.75]), atol=0.4)
    score = model.decision_function(table(new))
    assert np.corrcoef(score, new.score)[0, 1] > 0.9
    found = model.predict_proba(table(new)).argmax(1)
    assert np.array_equal(model.predict(table(new)), names[found])


@pytest.mark.slow
def test_numbers_are_predicted_in_their_unit(news):
    """Catches a scale or a mean of the target that is not undone."""
    known, new = news
    y = 1000 + 50 * known.score
    model = FusionRegressor(text="news", random_state=0).fit(table(known), y)
    assert model.score(table(new), 1000 + 50 * new.score) > 0.85
    explained = model.explain(table(new).head(20))
    np.testing.assert_allclose(1000 + explained.output, model.predict(table(new).head(20)), atol=60)


# -- a missing branch -------------------------------------------------------------------------


def test_a_missing_branch_is_done_without(news, fitted):
    """Catches a missing branch read as one of zeros that training never saw."""
    _, new = news
    for branch, names in (("text", ["news"]), ("numbers", NUMBERS)):
        found = fitted.predict_proba(table(new), without=branch)
        lacking = fitted.predict_proba(table(new).drop(columns=names))
        np.testing.assert_array_equal(found, lacking)
        empty = table(new).assign(**dict.fromkeys(names, np.nan if branch == "numbers" else None))
        np.testing.assert_array_equal(found, fitted.predict_proba(empty))
        assert 0.62 < log_loss(new.y, found) < 0.7  # a branch alone reaches 0.64 and 0.68


@pytest.mark.slow
def test_hidden_branches_come_near_a_model_of_one_branch(news, fitted):
    """Catches a branch that leans on the other: the loss without it would be above ln 2."""
    known, new = news
    for without, kept in (("text", {"text": (), "numbers": NUMBERS}), ("numbers", {"numbers": []})):
        alone = FusionClassifier(**({"text": "news"} | kept), categories=[], random_state=0)
        best = log_loss(new.y, alone.fit(table(known), known.y).predict_proba(table(new)))
        found = log_loss(new.y, fitted.predict_proba(table(new), without=without))
        assert found < best + 0.02


@pytest.mark.slow
def test_means_stand_in_where_no_branch_was_hidden(news):
    """Catches a mean over rows that lack the branch, or one that is never put in place."""
    known, _ = news
    model = FusionClassifier(text="news", branch_dropout=0, random_state=0)
    model.fit(table(known), known.y)
    rows = model.reading_.arrays(read_columns(table(known).iloc[model.split_.train]))
    texts = model._model["branches"]["text"]
    means = np.einsum("bl,blw->w", rows["weights"], texts["words"][rows["terms"]]) / len(rows["x"])
    np.testing.assert_allclose(texts["absent_bias"], means, atol=1e-5)


def test_a_row_is_predicted_by_itself(news, fitted, monkeypatch):
    """Catches rows that are mixed up where pieces meet."""
    _, new = news
    whole = fitted.predict_proba(table(new))
    monkeypatch.setattr("downslope.recipes.fusion.base.PIECE_ROWS", 700)
    np.testing.assert_allclose(fitted.predict_proba(table(new)), whole, atol=1e-6)


# -- explanations -----------------------------------------------------------------------------


def test_a_linear_model_is_explained_exactly(news, fitted):
    """Catches a gradient of the wrong output, and words under the names of others."""
    _, new = news
    model = copy.copy(fitted)
    last = {**model._model["last"], "weights": 0 * model._model["last"]["weights"]}
    model._model = model._model | {"last": last}  # the straight parts alone are left
    rows = table(new).head(300)
    found = model.explain(rows, top=99)
    numbers = model._model["branches"]["numbers"]["straight"][:, 0]
    for i, name in enumerate(model.reading_.numbers):
        scaled = (rows[name] - model.reading_.means[name]) / model.reading_.scales[name]
        np.testing.assert_allclose(found.columns[name], numbers[i] * scaled, atol=1e-5)
    vocabulary = model.reading_.words.counter.vocabulary_
    straight = model._model["branches"]["text"]["words"][:, 0]
    batch = model.reading_.arrays(read_columns(rows))
    for i in (0, 17, 299):
        weights = dict(zip(batch["terms"][i], batch["weights"][i], strict=True))
        for word in found.words[i]:
            code = vocabulary[word.word] + 1
            assert word.word in rows["news"].iloc[i].split()
            assert word.moved == pytest.approx(straight[code] * weights[code], abs=1e-6)
            assert word.without == pytest.approx(word.moved, abs=1e-5)
        assert len(found.words[i]) == (batch["terms"][i] > 0).sum()
    for branch in ("numbers", "text"):
        assert found.agreement[branch] > 0.9999


def test_what_moved_a_prediction_is_what_the_truth_says(news, fitted):
    """Catches gradients that are not times the input, and branches under each other's name."""
    _, new = news
    found = fitted.explain(table(new).head(500))
    np.testing.assert_allclose(
        found.output, fitted.decision_function(table(new).head(500)), atol=1e-4
    )
    assert min(found.agreement.values()) > 0.85 and not found.reasons
    without = fitted.decision_function(table(new).head(500), without="text")
    np.testing.assert_allclose(found.branches["text"], found.output - without, atol=1e-4)
    d, inside = np.array(new.X["debt"][:500]), np.array(new.score[:500])
    tone = (inside - 0.8 * new.X["gdp"][:500] + 0.6 * new.X["inflation"][:500]) / (1 + 2 * d)
    clear = np.abs(1 + 2 * d) > 1
    assert np.corrcoef(found.branches["text"][clear], (tone * (1 + 2 * d))[clear])[0, 1] > 0.8
    strength = {"tone": [], "plain": []}
    for words in found.words:
        for word in words:
            strength["tone" if word.word in GOOD + BAD else "plain"].append(abs(word.without))
    assert np.mean(strength["tone"]) > 2 * np.mean(strength["plain"])


# -- text -------------------------------------------------------------------------------------


def test_codes_are_the_counts_of_scikit_learn(news):
    """Catches weights under the codes of others, and a row that loses words for no reason."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = list(news[0].X["news"][:200])
    known = TfidfVectorizer(min_df=2, sublinear_tf=True).fit(texts)
    words = Words("vocabulary", 4096, 64).learn(texts)
    codes, weights = words.codes(texts)
    dense = np.zeros((200, words.num_codes), np.float32)
    np.add.at(dense, (np.arange(200)[:, None], codes), weights)
    width = len(known.vocabulary_)
    np.testing.assert_allclose(dense[:, 1 : width + 1], known.transform(texts).toarray(), atol=1e-6)
    assert not dense[:, 0].any() and words.cut_rows == 0 and codes.dtype == np.int32


def test_the_weightiest_words_are_kept():
    """Catches the first words kept, and a row that takes another's slots."""
    texts = ["common rare1 common2", "common rare1 common2", "common common2", "common common2 x y"]
    words = Words("vocabulary", 100, 1).learn(texts)
    codes, weights = words.codes(texts)
    names = words.names(texts)
    assert codes.shape == weights.shape == (4, 1) and words.cut_rows == 1
    assert [names[i][codes[i, 0]] for i in (0, 1)] == ["rare1", "rare1"]
    assert names[2][codes[2, 0]] in ("common", "common2")


def test_hashed_words_keep_their_names():
    """Catches names looked up with another hash, and words that share a code losing one."""
    texts = ["alpha beta gamma", "alpha beta delta epsilon", "zeta"] * 2
    words = Words("hashed", 1 << 18, 64).learn(texts)
    codes, _ = words.codes(texts)
    for text, row, names in zip(texts, codes, words.names(texts), strict=True):
        assert {names[int(code)] for code in row if code} == set(text.split())
    few = Words("hashed", 2, 64).learn(texts)
    joined = "/".join(few.names(texts[1:2])[0].values()).split("/")
    assert sorted(joined) == ["alpha", "beta", "delta", "epsilon"]


def test_nothing_is_learned_from_held_out_rows(news, monkeypatch):
    """Catches a vocabulary, a scale or a category from the rows that are to judge."""
    monkeypatch.setattr(FusionClassifier, "_train", lambda *_: None)  # reading is enough
    known, _ = news
    late = known.times >= 2015
    frame = table(known).assign(place=np.where(late, "new", "old"))
    frame.loc[late, "news"] += " hindsight"
    frame.loc[late, "gdp"] = 1e6
    model = FusionClassifier(text="news", validation_fraction=0.2)
    model.fit(frame, known.y, times=np.where(late, 1, 0))
    assert np.array_equal(model.split_.held_out, np.flatnonzero(late))
    assert "hindsight" not in model.reading_.words.counter.vocabulary_
    assert abs(model.reading_.means["gdp"]) < 1 and model.reading_.levels["place"] == ["old"]


@pytest.mark.slow
def test_an_embedding_is_a_branch(news):
    """Catches vectors that are read as categories, or words where there are none."""
    known, new = news
    draw = np.random.default_rng(0)
    vocabulary = CountVectorizer().fit(known.X["news"])
    mix = draw.normal(size=(len(vocabulary.vocabulary_), 24))
    columns = []
    for each in (known, new):
        vectors = vocabulary.transform(each.X["news"]) @ mix
        columns.append({name: each.X[name] for name in NUMBERS} | {"vector": vectors})
    model = FusionClassifier(text="vector", words="embedding", random_state=0)
    model.fit(columns[0], known.y)
    loss = log_loss(new.y, model.predict_proba(columns[1]))
    alone = log_loss(new.y, model.predict_proba(columns[1], without="text"))
    assert loss < alone - 0.02
    found = model.explain({k: v[:50] for k, v in columns[1].items()})
    assert found.words == [[]] * 50 and "words" not in found.agreement
    columns[1]["vector"] = columns[1]["vector"][:, :5]
    with pytest.raises(UsageError, match="24 wide"):
        model.predict(columns[1])


# -- tables and the manner of scikit-learn ----------------------------------------------------


@pytest.mark.slow
def test_missing_values_and_unknown_categories(news):
    """Catches a gap read as 0 in the column's unit, and a category that was never seen."""
    known, new = news
    frame = table(known).assign(region=np.where(known.score > 0, "north", "south"))
    frame.loc[::5, "gdp"] = np.nan
    frame.loc[::7, "region"] = None
    reading = Reading(
        text=("news",), words="hashed", numbers=None, categories=None, num_words=64, max_terms=8
    ).learn(read_columns(frame))
    assert reading.numbers == NUMBERS and reading.categories == ["region"]
    batch = reading.arrays(read_columns(frame.assign(region="east")))
    assert not batch["codes"].any() and not batch["x"][::5, 0].any()
    np.testing.assert_array_equal(batch["x"][:, 3], np.arange(len(frame)) % 5 == 0)
    np.testing.assert_allclose(batch["x"][:, :3].mean(0), 0, atol=1e-5)
    model = FusionClassifier(text="news", random_state=0).fit(frame, known.y)
    assert model.score(table(new).assign(region="east"), new.y) > 0.6


@pytest.mark.parametrize("kind", [float, Decimal])
def test_a_column_of_numbers_that_is_no_array_is_one_of_numbers(news, kind):
    """Catches one None that turns a column of numbers into categories, each of one row."""
    known, _ = news
    frame = table(known).head(300)
    numbers = [None, *map(kind, frame["gdp"][1:])]
    arguments = {"words": "hashed", "categories": None, "num_words": 64, "max_terms": 8}
    texts, plain = {"text": ("news",)}, np.array([np.nan, *frame["gdp"][1:]])
    found = [
        Reading(**arguments, **texts, numbers=asked).learn(read_columns(frame.assign(gdp=column)))
        for column, asked in (
            (pd.Series(numbers, dtype=object), None),
            ([None, *map(str, numbers[1:])], NUMBERS),
        )
    ]
    for reading in found:
        assert reading.numbers == NUMBERS and reading.gaps == ["gdp"] and not reading.categories
        x = reading.arrays(read_columns(frame.assign(gdp=plain)))["x"]
        np.testing.assert_allclose(x[:, :3].mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(x[:, 0].var(), 299 / 300, atol=1e-5)


def test_what_pandas_calls_missing_is_missing(news):
    """Catches a comparison with pandas' NA, which is neither true nor false."""
    frame = table(news[0]).head(300)
    frame = frame.assign(region=np.where(frame.index % 2, "a", "b"), flag=frame.index % 3 == 0)
    frame = frame.convert_dtypes()
    frame.loc[::5, ["gdp", "news", "region", "flag"]] = pd.NA
    reading = Reading(
        text=("news",), words="hashed", numbers=None, categories=None, num_words=64, max_terms=8
    ).learn(read_columns(frame))
    assert reading.gaps == ["gdp", "flag"] and reading.levels == {"region": ["a", "b"]}
    batch = reading.arrays(read_columns(frame))
    np.testing.assert_array_equal(batch["codes"][:, 0] == 0, np.arange(300) % 5 == 0)
    np.testing.assert_array_equal(batch["present"][:, 1] == 0, np.arange(300) % 5 == 0)


def test_what_float32_cannot_hold_is_refused(news, fitted):
    """Catches probabilities of NaN from a number that is finite."""
    frame = table(news[1]).head(3)
    for value in (1e150, 1e20, -1e20):
        for look in (fitted.predict_proba, fitted.explain):
            with pytest.raises(DataError, match=r"gdp.*too large"):
                look(frame.assign(gdp=value))
    assert np.isfinite(fitted.predict_proba(frame.assign(gdp=5e14, debt=-5e14))).all()


def test_a_constant_column_has_no_spread_of_rounding(news):
    """Catches a new value divided by 1e-17: the spread of 0.1 about its rounded mean."""
    frame = table(news[0]).head(300).assign(gdp=0.1)
    reading = Reading(
        text=(), words="hashed", numbers=["gdp"], categories=[], num_words=64, max_terms=8
    ).learn(read_columns(frame))
    x = reading.arrays(read_columns(frame.assign(gdp=0.6)))["x"]
    np.testing.assert_allclose(x, 0.5, rtol=1e-6)


def test_classes_are_labels_and_keep_their_order(news, monkeypatch):
    """Catches numbers taken for classes, a missing one for a class, and an order that is lost."""
    monkeypatch.setattr(FusionClassifier, "_train", lambda *_: None)
    frame, y = table(news[0]).head(300), news[0].y[:300]
    ratings = pd.Categorical(
        np.array(["B", "A", "AAA"])[np.arange(300) % 3], ["B", "A", "C", "AAA"]
    )
    for order, ordered, expected in (
        ("sorted", True, ["B", "A", "AAA"]),
        ("sorted", False, ["A", "AAA", "B"]),
        (None, True, ["A", "AAA", "B"]),
    ):
        model = FusionClassifier(text="news", order=order)
        model.fit(frame, ratings.as_ordered() if ordered else ratings)
        assert model.classes_.tolist() == expected
    first = np.arange(300) == 0
    for bad, kind, words in (
        (news[0].score[:300], ValueError, "continuous"),
        (np.where(first, np.inf, y), ValueError, "infinity"),
        (np.where(first, np.nan, y), DataError, "row 1: missing label"),
        (pd.array([pd.NA, *y[1:]], "Int64"), DataError, "row 1: missing label"),
        (np.array([1, "a"] * 150, dtype=object), UsageError, "one kind; got int and str"),
    ):
        with pytest.raises(kind, match=words):
            FusionClassifier(text="news", order=[0, 1]).fit(frame, bad)


def test_frames_of_other_libraries_give_the_same(news, fitted):
    polars, arrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    frame = table(news[1]).head(50)
    found = fitted.predict_proba(frame)
    for other in (polars.from_pandas(frame), arrow.Table.from_pandas(frame), dict(frame)):
        np.testing.assert_array_equal(fitted.predict_proba(other), found)


@pytest.mark.slow
def test_the_seed_is_obeyed_and_parameters_stay(news, fitted):
    """Catches parameters that `fit` changes, and weights or rows drawn from another seed.

    What is "auto" may follow the clock, so rate and batch size are given.
    """
    known, new = news
    first = clone(fitted).set_params(learning_rate=0.002, batch_size=64, max_iter=1)
    again = clone(first)
    assert again.get_params() == first.get_params() and not hasattr(again, "result_")
    rows = table(new).head(100)
    found = first.fit(table(known), known.y).predict_proba(rows)
    assert again.fit(table(known), known.y) is again
    np.testing.assert_array_equal(again.predict_proba(rows), found)


@pytest.mark.slow
def test_scikit_learn_can_search(news):
    """Catches a fit that cannot take rows of a frame with their own index."""
    frame, y = table(news[0]).head(600), news[0].y[:600]
    model = FusionClassifier(text="news", words="hashed", num_words=256, max_iter=1)
    search = GridSearchCV(model, {"width": [4, 8]}, cv=2, scoring="neg_log_loss").fit(frame, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_weights_of_rows_count(news):
    """Catches weights that are dropped: rows of weight 0 have the other class."""
    known, new = news
    frame = pd.concat([table(known).head(1500)] * 2, ignore_index=True)
    y = np.concatenate([known.y[:1500], 1 - known.y[:1500]])
    weight = np.repeat([1.0, 0.0], 1500)
    model = FusionClassifier(text="news", random_state=0).fit(frame, y, weight)
    assert model.score(table(new), new.y) > 0.58  # without weights: a fair coin


@pytest.mark.parametrize(
    ("change", "columns", "kind", "words"),
    [
        ({"words": "counts"}, {}, UsageError, "words must be"),
        ({"text": "story"}, {}, UsageError, "no column 'story'"),
        ({"branch_dropout": 0.9}, {}, UsageError, "branch_dropout"),
        ({"width": 0}, {}, UsageError, "width"),
        ({"validation_fraction": 1}, {}, UsageError, "validation_fraction"),
        ({"numbers": ["news"]}, {}, UsageError, "one use"),
        ({"numbers": ["place"]}, {"place": "x"}, DataError, "place.*not hold numbers"),
        ({"order": [0, 2]}, {}, UsageError, r"order must name every class; missing: \[1\]"),
        ({"order": [0, 1, 1]}, {}, UsageError, "once"),
        ({"order": "up"}, {}, UsageError, "order"),
        ({"order": 3}, {}, UsageError, "order"),
        ({"alpha": -1.0}, {}, UsageError, "alpha must be"),
        ({"max_iter": 0}, {}, UsageError, "max_iter must be"),
        ({"text": None}, {}, UsageError, "text must be names"),
        ({"numbers": "gdp"}, {}, UsageError, "numbers must be names"),
        ({"branch_dropout": "a"}, {}, UsageError, "branch_dropout must be a number"),
        ({"validation_fraction": "a"}, {}, UsageError, "validation_fraction must be a number"),
        ({"words": "hashed", "num_words": 2**33}, {}, UsageError, "num_words must be"),
        ({}, {"gdp": [str(i) for i in range(300)]}, DataError, "gdp.*no category occurs in two"),
        ({}, {"gdp": [None] * 300}, DataError, "gdp.*no category"),
        ({}, {"gdp": 1j}, DataError, "gdp.*neither"),
        ({"numbers": ["gdp"]}, {"gdp": np.datetime64("2020-01-01")}, DataError, "not hold numbers"),
        ({}, {"gdp": 1e300}, DataError, "gdp.*1e\\+300 is too large"),
        ({}, {"gdp": np.inf}, DataError, "gdp.*infinite"),
        ({}, {"gdp": np.nan}, DataError, "gdp.*no training row"),
        ({}, {"news": ""}, DataError, "text has no word"),
        ({}, {"when": np.datetime64("2020-01-01")}, DataError, "when.*neither"),
        ({"words": "embedding"}, {}, DataError, "embedding must be numbers"),
    ],
)
def test_wrong_usage_says_what_is_wrong(news, change, columns, kind, words):
    known, _ = news
    model = FusionClassifier(**({"text": "news"} | change))
    with pytest.raises(kind, match=words):
        model.fit(table(known).head(300).assign(**columns), known.y[:300])


def test_more_wrong_usage(news, fitted):
    known, _ = news
    frame, y = table(known).head(300), known.y[:300]
    model = FusionClassifier(text="news")
    for arguments, words in (
        ((frame.to_numpy(), y), "data frame"),
        ((frame, y[:10]), r"y must have one value a row, \(300,\)"),
        ((frame, y, -np.ones(300)), "sample_weight"),
        ((frame.head(0), y[:0]), "one length"),
    ):
        with pytest.raises(UsageError, match=words):
            model.fit(*arguments)
    with pytest.raises(DataError, match="two classes"):
        model.fit(frame, np.zeros(300))
    with pytest.raises(UsageError, match="none are held out"):
        model.fit(frame.head(50), y[:50], times=np.arange(50))
    with pytest.raises(UsageError, match=r"missing: \['debt'\]"):
        fitted.predict(frame.drop(columns="debt"))
    with pytest.raises(UsageError, match="without"):
        fitted.predict(frame, without="words")
    with pytest.raises(UsageError, match="top must be"):
        fitted.explain(frame, top=-1)
    weight = np.ones(300)
    weight[FusionClassifier(random_state=0)._held_out(300, y, None, 0).train] = 0
    with pytest.raises(DataError, match="zero for every training row"):
        model.fit(frame, y, weight, times=y)
    for each in (model, FusionRegressor(text="news")):
        with pytest.raises(NotFittedError):
            each.predict(frame)
    with pytest.raises(DataError, match="row 3: y must be finite"):
        FusionRegressor(text="news").fit(frame, np.where(np.arange(300) == 2, np.nan, 1.0))
    for bad in (np.arange(300).astype("M8[D]"), [str(i) for i in range(300)]):
        with pytest.raises(DataError, match="y must be numbers"):
            FusionRegressor(text="news").fit(frame, bad)
    with pytest.raises(DataError, match=r"column 'y': a value of .* is too large"):
        FusionRegressor(text="news").fit(frame, 1e300 * known.score[:300])
