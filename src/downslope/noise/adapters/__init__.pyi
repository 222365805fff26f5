from .halves import HalfBatches as HalfBatches
from .optax_monitor import NoiseState as NoiseState
from .optax_monitor import measure_noise as measure_noise
from .optax_monitor import read_noise as read_noise
