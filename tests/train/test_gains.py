"""The account of what evaluations gained."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from downslope.estimate import Estimate
from downslope.metrics import Results
from downslope.train.gains import Gains
from downslope.train.logbook import Progress


def test_held_out_spreads_stay_out_where_the_training_loss_decides():
    """Catches the noise of one loss taken for that of another: no gain would stand out."""
    tally = SimpleNamespace(last_epoch_loss=1.0, first_losses=[2.0], num_steps=10)
    training = SimpleNamespace(tolerance=1e-3)
    engine = SimpleNamespace(evaluate=object())
    now = Progress(learning_rate=0.1, batch_size=1, clip_norm=None, average_from=0)
    gains = Gains(SimpleNamespace(tally=tally, training=training, engine=engine), now)
    share = Estimate(value=0.9, lo=None, hi=None, num_examples=4, unit="share", method="mean")
    for seed, loss in enumerate((1.0, 0.9)):
        tally.last_epoch_loss = loss
        results = Results({"recall": share})
        results.losses = 100 * np.random.default_rng(seed).normal(size=50)
        assert gains.take_in(results)
        assert gains.best_losses is None and now.best_loss == loss and now.without_gain == 0
