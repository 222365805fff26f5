from .mini_batch import AngleReport as AngleReport
from .mini_batch import BiasCheck as BiasCheck
from .mini_batch import batch_variance as batch_variance
from .mini_batch import bias_check as bias_check
from .mini_batch import expected_angle as expected_angle
from .one_step import OneStep as OneStep
from .one_step import one_step_change as one_step_change
