"""Records of decisions, and their replay.

Each test's comment names the wrong implementation that it catches.
"""

import json
import math

import numpy as np
import pytest

from downslope.choose import Decision, next_batch_size, policy, replay
from downslope.errors import DataError, MismatchError, UsageError
from downslope.report.journal import Journal, read_journal


@policy
def shout(*, number, words=("a",), table=None):
    if number == 0:
        return None
    return Decision(knob="volume", old=0, new=number, because=f"{number} {words} {table}")


def written(path, *decisions):
    """The decisions as a run's journal gives them back."""
    journal = Journal(path)
    for step, decision in enumerate(decisions):
        journal.write("decided", step=step, **decision.to_json())
    journal.close()
    return read_journal(path)


def test_inputs_are_recorded_defaults_too():
    found = shout(number=3)  # catches: only what was given, so that a new default alters a replay
    assert found.policy == "shout"
    assert found.inputs == {"number": 3, "words": ("a",), "table": None}
    assert shout(number=0) is None


# catches: null for infinity (the journal's way), rounding, an int that comes back a float,
# lists and tuples told apart, NumPy's scalars refused or kept
@pytest.mark.parametrize(
    "number",
    [1, 1.0, 0.1 + 0.2, 5e-324, 2**70, True, np.float32(0.1), np.int64(7), math.inf, -math.inf],
)
def test_comes_back_from_a_journal(tmp_path, number):
    found = shout(number=number, words=["b", ("c", None)], table={"x": [number], "y": {}})
    (record,) = written(tmp_path / "journal.jsonl", found)
    back = Decision.from_json(record)
    assert back == found
    assert type(back.inputs["number"]) is type(found.inputs["number"])
    assert type(back.inputs["number"]) in (int, float, bool)
    assert replay([record]) == [found]


def test_nan_replays(tmp_path):
    assert len(replay(written(tmp_path / "j", shout(number=math.nan)))) == 1


def test_other_events_are_passed_over(tmp_path):
    records = written(tmp_path / "j", shout(number=1), shout(number=2))
    records.insert(1, {"event": "measured", "step": 1})
    assert [each.new for each in replay(records)] == [1, 2]
    assert replay([]) == []


# catches: a replay that only reads, or that compares the value but not the sentence
@pytest.mark.parametrize(
    "changed",
    [{"new": 4}, {"new": 3.0000001}, {"because": "a whim"}, {"old": 1}, {"knob": "pitch"},
     {"inputs": {"number": 5}}, {"inputs": {"number": 0}}, {"inputs": {"loudness": 5}},
     {"policy": "whisper"}],
)  # fmt: skip
def test_another_decision_is_noticed(changed):
    record = {"event": "decided", "step": 12, **shout(number=3.0).to_json(), **changed}
    with pytest.raises(MismatchError, match="step 12"):
        replay([record])


@pytest.mark.parametrize("name", ["policy", "knob", "old", "new", "because", "inputs"])
def test_missing_field(name):
    record = {"event": "decided", **shout(number=3).to_json()}
    del record[name]
    with pytest.raises(DataError, match=name):
        replay([record])


def test_arrays_and_objects_are_refused():
    for thing in (np.ones(3), object(), {1: 2}, {1, 2}):
        with pytest.raises(UsageError, match="number"):
            shout(number=thing)


def test_unrecordable_signatures_are_refused():
    with pytest.raises(TypeError):
        policy(lambda *numbers: None)
    with pytest.raises(TypeError):
        policy(lambda **numbers: None)


def test_a_name_is_taken_once():
    def next_batch_size(*, x):
        return None

    with pytest.raises(TypeError, match="next_batch_size"):
        policy(next_batch_size)


def test_a_real_policy_replays(tmp_path):
    sizes = (32, 64, 128, 256)
    found = next_batch_size(
        batch_size=32, noise_scale=None, noise_lo=500.0, noise_hi=math.inf, timed_sizes=sizes,
        timed_seconds=[[5e-3 + 2e-5 * b, 6e-3 + 2e-5 * b] for b in sizes], seconds_left=60.0,
    )  # fmt: skip
    records = written(tmp_path / "j", found)
    assert replay(records) == [found]
    json.dumps(records, allow_nan=False)
