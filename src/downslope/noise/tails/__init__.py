"""Heavy tails: which examples carry the noise, the tail index, and what clipping does."""

from downslope.noise.tails.clipping import (
    ClippingBias,
    clip_factors,
    clip_fraction,
    clipped_mean,
    clipping_bias,
)
from downslope.noise.tails.index import (
    HillCurve,
    deviation_norms,
    hill,
    hill_curve,
)
from downslope.noise.tails.models import (
    TruncatedNormal,
    averaging_slope,
    legacy_block_alpha,
    num_vuong,
    power_law_or_lognormal,
    truncated_normal_fit,
)
from downslope.noise.tails.moments import (
    max_to_sum,
    moment_index,
    stable_mean_scale,
)
from downslope.noise.tails.report import (
    Concentration,
    TailReport,
    TailVerdict,
    concentration,
    tail_report,
)
from downslope.noise.tails.threshold import (
    NormQuantile,
    NormWindow,
)

__all__ = [
    "ClippingBias",
    "Concentration",
    "HillCurve",
    "NormQuantile",
    "NormWindow",
    "TailReport",
    "TailVerdict",
    "TruncatedNormal",
    "averaging_slope",
    "clip_factors",
    "clip_fraction",
    "clipped_mean",
    "clipping_bias",
    "concentration",
    "deviation_norms",
    "hill",
    "hill_curve",
    "legacy_block_alpha",
    "max_to_sum",
    "moment_index",
    "num_vuong",
    "power_law_or_lognormal",
    "stable_mean_scale",
    "tail_report",
    "truncated_normal_fit",
]
