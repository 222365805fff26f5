"""Loss, accuracy, log loss and AUC of a classifier, over a stream of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.metrics.auc import AUC_UNIT, NO_PROBABILITY, NO_SCORE, RankHistogram
from downslope.metrics.intervals import wilson_interval
from downslope.metrics.loss import MeanLoss, checked_weights, mean_estimate, missing, vector
from downslope.metrics.moments import Floats, Moments
from downslope.metrics.results import Results

# Probabilities of the true class are raised to this before the logarithm: the spacing of float32
# at 1, below which 1 - p of a float32 probability p cannot be told from 0.
MIN_PROBABILITY = float(np.finfo(np.float32).eps)
ACCURACY_UNIT = "share of examples"
RANGE_TOLERANCE = 1e-6  # rounding of 1 - p in float32
SUM_TOLERANCE = 1e-2  # rounding of many probabilities in bfloat16


class ClassificationMetrics:
    """Loss, accuracy, log loss and AUC of a classifier.

    - `accuracy`: share of rows whose largest probability (or score) is the target's; a tie goes to
      the lower class. Wilson's interval on the effective sample size.
    - `log_loss`: mean of -log p(target) in nats, p raised to at least 1.2e-07; Student t interval.
    - `auc`: area under the ROC curve, averaged one-vs-rest over the classes present when there are
      more than two (`downslope.metrics.auc.RankHistogram`).

    Args:
        num_classes: K >= 2.
        probabilities: the model gives probabilities; if not, `add` takes `scores` alone, a row is
            of class 1 if its score is above 0 (of the class with the largest score), and
            `log_loss` is left out.

    >>> metrics = ClassificationMetrics(2)
    >>> p = np.array([0.9, 0.8, 0.3, 0.6, 0.2, 0.1])
    >>> y = np.array([1, 1, 1, 0, 0, 0])
    >>> metrics.add(-np.log(np.where(y == 1, p, 1 - p)), p, y)
    >>> {name: round(estimate.value, 3) for name, estimate in metrics.result().items()}
    {'loss': 0.463, 'accuracy': 0.667, 'log_loss': 0.463, 'auc': 0.889}
    """

    def __init__(self, num_classes: int, *, probabilities: bool = True):
        self.num_classes = whole("num_classes", num_classes, least=2)
        self.probabilities = probabilities
        self._loss = MeanLoss()
        self._correct, self._log_loss = Moments(1), Moments(1)
        self._class_weights = np.zeros(self.num_classes)
        self._num_raised = 0  # rows whose probability was raised before the logarithm
        self._ranks: RankHistogram | None = None  # made by the first rows, that say what ranks them

    def add(
        self,
        losses: ArrayLike,
        probabilities: ArrayLike | None,
        targets: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        scores: ArrayLike | None = None,
    ) -> None:
        """Add rows.

        Args:
            losses: [n].
            probabilities: [n, K], or [n] for two classes (that of class 1); None for a model
                without probabilities. Columns must add up to 1 within 0.01.
            targets: class index [n], integers 0 to K - 1.
            weight: [n], or None for ones.
            scores: what ranks the rows for AUC, [n, K] or [n] for two classes; by default the
                probabilities. For two classes logits rank even rows whose probability is rounded
                to 1. For more, leave it out where there are probabilities: softmax logits are not
                comparable between rows, since a shift of a row's logits changes nothing but this.

        Raises:
            UsageError: shapes that do not fit, targets outside their range, a negative weight,
                or scores in some calls and not in others.
        """
        losses = vector(losses, "losses")
        num = len(losses)
        targets = self._checked_targets(targets, num)
        weight, keep = checked_weights(weight, num)
        if self.probabilities != (probabilities is not None):
            rule = "must" if self.probabilities else "must not"
            raise UsageError(f"probabilities {rule} be given: these metrics were made so")
        if probabilities is None and scores is None:
            raise UsageError("scores must be given where there are no probabilities")
        p = None if probabilities is None else self._checked_probabilities(probabilities, num)[keep]
        s = None if scores is None else self._checked_scores(scores, num)[keep]
        ranks = self._ranking(folded=s is None)
        targets = targets[keep]
        self._loss.add(losses[keep], weight)
        self._class_weights += np.bincount(targets, weight, minlength=self.num_classes)
        if p is not None:
            self._add_log_loss(p, targets, weight)
        given = [values for values in (p, s) if values is not None]
        self._add_correct(given[0], 0.0 if p is None else 0.5, targets, weight)
        ranks.add(given[-1], targets, weight)

    def result(self) -> Results:
        """The metrics `loss`, `accuracy`, `log_loss` and `auc`."""
        no_ranks = not_estimable("no examples", unit=AUC_UNIT)
        return Results(
            {
                "loss": self._loss.estimate(),
                "accuracy": self._accuracy(),
                "log_loss": self._log_loss_estimate(),
                "auc": self._ranks.result() if self._ranks else no_ranks,
            },
            higher_is_better=("accuracy", "auc"),
        )

    def _add_log_loss(
        self, p: NDArray[Any], targets: NDArray[np.intp], weight: Floats | None
    ) -> None:
        if p.ndim == 1:
            of_target = np.where(targets == 1, p, 1 - p.astype(np.float64))
        else:
            of_target = np.take_along_axis(p, targets[:, None], axis=1)[:, 0].astype(np.float64)
        self._num_raised += int(np.count_nonzero(of_target < MIN_PROBABILITY))
        # the 1 mends rounding above it; a NaN passes through, and is counted
        self._log_loss.add(-np.log(np.clip(of_target, MIN_PROBABILITY, 1))[None], weight)

    def _add_correct(
        self, values: NDArray[Any], border: float, targets: NDArray[np.intp], weight: Floats | None
    ) -> None:
        if values.ndim == 1:
            finite, hits = np.isfinite(values), (values > border) == (targets == 1)
        else:
            finite, hits = np.isfinite(values).all(axis=1), values.argmax(axis=1) == targets
        self._correct.add(np.where(finite, hits, np.nan)[None], weight)

    def _ranking(self, *, folded: bool) -> RankHistogram:
        if self._ranks is None:
            self._ranks = RankHistogram(self.num_classes, folded=folded)
        if self._ranks.folded != folded:
            raise UsageError("scores must be given for all rows or for none")
        return self._ranks

    def _log_loss_estimate(self) -> Estimate:
        if not self.probabilities:
            return not_estimable("the model gives scores, not probabilities", unit="nats")
        flag = f"probability of the true class raised to {MIN_PROBABILITY:.1e} in "
        return mean_estimate(
            self._log_loss, "nats", NO_PROBABILITY, low=0.0,
            flags=(f"{flag}{self._num_raised:,} rows",) if self._num_raised else (),
        )  # fmt: skip

    def _accuracy(self) -> Estimate:
        moments = self._correct
        if reason := missing(moments, NO_PROBABILITY if self.probabilities else NO_SCORE):
            return not_estimable(reason, unit=ACCURACY_UNIT)
        share = min(1.0, max(0.0, float(moments.mean[0])))
        num = moments.num_effective
        # Where weights and hits go together (class weights), the effective size that gives the
        # mean's own variance is smaller than Kish's; without weights both are the row count.
        if num > 1 + 1e-9 and moments.variance[0] > 0:
            population = float(moments.covariance_of_mean()[0, 0]) * (num - 1) / num
            num = min(num, float(moments.variance[0]) / population)
        lo, hi = wilson_interval(share, num)
        largest = self._class_weights.max() / self._class_weights.sum()
        return Estimate(
            value=share, lo=lo, hi=hi, num_examples=moments.count, unit=ACCURACY_UNIT,
            method="Wilson score interval, effective sample size",
            flags=(f"the largest class alone gives {largest:.3g}",),
        )  # fmt: skip

    def _checked_targets(self, targets: ArrayLike, num: int) -> NDArray[np.intp]:
        targets = np.asarray(targets)
        if not np.issubdtype(targets.dtype, np.integer) or targets.shape != (num,):
            raise UsageError(
                f"targets must be integers of shape [{num}]; "
                f"got {targets.dtype} of shape {list(targets.shape)}"
            )
        if num and not (targets.min() >= 0 and targets.max() < self.num_classes):
            raise UsageError(
                f"targets must be from 0 to {self.num_classes - 1}; "
                f"got {targets.min()} to {targets.max()}"
            )
        return targets.astype(np.intp)

    def _checked_probabilities(self, values: ArrayLike, num: int) -> NDArray[Any]:
        """[n, K], or for two classes [n]; a row that holds no probabilities becomes NaN."""
        p = self._checked_shape(values, num, "probabilities")
        good = (p >= -RANGE_TOLERANCE) & (p <= 1 + RANGE_TOLERANCE)
        if p.ndim == 2:
            good = good.all(axis=1) & (abs(p.sum(axis=1) - 1) <= SUM_TOLERANCE)
        if not good.all():
            p = np.where(good if p.ndim == 1 else good[:, None], p, np.nan)
        return p[:, 1] if p.shape[1:] == (2,) else p

    def _checked_scores(self, values: ArrayLike, num: int) -> NDArray[Any]:
        """[n, K], or for two classes [n]: the second column's lead over the first."""
        s = self._checked_shape(values, num, "scores")
        if s.shape[1:] != (2,):
            return s
        with np.errstate(over="ignore", invalid="ignore"):  # not finite: counted later
            return s[:, 1] - s[:, 0]

    def _checked_shape(self, values: ArrayLike, num: int, name: str) -> NDArray[Any]:
        values = np.asarray(values)
        if values.dtype != np.float32:  # float32 is kept: a second copy would cost as much again
            values = values.astype(np.float64)
        if values.shape == (num, self.num_classes):
            return values
        if self.num_classes == 2 and values.shape in ((num,), (num, 1)):
            return values.reshape(num)
        also = f" or [{num}]" if self.num_classes == 2 else ""
        raise UsageError(
            f"{name} must have shape [{num}, {self.num_classes}]{also}; got {list(values.shape)}"
        )
