"""Weight decay that is left to choose: for nets that held-out rows judge, and for nothing else."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import downslope
from downslope.choose import first_weight_decay, follow_length, replay

NET = {"num_matrices": 2, "has_held_out": True, "is_endless": False, "is_penalized": False}


@pytest.mark.parametrize("changed", [
    {"num_matrices": 1}, {"has_held_out": False}, {"is_endless": True}, {"is_penalized": True},
])  # fmt: skip
def test_only_a_net_that_may_overfit_is_decayed(changed) -> None:
    found = first_weight_decay(**NET)
    assert found is not None and (found.knob, found.new) == ("weight_decay", 0.1)
    assert replay([{"event": "decided", **found.to_json()}]) == [found]
    assert first_weight_decay(**NET | changed) is None


@pytest.mark.parametrize(("rate", "num_steps", "wanted"), [
    (0.01, 100_000, 0.008), (0.001, 200_000, 0.04), (0.01, 6_500, 0.1), (0.01, 10_000, 0.1),
    (0.01, 1_000, 0.1), (0.0, 1_000, 0.1),
])  # fmt: skip
def test_the_decay_falls_with_rate_and_length(rate, num_steps, wanted) -> None:
    """Catches a decay that grows beyond the first in short runs, and one changed at each look."""
    rates = {"learning_rate": rate, "peak_rate": rate}
    found = follow_length(weight_decay=0.1, num_steps=num_steps, **rates)
    assert (0.1 if found is None else found.new) == pytest.approx(wanted)
    if found is not None:
        assert replay([{"event": "decided", **found.to_json()}]) == [found]
        assert follow_length(weight_decay=found.new, num_steps=1.2 * num_steps, **rates) is None
        back = follow_length(weight_decay=found.new, num_steps=100, **rates)
        assert back.new == pytest.approx(0.1) and "a tenth of the rate" in back.because
        lowered = follow_length(weight_decay=found.new, num_steps=num_steps, peak_rate=rate,
                                learning_rate=rate / 4)  # fmt: skip
        assert lowered.new == pytest.approx(4 * found.new)


def _net(**options):
    """Weights and a scale that no row moves, after 20 updates at a rate of 0.01."""
    rng = np.random.default_rng(0)
    model = {name: np.ones(shape, "float32") for name, shape in (
        ("a", (3, 4)), ("b", (4, 1)), ("idle", (2, 2)), ("idle bias", 2))}  # fmt: skip

    def loss(model, batch, key):
        out = jnp.tanh(batch[0] @ model["a"]) @ model["b"]
        return (out[:, 0] - batch[1]) ** 2

    x = rng.normal(size=(400, 3)).astype("float32")
    asked = {"learning_rate": 0.01, "batch_size": 32, "steps": 20, "schedule": "constant",
             "warmup_steps": 0, "average": None, "patience": None, "validation": 0.2}  # fmt: skip
    result = downslope.fit(loss, model, (x, x[:, 0]), **asked | options)
    decided = [r for r in result.history if r.get("knob") == "weight_decay"]
    idle = float(result.params["idle"][0, 0])
    assert float(result.params["idle bias"][0]) == pytest.approx(1.0, abs=1e-6) or options
    return idle, decided


def test_matrices_shrink_and_vectors_stay() -> None:
    """Catches a bias that decays, and a decision that the journal does not hold."""
    idle, decided = _net()
    assert idle == pytest.approx((1 - 0.01 * 0.1) ** 20, rel=1e-4)
    assert len(decided) == 1 and "a net of 3 matrices" in decided[0]["because"]


@pytest.mark.parametrize("options", [
    {"weight_decay": None}, {"weight_decay": 0.0}, {"optimizer": "adam"}, {"validation": None},
    {"l1": 1e-12, "optimizer": "adam"}, {"penalty": lambda m: 0.0 * m["b"].sum()},
])  # fmt: skip
def test_what_is_given_is_obeyed(options) -> None:
    """Catches a decay beside a penalty, a named optimizer, or a decay that was given."""
    idle, decided = _net(**options)
    assert idle == pytest.approx(1.0, abs=1e-4) and not decided


def test_a_long_run_shrinks_its_weights_by_eight_decades_of_e() -> None:
    """Catches a step that reads the first decay and not the knob: by e^12."""
    idle, decided = _net(learning_rate=0.1, steps=2000)
    assert [record["policy"] for record in decided] == ["first_weight_decay", "follow_length"]
    assert decided[1]["new"] == pytest.approx(0.04) and decided[1]["step"] == 0
    assert idle == pytest.approx((1 - 0.1 * 0.04) ** 2000, rel=1e-3)


def test_a_given_decay_acts_on_all() -> None:
    idle, decided = _net(weight_decay=0.5)
    assert idle == pytest.approx((1 - 0.01 * 0.5) ** 20, rel=1e-4) and not decided
