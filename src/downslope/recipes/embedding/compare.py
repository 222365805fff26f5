"""What a contrastive loss may be compared with: collapse, other batches, information."""

from __future__ import annotations

import math
from dataclasses import dataclass

from downslope import UsageError
from downslope.arguments import one_of, whole

SATURATED = 0.8  # of the ceiling


def collapse_loss(
    name: str, *, num_classes: int, rows_per_class: int, margin: float = 1.0
) -> float:
    """What a loss is where all embeddings coincide.

    Args:
        name: "supervised", "nt_xent", "pairs", "triplet" or "triplet_soft".
        num_classes, rows_per_class: P and K of the batch.
        margin: of "pairs" and "triplet".

    Example:
        >>> round(collapse_loss("nt_xent", num_classes=8, rows_per_class=2), 7)
        2.7080502
    """
    rows = num_classes * rows_per_class
    values = {
        "supervised": math.log(max(1, rows - 1)),
        "nt_xent": math.log(1 + rows - rows_per_class),
        "pairs": margin**2 / 2,
        "triplet": margin,
        "triplet_soft": math.log(2),
    }
    return values[one_of("name", name, values)]


def loss_difference(
    loss: float,
    other: float,
    *,
    num_rows: int,
    other_num_rows: int,
    name: str = "nt_xent",
    correct: bool = False,
) -> float:
    """`loss - other`, refused or corrected where their batches had different sizes.

    A contrastive loss grows with its batch: with N rows it is ln(N - 1) where nothing is known.
    With `correct`, each is taken relative to that, which removes most of the difference. The
    hardest pairs of a triplet grow harder with the batch in a way that depends on the data: there
    is no correction.

    Args:
        loss, other: means of the losses.
        num_rows, other_num_rows: rows of a logical batch behind each, 2B for B pairs.
        name: of the loss.
        correct: take ln(N - 1) off both.

    Raises:
        UsageError: batches of different sizes, and no correction asked for or none known.

    Example:
        >>> difference = loss_difference(2.54, 1.31, num_rows=128, other_num_rows=32, correct=True)
        >>> round(difference, 3)
        -0.18
    """
    whole("num_rows", num_rows, least=3)
    whole("other_num_rows", other_num_rows, least=3)
    if num_rows == other_num_rows:
        return loss - other
    if name not in ("nt_xent", "supervised"):
        if name == "pairs":  # a mean over pairs: their number plays no part
            return loss - other
        raise UsageError(
            f"losses by {name} compare at batches of one size only; got {num_rows} and "
            f"{other_num_rows} rows"
        )
    if not correct:
        raise UsageError(
            "contrastive losses compare at batches of one size only, or with correct=True; "
            f"got {num_rows} and {other_num_rows} rows"
        )
    return above_chance(loss, num_rows) - above_chance(other, other_num_rows)


def above_chance(loss: float, num_rows: int) -> float:
    """A contrastive loss less ln(num_rows - 1), its value where nothing is known.

    Example:
        >>> above_chance(math.log(15), 16)
        0.0
    """
    return loss - math.log(num_rows - 1)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A lower bound of the mutual information between two views.

    Attributes:
        value: ln K - loss, in nats; below 0 it says nothing.
        ceiling: ln K, which no value exceeds.
        is_saturated: more than 0.8 of the ceiling: a larger batch would give a higher bound.
    """

    value: float
    ceiling: float
    is_saturated: bool

    def __str__(self) -> str:
        told = f"at least {self.value:.3g} nats, of {self.ceiling:.3g} that could be seen"
        return told + ("; saturated: take a larger batch" * self.is_saturated)


def information_bound(loss: float, num_candidates: int) -> Bound:
    """I >= ln K - loss: what two views have in common, by the InfoNCE loss.

    Args:
        loss: mean InfoNCE loss, in nats.
        num_candidates: K, among which the partner is to be found: 2B - 1 for `nt_xent` of B pairs.

    Example:
        >>> information_bound(0.36, 4).is_saturated, information_bound(3.6, 256).is_saturated
        (False, False)
        >>> print(information_bound(0.1, 16))
        at least 2.67 nats, of 2.77 that could be seen; saturated: take a larger batch

    Source: van den Oord, Li and Vinyals 2018.
    """
    whole("num_candidates", num_candidates, least=2)
    ceiling = math.log(num_candidates)
    value = ceiling - loss
    return Bound(value=value, ceiling=ceiling, is_saturated=value > SATURATED * ceiling)
