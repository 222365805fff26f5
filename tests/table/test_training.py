"""Settings with which the model of a table is trained."""

from __future__ import annotations

import optax
import pytest

from downslope import Training
from downslope.table.training import net_training


def test_what_is_given_stays() -> None:
    """Catches each setting that is replaced though it was given."""
    given = {
        "learning_rate": 0.01, "batch_size": 32, "steps": 300, "schedule": "constant",
        "average": None, "weight_decay": 0.0, "measure_every": 64,
    }  # fmt: skip
    assert net_training(Training(**given), 2000) == Training(**given)
    for optimizer in ("sgd", "schedule_free", optax.adam(1e-3)):  # they have their own
        named = net_training(Training(optimizer=optimizer), 2000)
        assert named.free >= {"learning_rate", "schedule", "average", "weight_decay"}
        assert named.steps == 2000
    assert net_training(Training(l2=0.1), 2000).weight_decay == "auto"
    targeted = net_training(Training(until={"accuracy": 0.9}), 2000)
    assert targeted.steps is None and targeted.schedule == "auto"  # no end to plan for


@pytest.mark.parametrize(("rows", "steps"), [(50, 2000), (4000, 2000), (16_000, 4000)])
def test_a_run_is_as_long_as_its_table_asks(rows, steps) -> None:
    found = net_training(Training(), rows)
    assert found.steps == steps and found.schedule == "cosine"
    assert net_training(Training(seconds=5.0), rows).steps is None


@pytest.mark.parametrize("asked", [{"steps": 8000}, {"epochs": 102, "batch_size": 128}])
def test_weights_shrink_as_far_in_a_run_of_any_length(asked) -> None:
    """Catches a decay of one size for all lengths, and updates that are counted as epochs."""
    found = net_training(Training(**asked), 10_000)
    assert found.weight_decay * found.learning_rate * 8000 == pytest.approx(2.0, rel=0.01)
    assert found.learning_rate == pytest.approx(0.03 / 4**0.25, rel=0.01)


def test_the_noise_of_a_long_table_is_measured() -> None:
    assert net_training(Training(), 9_999).measure_every is None
    assert net_training(Training(), 10_000).measure_every == Training().measure_every
