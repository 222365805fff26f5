"""Ways out of saddles and local minima, in steps."""

from downslope.noise.escape.first_passage import (
    kramers_time,
    mean_first_passage,
)
from downslope.noise.escape.path import (
    EscapeTime,
    escape_time,
    path_diffusion,
)
from downslope.noise.escape.saddle import (
    SaddleEscape,
    noise_free_steps,
    saddle_escape,
    saddle_steps,
    saddle_steps_exact,
    saddle_steps_sd,
    saddle_variance,
)

__all__ = [
    "EscapeTime",
    "SaddleEscape",
    "escape_time",
    "kramers_time",
    "mean_first_passage",
    "noise_free_steps",
    "path_diffusion",
    "saddle_escape",
    "saddle_steps",
    "saddle_steps_exact",
    "saddle_steps_sd",
    "saddle_variance",
]
