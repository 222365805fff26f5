from .config import ModelOptions as ModelOptions
from .config import TableOptions as TableOptions
from .config import Training as Training
from .data import open as open
from .data.arrays import Arrays as Arrays
from .data.generator import Generator as Generator
from .data.source import Source as Source
from .errors import CapacityError as CapacityError
from .errors import DataError as DataError
from .errors import DownslopeError as DownslopeError
from .errors import MismatchError as MismatchError
from .errors import StopReason as StopReason
from .errors import UsageError as UsageError
from .fit import fit as fit
from .report.run import RunReader as RunReader
from .train.evaluate import Scorer as Scorer
from .train.measure import measure as measure
from .train.result import Result as Result
from .train.run_folder import load_model as load_model
from .train.run_folder import read_metadata as read_metadata
from .train.run_folder import read_request as read_request
from .train.stepper import Stepper as Stepper

__version__: str
