from .critical import CriticalBatch as CriticalBatch
from .critical import fit_critical_batch as fit_critical_batch
from .examples import curvature_weighted as curvature_weighted
from .examples import from_examples as from_examples
from .steps import Noise as Noise
from .steps import from_halves as from_halves
from .steps import from_terms as from_terms
