"""Batch effects between laboratories: is it estimable, take it off, see whether it is gone.

from downslope.recipes import batch_effect
batch_effect.batch_correct(adata, key="lab", condition="treatment")
"""

from __future__ import annotations

import importlib
import typing as _t

if _t.TYPE_CHECKING:
    from downslope.recipes.batch_effect.confounding import Confounding, Contrast, check_design
    from downslope.recipes.batch_effect.correct import batch_correct
    from downslope.recipes.batch_effect.estimator import BatchEffect
    from downslope.recipes.batch_effect.linear import Effects, effects
    from downslope.recipes.batch_effect.net import BatchNet
    from downslope.recipes.batch_effect.scores import Score, Scores, mixing

# Imported at first use: the check of a design waits neither for JAX nor for scikit-learn.
_HOME = {
    "BatchEffect": "downslope.recipes.batch_effect.estimator",
    "BatchNet": "downslope.recipes.batch_effect.net",
    "Confounding": "downslope.recipes.batch_effect.confounding",
    "Contrast": "downslope.recipes.batch_effect.confounding",
    "Effects": "downslope.recipes.batch_effect.linear",
    "Score": "downslope.recipes.batch_effect.scores",
    "Scores": "downslope.recipes.batch_effect.scores",
    "batch_correct": "downslope.recipes.batch_effect.correct",
    "check_design": "downslope.recipes.batch_effect.confounding",
    "effects": "downslope.recipes.batch_effect.linear",
    "mixing": "downslope.recipes.batch_effect.scores",
}

__all__ = [
    "BatchEffect",
    "BatchNet",
    "Confounding",
    "Contrast",
    "Effects",
    "Score",
    "Scores",
    "batch_correct",
    "check_design",
    "effects",
    "mixing",
]


def __getattr__(name: str) -> _t.Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
