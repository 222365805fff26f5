"""The anatomy of the noise at one point, on linear regression, where every answer is known."""

from __future__ import annotations

import json
import textwrap

import jax
import numpy as np
import pytest

from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.noise import Extras, PointSettings, anatomy
from downslope.noise.survey.anatomy import SECTIONS
from downslope.noise.survey.record import Anatomy, Section
from downslope.noise.trajectory import Trajectory

pytestmark = pytest.mark.usefixtures("quick_compilation")

SCALES = np.array([2.0, 1.0, 0.5])  # of the inputs: curvatures 4, 1 and 0.25
NOISE = 1.5  # variance of the targets about the line
NUM_ROWS = 4000


def losses(params, rows):
    return 0.5 * (rows[0] @ params["w"] - rows[1]) ** 2


def regression(num=NUM_ROWS, seed=1):
    """Gaussian inputs, and targets about the line with coefficients 0."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 3)) * SCALES
    return x.astype("f4"), (rng.normal(size=num) * NOISE**0.5).astype("f4")


def look(weights, rows, *sections, extras=None, batch_size=16, losses=losses, **setting):
    params = {"w": np.asarray(weights, "f4")}
    options = {"batch_size": batch_size, "num_rows": None, "learning_rate": 0.1, **setting}
    return anatomy(
        losses,
        params,
        rows,
        PointSettings(**options),
        extras=extras or Extras(),
        sections=sections or None,
    )


def holds(found, truth, slack=1.0):
    """The truth lies in the interval, widened about the value: one sample in 20 misses it."""
    lo = found.value - slack * (found.value - found.lo)
    hi = found.value + slack * (found.hi - found.value)
    return lo <= truth <= hi


def drawn_gradients(weights, num, seed=11):
    """Gradients of fresh rows, straight from their definition."""
    x, y = regression(num, seed)
    return x.astype("f8") * (x @ np.asarray(weights, "f8") - y)[:, None]


AWAY = np.array([0.5, -0.5, 1.0])


@pytest.fixture(scope="module")
def away():
    return look(AWAY, regression()).records()


@pytest.mark.slow
def test_the_noise_away_from_the_optimum(away):
    # moments by brute force: of 2 million fresh rows
    g = drawn_gradients(AWAY, 2_000_000)
    signal, trace = (g.mean(0) ** 2).sum(), g.var(0).sum()
    assert holds(away["scale/gradient_signal"], signal, 1.3)
    assert holds(away["scale/gradient_noise"], trace, 1.3)
    assert holds(away["scale/noise_scale"], trace / signal, 1.3)
    # E|g_B - G|^2 of batches of 16, counted
    batches = g.reshape(-1, 16, 3).mean(1)
    assert holds(away["gradient/batch_variance"], ((batches - g.mean(0)) ** 2).sum(1).mean(), 1.3)
    pairs = batches.reshape(-1, 2, 3)
    cosine = (pairs[:, 0] * pairs[:, 1]).sum(1).mean() / (batches**2).sum(1).mean()
    assert holds(away["gradient/cosine_between_batches"], cosine, 1.3)
    # one direction carries most of the noise, for which the chance is no good, and says so
    assert "rough" in away["gradient/chance_above_90_degrees"].flags[0]
    weighted = (g.var(0) * SCALES**2).sum() / (g.mean(0) ** 2 * SCALES**2).sum()
    assert holds(away["scale/curvature_weighted_noise_scale"], weighted, 1.5)


def test_the_chance_of_a_rise_against_steps_taken():
    def full_loss(w):  # of endless data
        return 0.5 * ((w * SCALES) ** 2).sum(-1)

    batches = drawn_gradients(AWAY, 640_000, seed=2).reshape(-1, 16, 3).mean(1)
    after = full_loss(AWAY - 0.4 * batches)
    rises = (after > full_loss(AWAY)).mean()
    found = look(AWAY, regression(), "gradient", learning_rate=0.4).records()
    assert holds(found["gradient/chance_of_rise"], rises, 1.3)
    change = (after - full_loss(AWAY)).mean()
    assert holds(found["gradient/loss_change_of_one_step"], change, 1.3)


def test_the_needed_batch_against_batches_drawn(away):
    needed = away["required/needed"]
    gradients = drawn_gradients(AWAY, 4_000_000, seed=3)
    mean = gradients.mean(0)

    def share_missed(size):
        size = round(size)
        batches = gradients[: len(gradients) // size * size].reshape(-1, size, 3).mean(1)
        return (np.linalg.norm(batches - mean, axis=1) > 0.5 * np.linalg.norm(mean)).mean()

    assert share_missed(needed.lo * 0.9) > 0.1 > share_missed(needed.hi * 1.1)
    assert away["required/guaranteed"].value > needed.value


@pytest.mark.slow
def test_curvature(away):
    assert away["curvature/lambda_max"].value == pytest.approx(4, rel=0.1)  # of 4,000 rows
    assert away["curvature/lambda_min"].value == pytest.approx(0.25, rel=0.1)
    assert away["curvature/hessian_trace"].value == pytest.approx(5.25, rel=0.07)
    assert away["curvature/stability_ratio"].value == pytest.approx(0.1 * 4 / 2, rel=0.1)
    # the mean square of SGD on x^2 of one direction: E(1 - eta mean x^2)^2 = 1, counted
    squares = np.random.default_rng(4).normal(size=(200_000, 16)) ** 2 * 4
    rates = np.linspace(0.3, 0.6, 301)
    grows = [((1 - rate * squares.mean(1)) ** 2).mean() > 1 for rate in rates]
    assert holds(away["curvature/mean_square_limit"], rates[np.argmax(grows)], 1.3)


def test_sampled_hessians_are_flagged_and_whole_ones_are_not():
    rows = regression(200)
    part = look(AWAY, rows, "curvature", num_rows=1000).records()["curvature/lambda_max"]
    whole = look(AWAY, rows, "curvature", num_rows=200).records()["curvature/lambda_max"]
    assert any("biased up" in flag for flag in part.flags)
    assert not any("biased up" in flag for flag in whole.flags)


def test_noise_at_the_optimum_has_the_shape_of_the_curvature():
    found = look(np.zeros(3), regression(), "covariance", "temperature")
    # R = d tr(H^2) / (tr H)^2 for Sigma = 1.5 H with curvatures 4, 1, 0.25
    assert holds(found.records()["covariance/sharpness_ratio"], 3 * 17.0625 / 5.25**2, 1.3)
    assert "stronger in the sharp directions" in found.sections["covariance"].sentences[0]
    # half the rate times the variance of a batch's gradient, per direction
    assert holds(found.records()["temperature/temperature"], 0.05 * 1.5 * 5.25 / 16 / 3, 1.3)


def test_a_counterexample_is_told_as_one():
    """A sharp feature fitted well and a flat one with all the noise, each in rows of its own."""
    rng = np.random.default_rng(0)
    sharp = rng.random(4000) < 0.5
    x = np.where(sharp[:, None], [[3.0, 0.0]], [[0.0, 0.5]]) * rng.normal(size=(4000, 1))
    y = np.where(sharp, 0.05, 3.0) * rng.normal(size=4000)
    rows = x.astype("f4"), y.astype("f4")
    found = look(np.zeros(2), rows, "covariance")
    ratio = found.records()["covariance/sharpness_ratio"]
    # Sigma = (9 * 0.0025, 0.25 * 9) / 2 against H = (9, 0.25) / 2
    assert holds(ratio, 2 * (0.0225 * 9 + 2.25 * 0.25) / ((0.0225 + 2.25) * 9.25), 1.3)
    assert "stronger in the flat directions" in found.sections["covariance"].sentences[0]


def test_first_layer_noise_follows_the_inputs():
    rows = regression()
    found = look(np.zeros(3), rows, "covariance", extras=Extras(inputs=rows[0]))
    cosines = np.array(found.sections["covariance"].tables["input_cosines"])
    assert np.diag(cosines) == pytest.approx(1, abs=0.02)
    # a leaf that merely has a fitting number of entries is not the first layer
    cubed = look(
        np.zeros((2, 3)),
        rows,
        "covariance",
        extras=Extras(inputs=rows[0]),
        losses=lambda p, r: losses({"w": p["w"].sum(0)}, r),
    )
    assert "input_cosines" not in cubed.sections["covariance"].tables
    # nor do inputs of other rows say anything about these gradients
    other = look(np.zeros(3), rows, "covariance", extras=Extras(inputs=rows[0][:100]))
    assert "input_cosines" not in other.sections["covariance"].tables


def test_mislabelled_rows_are_named():
    x, y = regression(1000)
    wrong = [17, 400, 999]
    y[wrong] += 40 * np.sign(y[wrong])
    x[wrong] = np.sign(x[wrong]) * 2
    for numbers in (None, np.arange(1000) * 3, lambda places: places * 3):
        found = look(np.zeros(3), (x, y), "tails", extras=Extras(row_numbers=numbers))
        named = found.sections["tails"].tables["top_rows"]
        assert set(named[:3]) == {row if numbers is None else 3 * row for row in wrong}
        assert str(named[0]) in found.sections["tails"].sentences[1]
    assert found.records()["tails/top_percent_share"].value > 0.8


def test_groups_add_up():
    def two(params, rows):
        return 0.5 * (rows[0][:, 0] * params["a"] + rows[0][:, 1:] @ params["b"] - rows[1]) ** 2

    params = {"a": np.float32(0.5), "b": np.float32([-0.5, 1.0])}
    setting = PointSettings(batch_size=16)
    found = anatomy(two, params, regression(), setting, sections=["scale"]).records()
    g = drawn_gradients(AWAY, 1_000_000)
    for name, part in (("a", g[:, :1]), ("b", g[:, 1:])):
        truth = part.var(0).sum() / (part.mean(0) ** 2).sum()
        assert holds(found[f"scale/noise_scale {name}"], truth, 1.3), name
    # traces and signals add up, so the whole lies between its parts
    parts = [found[f"scale/noise_scale {name}"].value for name in "ab"]
    assert min(parts) < found["scale/noise_scale"].value < max(parts)


def batch_losses(params, rows):
    """The same mean loss, but as one number a batch, which is what interacting rows give."""
    value = losses(params, rows)
    return value.mean() + 0 * value


@pytest.mark.slow
def test_interacting_rows_make_the_batch_the_unit():
    rows = regression(8000)
    plain = look(AWAY, rows, num_rows=8000)
    found = look(AWAY, rows, num_rows=8000, interacts=True, losses=batch_losses)
    one, whole = plain.records(), found.records()
    # what describes an update is the same, however the noise was measured
    for name in ("gradient/batch_variance", "temperature/temperature", "escape/lambda_min"):
        assert whole[name].value == pytest.approx(one[name].value, rel=0.15), name
    scale = whole["scale/noise_scale"]
    assert scale.unit == "batches"
    assert any("interact" in flag for flag in scale.flags)
    assert scale.value == pytest.approx(one["scale/noise_scale"].value / 16, rel=0.4)
    assert whole["required/needed"].unit == "batches"
    assert "curvature/mean_square_limit" not in whole
    assert "top_batches" in found.sections["tails"].tables


def saddle(params, rows):
    """Curvature -1 along the noisy coordinate and 1 along the other."""
    return -0.5 * params["w"][0] ** 2 + 0.5 * params["w"][1] ** 2 + rows @ params["w"]


def test_a_saddle_is_left_in_the_steps_that_simulation_takes():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(4096, 2)) * 0.5).astype("f4")
    rows -= rows.mean(0)
    found = {}
    for kind, beta in ((None, 0.0), ("heavy_ball", 0.5), ("ema", 0.5)):
        one = look(
            np.zeros(2),
            rows,
            "escape",
            batch_size=4,
            losses=saddle,
            learning_rate=0.02,
            optimizer="momentum" if kind else "sgd",
            momentum=beta,
            momentum_kind=kind,
        )
        found[kind] = one.records()["escape/steps_to_distance_1"].value
    assert found[None] == pytest.approx(found["ema"])
    position, steps = np.zeros(400), np.zeros(400)
    while (inside := np.abs(position) < 1).any():
        g = -position + rng.normal(size=400) * 0.5 / 2
        position, steps = np.where(inside, position - 0.02 * g, position), steps + inside
    assert found[None] == pytest.approx(steps.mean(), rel=0.1)
    assert found["heavy_ball"] < 0.7 * found[None]


def test_preconditioned_rules():
    rows = regression()
    extras = Extras(preconditioner=[4.0, 1.0, np.inf], decays={"b1": 0.9, "b2": 0.999})
    found = look(AWAY, rows, optimizer="adam", is_plain=False, extras=extras)
    records = found.records()
    assert records["curvature/preconditioned_lambda_max"].value == pytest.approx(1, abs=0.1)
    # heavy inertia: the limit is (2 + 2 b)/(1 - b), 38 for b = 0.9
    assert records["curvature/stability_ratio"].value == pytest.approx(0.1 / 38, rel=0.1)
    assert "preconditioned" in found.skipped["escape"]
    assert not records["temperature/temperature"].is_measured
    assert "half-life 6.58 steps" in found.sections["memory"].sentences[0]
    unknown = look(AWAY, rows, "curvature", optimizer="adam", is_plain=False).records()
    assert "preconditioner of adam is not known" in unknown["curvature/stability_ratio"].reason
    for bad in ([1.0, np.nan, 1.0], [0.0, 1.0, 1.0]):
        broken = look(
            AWAY,
            rows,
            "curvature",
            optimizer="adam",
            is_plain=False,
            extras=Extras(preconditioner=bad),
        )
        assert broken.records()["curvature/stability_ratio"].reason


def test_adagrad_stalls_by_what_is_left():
    g = drawn_gradients(AWAY, 1_000_000)
    square = (g.reshape(-1, 16, 3).mean(1) ** 2).mean()  # of a batch's gradient, by parameter
    extras = Extras(accumulator=(square * 300, 100))
    found = look(
        AWAY, regression(), "memory", optimizer="adagrad", is_plain=False, extras=extras
    ).records()
    assert found["memory/adagrad_stall_ratio"].value == pytest.approx(3, rel=0.1)
    assert "no moving average" in look(AWAY, regression(), "memory").skipped["memory"]


def test_order_and_trajectory():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 1000)
    extras = Extras(
        columns={"x": rng.normal(size=4000)},
        labels=classes,
        visited={"y": rng.permutation(classes)},
    )
    section = look(AWAY, regression(), "order", extras=extras).sections["order"]
    stored, visited = section.sentences
    assert "shuffle before training" in stored
    assert "No order found" in visited
    assert section.records["as stored: labels"].value == pytest.approx(16, rel=0.15)
    path = Trajectory(3)
    for step, point in enumerate(np.cumsum(rng.normal(size=(300, 3)), axis=0), 1):
        path.add(point, step)
    found = look(AWAY, regression(), "trajectory", extras=Extras(trajectory=path))
    assert found.records()["trajectory/displacement_exponent"].value == pytest.approx(1, abs=0.3)


PLAIN_SETTINGS = PointSettings(batch_size=4)
EMPTY = np.zeros((60, 3), "f4"), np.zeros(60, "f4")


def degenerate():
    x, y = regression(60)
    broken, endless = x.copy(), x.copy()
    broken[3, 1], endless[3, 1] = np.nan, np.inf
    equal = np.ones((60, 3), "f4"), np.ones(60, "f4")
    yield from ((f"{n} rows", losses, AWAY, regression(n)) for n in (1, 2, 3, 5))
    yield "zero gradients", losses, np.zeros(3), (x, 0 * y)
    yield "zero inputs", losses, AWAY, EMPTY
    yield "a NaN", losses, AWAY, (broken, y)
    yield "an infinity", losses, AWAY, (endless, y)
    yield "equal rows", losses, np.zeros(3), equal
    yield "no curvature", lambda p, r: r[0] @ p["w"] * r[1], AWAY, (x, y)
    yield "no parameter used", lambda p, r: r[1] ** 2, AWAY, (x, y)
    yield "huge", losses, np.full(3, 1e18), (x, y)
    yield "tiny", losses, AWAY, (x * 1e-18, y * 1e-18)
    yield "NaN parameters", losses, np.full(3, np.nan), (x, y)


@pytest.mark.parametrize(
    ("loss", "weights", "rows"),
    [pytest.param(*case, id=name) for name, *case in degenerate()],
)
@pytest.mark.parametrize("interacts", [False, True])
def test_degenerate_input_gives_reasons(loss, weights, rows, interacts):
    # a batch larger than the data set is the data set
    for batch_size in (4, 1000):
        found = look(
            weights,
            rows,
            losses=loss,
            batch_size=batch_size,
            interacts=interacts,
            num_rows=len(rows[1]),
            extras=Extras(inputs=rows[0]),
        )
        assert set(found.sections) | set(found.skipped) == set(SECTIONS)
        json.dumps(found.to_json(), allow_nan=False)
        for name, record in found.records().items():
            assert record.is_measured or record.reason, name
        # no sentence is made around a hole but those that say so themselves
        for name in set(found.sections) - {"tails", "covariance", "escape"}:
            assert "not estimable" not in " ".join(found.sections[name].sentences)


def test_what_has_no_spread_has_no_number():
    for case in ("zero gradients", "equal rows", "a NaN", "NaN parameters"):
        (found,) = (
            look(w, r, losses=f, num_rows=60, batch_size=4)
            for name, f, w, r in degenerate()
            if name == case
        )
        for name in (
            "scale/noise_scale",
            "required/needed",
            "temperature/temperature",
            "covariance/sharpness_ratio",
            "tails/top_share",
            "gradient/chance_of_rise",
        ):
            assert not found.records()[name].is_measured, (case, name)


@pytest.mark.slow
def test_one_parameter():
    x, y = regression()
    found = look(0.5, (x[:, :1], y), losses=lambda p, r: losses({"w": p["w"][None]}, r))
    assert found.records()["curvature/lambda_max"].value == pytest.approx(4, rel=0.1)
    g = drawn_gradients([0.5, 0, 0], 1_000_000)[:, 0]
    assert holds(found.records()["scale/noise_scale"], g.var() / g.mean() ** 2, 1.3)


def test_float64_keeps_its_digits():
    x = regression(200)[0].astype("f8")
    with jax.enable_x64(True):
        found = anatomy(
            losses,
            {"w": np.full(3, 0.1)},
            (x, x @ np.zeros(3)),
            PointSettings(batch_size=16, num_rows=200, learning_rate=0.1),
            sections=["scale", "curvature"],
        ).records()
    exact = np.linalg.eigvalsh(x.T @ x / 200)
    assert found["curvature/lambda_max"].value == pytest.approx(exact[-1], rel=1e-12)
    g = x * (x @ np.full(3, 0.1))[:, None]
    assert found["scale/gradient_noise"].value == pytest.approx(g.var(0, ddof=1).sum(), rel=1e-10)


def test_the_time_is_kept():
    rows = regression(300)
    found = anatomy(
        losses, {"w": np.zeros(3, "f4")}, rows, PointSettings(batch_size=4), seconds=0.0
    )
    assert not found.sections
    assert set(found.skipped) == set(SECTIONS)
    assert all("time of 0 s was used up" in why for why in found.skipped.values())


@pytest.mark.parametrize("sections", [["scales"], [], "scale", ["scale", "x"]])
def test_unknown_subjects(sections):
    with pytest.raises(UsageError, match="sections must be names of gradient, scale"):
        anatomy(losses, {"w": np.zeros(3, "f4")}, EMPTY, PLAIN_SETTINGS, sections=sections)


def test_text_is_readable(away):
    text = str(look(AWAY, regression(500), num_rows=500))
    assert max(map(len, text.splitlines())) <= 100
    assert "Noise scale\n  noise and signal are equal at a batch size of " in text
    assert "\nLeft out\n  memory " in text


def test_long_lists_and_odd_values():
    one = Estimate(value=None, unit="", reason="nothing was there")
    section = Section(
        title="Title",
        sentences=("word " * 60,),
        tables={"a": np.array([1.0, np.nan]), "b": (np.inf,)},
        records={f"record {k}": one for k in range(30)} | {"last": Estimate(value=2.0, unit="m")},
    )
    whole = Anatomy(sections={"s": section}, skipped={"x": "reason " * 40}, seconds=1.0)
    text = str(whole)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("nothing was there") == 1
    assert "record 29" in text
    assert "  last  2 m" in text
    plain = json.loads(json.dumps(whole.to_json(), allow_nan=False))
    assert plain["sections"]["s"]["tables"] == {"a": [1.0, None], "b": [None]}
    assert textwrap.dedent(text).startswith("Title")
