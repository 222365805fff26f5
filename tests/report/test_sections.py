"""What the parts of the report say, against journals whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from downslope.report import RunReader
from downslope.report.advice import next_steps
from downslope.report.blocks import Chart, Gap, thinned
from downslope.report.charts import CHARTS
from downslope.report.page import SECTIONS
from downslope.report.sections import data, descent, landscape, machine, noise, price, verdict


def of(value, half):
    return {"value": value, "lo": value - half, "hi": value + half}


def progress(step, **more):
    return {"event": "progress", "step": step, "seconds": step / 10, "batch_size": 100,
            "loss": 1.0, "examples_per_second": 1000.0, "waiting_share": 0.0,
            "span_seconds": 1.0, **more}  # fmt: skip


def evaluated(step, loss, half=0.01):
    return {"event": "evaluated", "step": step, "seconds": step / 10, "metrics": {
        "loss": of(loss, half)}}  # fmt: skip


def measured(step, scale, size=100, **more):
    return {"event": "measured", "step": step, "seconds": step / 10, "batch_size": size,
            "noise_scale": scale, **more}  # fmt: skip


def stopped(reason="finished"):
    return {"event": "stopped", "step": 30, "reason": reason}


def result(**values):
    return {"stop_reason": "finished", "seconds": 10.0, "num_steps": 100, **values}


@pytest.mark.parametrize("name", SECTIONS)
def test_nothing_to_show_is_said_with_its_reason(hand, name) -> None:
    """Catches a part that fails, or is silent, on a run that has just begun."""
    found = SECTIONS[name].section(RunReader(hand()))
    assert not [b for b in found.blocks if isinstance(b, Chart)]
    gaps = [b for b in found.blocks if isinstance(b, Gap)]
    assert all(gap.reason and "\n" not in gap.reason for gap in gaps)


def test_every_chart_has_title_reading_and_numbers(told) -> None:
    """On a real run with evidence each chart is there, and none has a number that is none."""
    run = RunReader(told)
    for name, make in CHARTS.items():
        chart = make(run)
        if isinstance(chart, Gap):
            assert name in ("equilibrium",), (name, chart.reason)
            continue
        assert chart.name == name and chart.title
        assert chart.reading.endswith((".", ":")) and "nan" not in chart.reading
        assert chart.table.rows
        cells = [cell for row in chart.table.rows for cell in row if isinstance(cell, float)]
        assert all(math.isfinite(cell) for cell in cells)


def test_share_spent_against_a_count() -> None:
    """E(B) counted: a step at B gets as far as 1/(1 + scale/B) of one without noise.

    Catches the share of steps in place of that of examples.
    """
    scale, batch = 300.0, 100.0
    steps_needed, progress_made = 0, 0.0
    while progress_made < 1000:  # in steps without noise
        progress_made += 1 / (1 + scale / batch)
        steps_needed += 1
    least = 1000 * scale  # examples at a batch of almost nothing
    used = steps_needed * batch
    assert price.share_spent(batch, scale) == pytest.approx(1 - least / used, rel=1e-3)


def test_angle_against_gradients_that_were_drawn() -> None:
    """Catches the noise of one batch only, and degrees in place of radians."""
    rng, dim, batch = np.random.default_rng(0), 4000, 25
    mean = np.full(dim, 0.2)
    one, two = (mean + rng.normal(size=dim) / math.sqrt(batch) for _ in range(2))
    cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    scale = dim / (mean @ mean)
    assert price.angle(batch, scale) == pytest.approx(math.degrees(math.acos(cosine)), abs=2)


def test_the_share_of_a_run_weighs_its_examples(hand) -> None:
    """900 examples at a share of 1/2, 100 at 9/10. Catches a mean over readings."""
    run = RunReader(hand([measured(9, of(100.0, 1)), measured(10, of(100 / 9, 1))]))
    value, lo, hi = price.whole_share(run)
    assert value == pytest.approx(0.9 * 0.5 + 0.1 * 0.9)
    assert lo < value < hi


@pytest.mark.parametrize(("scale", "words"), [
    (of(1000.0, 100), "the noise outweighed the gradient"),
    (of(10.0, 5), "the gradient outweighed the noise"),
    (of(100.0, 50), "about as much noise as gradient"),
    ({"lo": 500.0, "reason": "lost"}, "the noise outweighed"),
    ({"lo": 50.0, "reason": "lost"}, "about as much"),
])  # fmt: skip
def test_the_sentence_on_the_noise_scale(hand, scale, words) -> None:
    assert words in noise.scale_chart(RunReader(hand([measured(10, scale)]))).reading


def test_each_part_has_the_scale_in_its_own_metric(hand) -> None:
    """Catches an angle in Adam's metric, a price in the Euclidean one, and a scale shown without
    the other or under its name.
    """
    own = {"preconditioned_noise_scale": of(1000.0, 100)}
    run = RunReader(hand([measured(9, of(100.0, 1), **own), measured(10, of(100.0, 1), **own)]))
    chart = noise.scale_chart(run)
    assert "the preconditioned noise scale was 1,000 (900 to 1,100)" in chart.reading
    assert "the Euclidean one 100.0 (99.0 to 101.0)" in chart.reading
    assert chart.table.head[3:] == (
        "preconditioned noise scale", "from", "to", "Euclidean", "from", "to"
    )  # fmt: skip
    assert chart.table.rows[0][3:] == (1000.0, 900.0, 1100.0, 100.0, 99.0, 101.0)
    assert price.whole_share(run)[0] == pytest.approx(100 / 1100)
    assert "60° (60° to 60°)" in price.angle_chart(run).reading
    plain = noise.scale_chart(RunReader(hand([measured(10, of(100.0, 1))])))
    assert "the noise scale was 100" in plain.reading and "Euclidean" not in plain.reading
    assert len(plain.table.head) == 6


def test_the_sweet_spot_where_it_has_a_closed_form(hand) -> None:
    """sqrt(scale tau_f/tau_d) = sqrt(400 x 100) = 200. Catches minutes, swapped costs, no law."""
    sizes = [25, 50, 100, 200, 400, 800]
    seconds = [[1e-3 + 1e-5 * b] * 5 for b in sizes]
    run = RunReader(
        hand(
            [
                measured(100, of(400.0, 10), size=50),
                progress(100, batch_size=50),
                {"event": "timed", "batch_sizes": sizes, "step_seconds": seconds},
            ]
        )
    )
    found = machine.sweet(run)
    assert found.spot.batch_size == pytest.approx(200, abs=10)
    truth = (1 + 400 / 50) * (1 + 0.5) / ((1 + 400 / 200) * (1 + 2.0))
    assert found.ratio == pytest.approx(truth, rel=0.02)
    assert next_steps(run)[0].do.startswith("Set the batch size to about 2")


def test_one_size_timed_is_no_curve(hand) -> None:
    records = [{"event": "timed", "batch_sizes": [64], "step_seconds": [[2e-3, 3e-3, 9.0]]}]
    gap = machine.step_chart(RunReader(hand(records)))
    assert "only steps of 64 examples were timed (3 ms each)" in gap.reason


def test_waiting_weighs_time(hand) -> None:
    """9 s at 0, 1 s at 100 %: a tenth. Catches a mean over records."""
    run = RunReader(hand([progress(90, span_seconds=9.0), progress(100, waiting_share=1.0)]))
    assert machine.waiting_share(run) == pytest.approx(0.1)


def test_decisions_are_numbered_alike_on_the_axis_and_in_the_list(hand) -> None:
    """A decision that a divergence took back keeps its number."""
    decided = {"event": "decided", "knob": "learning_rate", "old": 1.0, "because": "it fell most"}
    run = RunReader(hand([progress(10), {**decided, "step": 10, "seconds": 1.0, "new": 0.5},
                    progress(20), {**decided, "step": 20, "seconds": 2.0, "new": 0.25},
                    {"event": "diverged", "step": 10, "bad_step": 20}, progress(30)]))  # fmt: skip
    assert descent.decision_marks(run, "time") == [(1.0, 1), (2.0, 2)]
    notes = descent.decisions(run)
    assert [item[0] for item in notes.items] == ["1", "2"]
    assert "learning rate 1 \u2192 0.25" in notes.items[1][1]
    assert "rolled back to step 10" in notes.note


def test_trials_are_drawn_over_time_as_trials(hand) -> None:
    """Catches trials that shift the clock of the run's first updates, one that diverged drawn at
    some loss, and trials drawn where they have no place.
    """
    tried = {"event": "trial", "step": 0, "num_steps": 20, "span_seconds": 0.5, "first_loss": 2.0}
    run = RunReader(hand([{**tried, "learning_rate": 0.1, "loss": 1.5, "seconds": 1.0},
                    {**tried, "learning_rate": 0.3, "loss": None, "seconds": 2.0},
                    progress(20), progress(30)]))  # fmt: skip
    found = descent.trials(run)
    assert [(t.begin, t.end, t.loss, t.learning_rate) for t in found] == [
        (0.5, 1.0, 1.5, 0.1), (1.5, 2.0, None, 0.3),
    ]  # fmt: skip
    assert run.clock.seconds(0) == 0.0
    labels = []
    for over in ("time", "examples"):
        axes = run.plot_descent(over=over)
        labels.append([text.get_text() for text in axes.figure.legends[0].get_texts()]
                      if axes.figure.legends else axes.get_legend_handles_labels()[1])  # fmt: skip
    assert "trials" in labels[0] and "trials" not in labels[1]


def test_a_new_start_begins_a_trend_of_its_own(hand) -> None:
    """Catches a trend drawn from one start to the next, or mixed of both."""
    decided = {"event": "decided", "knob": "learning_rate", "old": 1.0, "because": "it overfitted"}
    records = [progress(10 * n, loss=1.0 if n <= 40 else 5.0) for n in range(1, 81)]
    records.insert(40, {**decided, "step": 400, "new": 0.3, "from_start": True})
    records.insert(60, {**decided, "step": 590, "new": 0.1, "from_start": False})
    run = RunReader(hand(records))
    found = descent.training_losses(run, "examples")
    assert {(each.start, each.trend) for each in found} == {(0, 1.0), (1, 5.0)}
    lines = run.plot_descent(over="examples").get_lines()
    assert [line.get_label() for line in lines].count("trend") == 1
    assert any(line.get_label() == "new start" for line in lines)


def test_where_the_time_went(hand) -> None:
    """Catches shares of the wrong whole, and a row for a run that does not know."""
    record = {**stopped(), "spent_seconds": {"updates": 3.0, "search": 1.0, "saving": 0.0}}
    name, value, note = machine.costs(RunReader(hand([progress(10), record]))).rows[0]
    assert (name, note) == ("Time", "75 % updates, 25 % trials")
    assert value == "1 s"
    rows = machine.costs(RunReader(hand([progress(10), stopped()]))).rows
    assert "Time" not in {name for name, *_ in rows}


def test_a_solved_run_has_no_descent(hand) -> None:
    run = RunReader(hand([{"event": "solved", "step": 0, "is_solved": True, "seconds": 0.1}]))
    assert "computed directly" in descent.over_time(run).reason


def test_the_trend_keeps_a_straight_line() -> None:
    """Catches a window that is cut at one end only, and so leans."""
    line = [3.0 + 0.5 * i for i in range(100)]
    assert descent.trend(line) == pytest.approx(line)
    assert descent.trend([1.0, -1.0] * 50)[50] == pytest.approx(0, abs=0.2)


def test_long_tables_keep_their_ends() -> None:
    table = thinned(("i",), [(i,) for i in range(1000)])
    assert len(table.rows) == 60 and table.rows[0] == (0,) and table.rows[-1] == (999,)
    assert "60 of 1,000" in table.note
    assert thinned(("i",), [(i,) for i in range(60)]).note == ""


def test_scores_beside_baselines(told) -> None:
    rows = dict((row[0], row[1:]) for row in verdict.comparison(RunReader(told)).rows)
    assert rows["This model"][0] == "0.400 (0.380 to 0.420) nats"
    assert "42 % lower" in rows["A constant prediction"][1]  # 1 - 0.40/0.69


@pytest.mark.parametrize(
    ("longer", "row"),
    [
        ({"value": 0.36, "lo": 0.3, "hi": 0.4}, ("0.36", "0.3 to 0.4")),
        ({"value": None, "reason": "too few"}, ("not estimable", "too few")),
        (None, None),
    ],
)
def test_what_a_run_twice_as_long_would_give(hand, longer, row) -> None:
    """Catches a row for a run that says nothing of it, and a reason that is lost."""
    run = RunReader(hand([progress(30), stopped()], result(twice_as_long=longer)))
    found = {name: shown for name, *shown in verdict.figures(run).rows}
    assert found.get("Held-out loss, run twice as long") == (row and list(row))


def test_a_run_under_way_says_so(hand) -> None:
    """Also one that was resumed, whose summary is that of the session before."""
    going = RunReader(hand([progress(30, fraction=0.25)]))
    assert not going.is_over and "about 25 % of it done" in verdict.trained(going)
    again = RunReader(hand([progress(30), stopped(), {"event": "resumed", "step": 30}], result()))
    assert not again.is_over and again.result == {}
    over = RunReader(hand([progress(30), {"event": "resumed", "step": 30}, stopped()], result()))
    assert over.is_over and over.result["num_steps"] == 100


# --- advice ----------------------------------------------------------------------------------


def advised(hand, records, **values):
    return [a.do for a in next_steps(RunReader(hand([*records, stopped()], result(**values))))]


QUIET = [progress(50), progress(100), measured(100, of(100.0, 10))]


@pytest.mark.parametrize(("records", "values", "words"), [
    ([], {"stop_reason": "diverged", "diverged_at_step": 7}, "ten times smaller"),
    ([{"event": "baselines", "model": of(0.69, 0.02), "trivial": of(0.70, 0.01),
       "gain_over_trivial": of(0.01, 0.015)}], {}, "nothing was learned"),
    ([{"event": "baselines", "model": of(0.70, 0.02), "trivial": of(0.70, 0.01)}], {},
     "nothing was learned"),  # of a run without paired gains
    ([{"event": "baselines", "model": of(0.50, 0.02), "trivial": of(0.70, 0.01),
       "gain_over_trivial": of(0.2, 0.01), "linear": of(0.49, 0.02),
       "gain_over_linear": of(-0.01, 0.005)}], {}, "linear model"),
    ([{"event": "checks", "findings": [{"severity": "error", "statement": "the target leaks",
                                        "remedy": "drop column 'z'"}]}], {}, "Drop column 'z'"),
    ([evaluated(50, 0.9), evaluated(75, 0.7), evaluated(100, 0.5)], {}, "Continue"),
    ([evaluated(50, 0.9), evaluated(75, 0.7), evaluated(100, 0.5)],
     {"twice_as_long": of(0.45, 0.02)}, "Train longer"),
    ([evaluated(50, 0.9), evaluated(75, 0.5), evaluated(100, 0.9)], {}, "Stop earlier"),
    ([measured(100, of(100.0, 10), step_correlation=of(-0.8, 0.1))], {}, "smaller learning rate"),
    ([progress(101, seconds=20.0, waiting_share=0.9)], {}, "faster disk"),
    ([{"event": "noisy_rows", "rows": [], "top_share": {"one_percent": 0.5}}], {}, "rows listed"),
    ([{"event": "importance", "columns": [{"name": "a", **of(1.0, 0.1)},
                                          {"name": "b", **of(0.01, 0.1)}]}], {}, "such as b"),
    ([{"event": "importance", "columns": [{"name": "a", **of(0.2, 0.1), "train": of(1.0, 0.1)},
                                          {"name": "b", **of(0.5, 0.1), "train": of(0.6, 0.1)}]}],
     {}, "Group the values of a"),
    ([{"event": "importance", "columns": [{"name": "a", **of(0.0, 0.1), "train": of(1.0, 0.1)}]}],
     {}, "Leave out a"),
    ([{"event": "trees", "metric": "log_loss", "model": of(0.5, 0.02), "trees": of(0.48, 0.02),
       "gain_over_trees": of(-0.02, 0.01)}], {}, "gradient-boosted trees"),
    ([{"event": "importance", "idle_together": of(0.2, 0.1),
       "columns": [{"name": "a", **of(1.0, 0.1)}, {"name": "c", **of(0.02, 0.1)},
                   {"name": "b", **of(0.01, 0.1)}]}], {}, "one at a time, b first"),
    ([{"event": "calibration", "p_value": 1e-4, "bins": [
        {"predicted": 0.9, "observed": 0.5, "lo": 0.4, "hi": 0.6}]}], {}, "Do not rely"),
])  # fmt: skip
def test_each_piece_of_advice_has_its_cause(hand, records, values, words) -> None:
    found = advised(hand, QUIET + records, **values)
    assert len(found) == 1 and words in found[0]


def test_no_advice_without_a_cause(hand) -> None:
    """Each cause by half: within its interval, below its threshold."""
    quiet = [
        # better than a constant by a hundredth, in every row, though the intervals overlap
        {"event": "baselines", "model": of(0.69, 0.02), "trivial": of(0.70, 0.01),
         "gain_over_trivial": of(0.01, 0.002), "linear": of(0.60, 0.02),
         "gain_over_linear": of(-0.09, 0.1)},
        {"event": "checks", "findings": [{"severity": "note", "statement": "x"}]},
        {"event": "trees", "metric": "log_loss", "model": of(0.5, 0.02), "trees": of(0.48, 0.02),
         "gain_over_trees": of(-0.02, 0.03)},
        evaluated(50, 0.505), evaluated(75, 0.5), evaluated(100, 0.505),
        measured(100, of(100.0, 10), step_correlation=of(-0.5, 0.2)),
        progress(101, waiting_share=0.05), 
        # a rare class: its rows carry the noise, and none of them is a surprise
        {"event": "noisy_rows", "surprise": {"observed": 3, "expected": 1.2},
         "top_share": {"one_percent": 0.55}},
        {"event": "importance", "columns": [{"name": "a", **of(1.0, 0.1)}] * 2},
        {"event": "calibration", "p_value": 0.05, "bins": [
            {"predicted": 0.9, "observed": 0.75, "lo": 0.64, "hi": 0.86}]},
    ]  # fmt: skip
    assert advised(hand, QUIET + quiet) == []


def test_a_result_that_means_nothing_comes_first_and_three_are_enough(hand) -> None:
    """Catches an order by size alone."""
    records = [
        {"event": "importance", "columns": [{"name": n, **of(0.0, 0.1)} for n in "abcd"]},
        {"event": "noisy_rows", "rows": [], "top_share": {"one_percent": 0.9}},
        progress(101, seconds=30.0, span_seconds=20.0, waiting_share=0.95),
        {"event": "baselines", "model": of(0.7, 0.02), "trivial": of(0.7, 0.01)},
        evaluated(50, 0.9), evaluated(75, 0.5), evaluated(100, 0.9),
    ]  # fmt: skip
    found = advised(hand, QUIET + records)
    assert len(found) == 3
    assert "nothing was learned" in found[0]
    assert found[1].startswith("Stop earlier") and "disk" in found[2]


def test_landscape_and_data_in_words(told) -> None:
    run = RunReader(told)
    assert "sharpest direction the loss rises by up to 3" in landscape.slice_chart(run).reading
    assert "90 % of the movement" in landscape.path_chart(run).reading
    assert data.confusion(run).reading.startswith("180 of 194 rows")
    assert "-0.9 to 0.92" in data.residual_chart(run).reading
    assert data.worst_bin(run) is None
