from .baselines import ensemble as ensemble
from .baselines import swag as swag
from .result import Posterior as Posterior
from .sampling import sample as sample
from .tuning import choose_batch as choose_batch
from .tuning import choose_step as choose_step
