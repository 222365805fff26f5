"""Learning rates for another batch size.

Each test's comment names the wrong implementation that it catches.
"""

import pytest

from downslope.choose.rescale import rescale_sgd
from downslope.errors import UsageError


# catches: the linear rule without saturation, or batches swapped
def test_sgd():
    best = lambda b: 0.7 / (1 + 50 / b)  # noqa: E731
    for b, new in ((8, 64), (64, 8), (1000, 4000), (20, 20)):
        found = rescale_sgd(best(b), batch_size=b, new_batch_size=new, noise_scale=50)
        assert found == pytest.approx(best(new), rel=1e-12)


def test_sgd_refuses():
    for name in ("batch_size", "new_batch_size", "noise_scale"):
        named = {"batch_size": 8, "new_batch_size": 8, "noise_scale": 8, name: 0}
        with pytest.raises(UsageError, match=name):
            rescale_sgd(0.1, **named)
