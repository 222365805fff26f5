from .detector import AnomalyDetector as AnomalyDetector
from .explain import Alarm as Alarm
from .period import find_period as find_period
from .stream import Scores as Scores
from .threshold import Threshold as Threshold
