"""What an `Embedder` may be asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope import UsageError
from downslope.arguments import number, one_of, whole

UNIT_ROWS = 128  # embeddings in a logical batch, where P and K are left to choose; assumed
MOST_CLASSES = 32  # of them; assumed
LOSSES = ("auto", "supervised", "nt_xent", "pairs", "triplet", "triplet_soft")


def check(given: dict[str, Any]) -> None:
    """Raises for a parameter out of range; `downslope.fit` checks those of training.

    Raises:
        UsageError: which one, the rule, and the value.
    """
    one_of("loss", given["loss"], LOSSES)
    whole("dim", given["dim"])
    for width in given["hidden"]:
        whole("hidden widths", width)
    for name, least in (("chunk_rows", 1), ("rows_per_class", 2), ("classes_per_batch", 2)):
        whole(name, given[name], least=least, optional=True)
    number("temperature", given["temperature"], above=0)
    number("margin", given["margin"], above=0, most=2, optional=True)
    number("validation_fraction", given["validation_fraction"], least=0, below=1)


def batch_shape(
    sizes: list[int],
    relation: str,
    *,
    num_classes: int | None,
    rows_per_class: int | None,
    holds_out: bool,
) -> tuple[int, int]:
    """P and K of a logical batch, for about 128 rows where they are left to choose.

    Args:
        sizes: rows of each class; of views, 1 each.
        relation: "labels", "groups" or "views".
        num_classes, rows_per_class: as they were asked for.
        holds_out: as many rows of a class again are to be held out.

    Example:
        >>> batch_shape([60] * 10, "labels", num_classes=None, rows_per_class=None, holds_out=True)
        (10, 12)
    """
    views = relation == "views"
    if len(sizes) < 2:
        raise UsageError("X must have two rows or more for views; got one")
    classes, rows = num_classes, rows_per_class
    if classes is None:
        classes = min(len(sizes), UNIT_ROWS // 2 if views else MOST_CLASSES)
        if relation != "labels" and len(sizes) > 3:
            classes = max(2, min(classes, len(sizes) // 3))
    if rows is None:
        usual = int(np.median(sizes)) // (3 if relation == "labels" and holds_out else 1)
        rows = 2 if views else max(2, min(usual, UNIT_ROWS // classes))
    return classes, rows
