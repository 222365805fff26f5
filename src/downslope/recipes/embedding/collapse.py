"""Whether embeddings have collapsed, and how they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope import UsageError

FLAT = 0.05  # spread below which all rows lie at one point; assumed
LINE = 1.5  # entropy rank below which they lie along one direction; assumed
FEW = 4  # classes that may lie so without a fault; assumed
AT_COLLAPSE = 0.02  # relative distance of a loss from its value at collapse; assumed
MOST_PAIRED = 2000  # rows whose pairs are looked at for uniformity


@dataclass(frozen=True, kw_only=True)
class Health:
    """How embeddings lie.

    Attributes:
        spread: root of their total variance over their mean square length: 0 where all
            coincide, 1 where their mean is 0.
        entropy_rank: directions that they fill, exp(entropy of the covariance's eigenvalues), 1
            to d; None where all coincide.
        mean_cosine: of all pairs, -1/(n-1) to 1.
        alignment: mean squared distance of unit vectors of one label, 0 to 4, lower is closer;
            None without labels.
        uniformity: ln of the mean of exp(-2 d^2) over pairs of unit vectors, -4 to about 0,
            lower is more even.
        loss, loss_at_collapse: of the run, and what it is where all embeddings coincide.
        is_collapsed: all rows lie at one point, or along one line where more than 4 classes, or
            views, ask for more.
        because: a sentence for each alarm; empty where there is none.
    """

    spread: float
    entropy_rank: float | None
    mean_cosine: float
    alignment: float | None
    uniformity: float
    loss: float | None
    loss_at_collapse: float | None
    is_collapsed: bool
    because: tuple[str, ...]

    def __str__(self) -> str:
        rank = (
            "no direction" if self.entropy_rank is None else f"{self.entropy_rank:.1f} directions"
        )
        told = (
            f"Embeddings fill {rank}; spread {self.spread:.2f}, mean cosine {self.mean_cosine:.2f}."
        )
        return " ".join([told, *self.because])


def health(
    embeddings: Any,
    labels: Any = None,
    *,
    loss: float | None = None,
    loss_at_collapse: float | None = None,
) -> Health:
    """Looks for collapse: every row at one point, or along one line.

    Args:
        embeddings: [n, d], n of 2 or more.
        labels: [n], for the alignment; None leaves it out, as for views.
        loss: of the run, held out or training.
        loss_at_collapse: what it is where all embeddings coincide; see `collapse_loss`.

    Raises:
        UsageError: arrays of wrong shapes, or numbers that are not finite.

    Example:
        >>> found = health(np.ones((10, 3)), loss=0.2, loss_at_collapse=0.2)
        >>> found.is_collapsed, found.spread, round(found.mean_cosine, 6)
        (True, 0.0, 1.0)

    Source: Roy and Vetterli 2007 (entropy rank); Wang and Isola 2020 (alignment, uniformity).
    """
    z = np.asarray(embeddings, np.float64)
    if z.ndim != 2 or len(z) < 2 or not np.isfinite(z).all():
        raise UsageError(f"embeddings must be finite numbers [n, d], n of 2 or more; got {z.shape}")
    square = float((z**2).sum(1).mean())
    values = np.clip(np.linalg.eigvalsh(np.cov(z.T, bias=True).reshape(z.shape[1], -1)), 0, None)
    total = float(values.sum())
    # rounding of float32 embeddings leaves a spread of its own
    spread = math.sqrt(total / square) if square and total > 1e-12 * square else 0.0
    rank = None
    if spread:
        shares = values[values > 0] / total
        rank = math.exp(-float((shares * np.log(shares)).sum()))
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-30)
    # few classes need few directions: two lie best at the ends of a line
    few = z.shape[1] <= 2 or (labels is not None and len(np.unique(labels)) <= FEW)
    lies_flat = not few and rank is not None and rank < LINE
    because = _alarms(spread, rank if lies_flat else None, loss, loss_at_collapse)
    n = len(z)
    return Health(
        spread=spread,
        entropy_rank=rank,
        mean_cosine=float(((unit.sum(0) ** 2).sum() - (unit**2).sum()) / (n * (n - 1))),
        alignment=None if labels is None else _alignment(unit, np.asarray(labels)),
        uniformity=_uniformity(unit),
        loss=loss,
        loss_at_collapse=loss_at_collapse,
        is_collapsed=spread < FLAT or lies_flat,
        because=because,
    )


def _alarms(
    spread: float, flat: float | None, loss: float | None, at: float | None
) -> tuple[str, ...]:
    found = []
    sits = loss is not None and at is not None and abs(loss - at) <= AT_COLLAPSE * abs(at)
    if spread < FLAT:
        found.append(f"Collapsed: all embeddings nearly coincide (spread {spread:.2g}).")
    elif flat is not None:
        found.append(f"Collapsed: all embeddings lie along one line (entropy rank {flat:.2f}).")
    if sits:
        found.append(
            f"The loss, {loss:.4g}, is what it is where all embeddings coincide, {at:.4g}: "
            "nothing was learned."
        )
    if found:
        found.append("A lower learning rate, or another loss, may help.")
    return tuple(found)


def _alignment(unit: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean squared distance over pairs of one label: n sum |z|^2 - |sum z|^2 adds them up."""
    if labels.shape != unit.shape[:1]:
        raise UsageError(f"labels must be [n] with n = {len(unit)}; got {labels.shape}")
    total, pairs = 0.0, 0
    for label in np.unique(labels):
        z = unit[labels == label]
        total += len(z) * float((z**2).sum()) - float((z.sum(0) ** 2).sum())
        pairs += len(z) * (len(z) - 1) // 2
    return total / pairs if pairs else None


def _uniformity(unit: np.ndarray) -> float:
    z = unit[np.unique(np.linspace(0, len(unit) - 1, MOST_PAIRED).astype(int))]
    squares = np.clip(2 - 2 * z @ z.T, 0, None)[np.triu_indices(len(z), 1)]
    return float(np.log(np.exp(-2 * squares).mean()))
