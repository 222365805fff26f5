"""Values that a run begins with where a setting is left to choose."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from downslope import Training
from downslope.train.assemble import _weight_decay
from downslope.train.defaults import begin_with


@pytest.mark.parametrize(
    ("each", "micro", "expected"),
    [(1, None, 128), (1, 4, 4), (16, 4, 4), (16, None, 8)],
)
def test_rows_that_are_batches_count_with_their_examples(each, micro, expected):
    """Catches a batch of 128 rows of 16 examples, and one above what the device may take."""
    source = SimpleNamespace(num_rows=100_000, row_bytes=4 * each, examples_per_row=each)
    assert begin_with(Training(microbatch_size=micro), source).batch_size == expected


@pytest.mark.parametrize(
    ("asked", "penalty", "decays"),
    [({}, None, True), ({"l1": 0.1}, None, False), ({"l2": 0.1}, None, False), ({}, abs, False)],
)
def test_a_model_with_a_penalty_does_not_decay_besides(asked, penalty, decays):
    """Catches two penalties at once, of which nobody asked for one."""
    params = {"w": np.zeros((3, 3), "float32"), "v": np.zeros((3, 3), "float32")}
    found = _weight_decay(Training(**asked), params, None, penalty, has_held_out=True)
    assert (found is not None and found.new is not None) is decays
