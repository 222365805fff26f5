from .record import Trajectory as Trajectory
from .statistics import PrincipalPath as PrincipalPath
from .statistics import autocorrelation_time as autocorrelation_time
from .statistics import displacement_exponent as displacement_exponent
from .statistics import principal_path as principal_path
