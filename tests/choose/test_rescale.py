"""Learning rates for another batch size.

Each test's comment names the wrong implementation that it catches.
"""

import pytest

from downslope.choose.rescale import rescale_adam, rescale_sgd
from downslope.errors import UsageError

ADAM = dict(learning_rate=0.002, b1=0.98, b2=0.998, eps=1e-8)


# catches: the linear rule without saturation, or batches swapped
def test_sgd():
    best = lambda b: 0.7 / (1 + 50 / b)  # noqa: E731
    for b, new in ((8, 64), (64, 8), (1000, 4000), (20, 20)):
        found = rescale_sgd(best(b), batch_size=b, new_batch_size=new, noise_scale=50)
        assert found == pytest.approx(best(new), rel=1e-12)


# catches: the linear rule for Adam; b scaled in place of 1 - b; eps multiplied
def test_adam_appendix_case():
    new = rescale_adam(**ADAM, factor=4)
    assert new.learning_rate == pytest.approx(0.004, rel=1e-12)
    assert new.b1 == pytest.approx(0.92, rel=1e-12)
    assert new.b2 == pytest.approx(0.992, rel=1e-12)
    assert new.eps == pytest.approx(5e-9, rel=1e-12)


def test_adam_there_and_back():
    there = rescale_adam(**ADAM, factor=7)
    back = rescale_adam(
        learning_rate=there.learning_rate, b1=there.b1, b2=there.b2, eps=there.eps, factor=1 / 7
    )
    assert [back.learning_rate, back.b1, back.b2, back.eps] == pytest.approx([*ADAM.values()])
    plain = rescale_adam(learning_rate=0.1, b1=0.0, b2=0.9, eps=0.0, factor=2)
    assert plain.b1 == 0.0 and plain.eps == 0.0


@pytest.mark.parametrize(
    "named, words",
    [
        ({"factor": 50}, "b1"),
        ({"factor": 400}, "b1"),
        ({"b1": 0.9999, "factor": 500}, "b2"),
        ({"factor": 0}, "factor"),
        ({"b1": 1.0, "factor": 1}, "b1"),
        ({"eps": -1.0, "factor": 1}, "eps"),
        ({"learning_rate": float("nan"), "factor": 1}, "learning_rate"),
    ],
)
def test_adam_refuses(named, words):
    with pytest.raises(UsageError, match=words):
        rescale_adam(**{**ADAM, **named})


def test_sgd_refuses():
    for name in ("batch_size", "new_batch_size", "noise_scale"):
        named = {"batch_size": 8, "new_batch_size": 8, "noise_scale": 8, name: 0}
        with pytest.raises(UsageError, match=name):
            rescale_sgd(0.1, **named)
