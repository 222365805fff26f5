from .event_files import TensorBoard as TensorBoard
from .log import LogTo as LogTo
from .log import Trackio as Trackio
from .log import Wandb as Wandb
from .logger import Logger as Logger
from .names import from_name as from_name
from .tracking import MLflow as MLflow
