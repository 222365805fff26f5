"""The gradient noise scale: how many examples a batch needs before its noise equals its signal."""

from downslope.noise.scale.accuracy import (
    examples_for_accuracy,
    relative_variance,
    steps_for_accuracy,
)
from downslope.noise.scale.critical import (
    CriticalBatch,
    fit_critical_batch,
)
from downslope.noise.scale.examples import (
    from_examples,
    from_examples_by_group,
    from_norms,
)
from downslope.noise.scale.sign_rate import (
    SignRate,
    sign_update_rate,
)
from downslope.noise.scale.smoothing import (
    Smoother,
)
from downslope.noise.scale.steps import (
    Noise,
    PairedNorms,
    from_halves,
    from_microbatches,
    from_terms,
    paired_norms,
)
from downslope.noise.scale.weighted import (
    curvature_weighted,
)

__all__ = [
    "CriticalBatch",
    "Noise",
    "PairedNorms",
    "SignRate",
    "Smoother",
    "curvature_weighted",
    "examples_for_accuracy",
    "fit_critical_batch",
    "from_examples",
    "from_examples_by_group",
    "from_halves",
    "from_microbatches",
    "from_norms",
    "from_terms",
    "paired_norms",
    "relative_variance",
    "sign_update_rate",
    "steps_for_accuracy",
]
