"""What normalising by laboratory does to rows of one type, where compositions differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from downslope.check.findings import Finding
from downslope.recipes.batch_norm.moments import Moments

MOVED = 0.2  # of the spread inside a type, from which it is a warning; assumed
NOTED = 0.05  # from which it is worth a note; assumed
RANK = 1e-9


def composition_findings(
    name: str, cells: Moments, labs: tuple[Any, ...], types: tuple[Any, ...]
) -> Finding:
    """How far the same type ends up apart in two laboratories, at most.

    With the means m of the types and their shares p in laboratories A and B that is, A less B,
    sum_j (p_Bj - p_Aj) m_j. The means are those of an additive model of laboratories and types, by
    least squares weighted with the rows; the shares are taken as they are.

    Args:
        name: of the layer.
        cells: moments of each laboratory's types [laboratories x types, features].
        labs, types: their names.
    """
    num_labs, num_types = len(labs), len(types)
    count = cells.weight.reshape(num_labs, num_types)
    shares = count / count.sum(axis=1, keepdims=True)
    first, second = np.triu_indices(num_labs, 1)
    contrast = np.zeros((len(first), num_labs + num_types))
    contrast[:, num_labs:] = shares[second] - shares[first]
    design = np.hstack([np.repeat(np.eye(num_labs), num_types, axis=0),
                        np.tile(np.eye(num_types), (num_labs, 1))])  # fmt: skip
    weighted = design.T * cells.weight
    inverse = np.linalg.pinv(weighted @ design, rcond=RANK, hermitian=True)
    # a contrast of the types is told apart from the laboratories only inside the design's span
    kept = contrast @ (inverse @ (weighted @ design))
    if not np.allclose(kept, contrast, atol=1e-6):
        return Finding(
            name="composition",
            severity="error",
            sentence=(
                f"layer {name!r}: types and laboratories cannot be told apart, since no chain of "
                "types links all laboratories"
            ),
            remedy="do not normalise by laboratory: no method can tell biology from laboratory",
            values={"layer": name},
        )
    moved = contrast @ (inverse @ (weighted @ cells.mean))
    within = np.sqrt(cells.squares.sum(axis=0) / cells.weight.sum())
    alive = within > 0
    apart = np.where(alive, moved / np.where(alive, within, 1), 0.0)
    error = np.sqrt(np.einsum("ij,jk,ik->i", contrast, inverse, contrast))[:, None]
    pair, feature = np.unravel_index(np.abs(apart).argmax(), apart.shape)
    value = float(apart[pair, feature])
    reach = float(stats.norm.isf(0.025 / apart.size) * error[pair, 0])
    a, b = labs[first[pair]], labs[second[pair]]
    kind = int(np.abs(contrast[pair, num_labs:]).argmax())
    is_clear = abs(value) > reach
    severity = "fine"
    if is_clear and abs(value) > NOTED:
        severity = "warning" if abs(value) > MOVED else "note"
    return Finding(
        name="composition",
        severity=severity,
        sentence=(
            f"layer {name!r}: rows of one type end up {value:.3g} ({value - reach:.3g} to "
            f"{value + reach:.3g}) sd apart, {a!r} less {b!r}, at feature {feature + 1}: "
            f"{types[kind]!r} is {100 * shares[first[pair], kind]:.3g} % of {a!r} and "
            f"{100 * shares[second[pair], kind]:.3g} % of {b!r}"
        ),
        remedy=None if severity == "fine" else
        "draw and weigh types alike: balanced(lab, types), or put the laboratory in the model",
        values={"layer": name, "apart": value, "in_units": float(moved[pair, feature]),
                "lo": value - reach, "hi": value + reach, "labs": (a, b), "feature": int(feature)},
    )  # fmt: skip
