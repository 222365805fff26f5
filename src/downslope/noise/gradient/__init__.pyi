from .angle import AngleReport as AngleReport
from .angle import batch_variance as batch_variance
from .angle import expected_angle as expected_angle
from .bias import BiasCheck as BiasCheck
from .bias import bias_check as bias_check
from .one_step import OneStep as OneStep
from .one_step import one_step_change as one_step_change
