"""Anomalies in periodic signals: learned from normal ones, with a stated rate of false alarms."""

from __future__ import annotations

from downslope.recipes.anomaly.detector import AnomalyDetector
from downslope.recipes.anomaly.explain import Alarm
from downslope.recipes.anomaly.period import find_period
from downslope.recipes.anomaly.stream import Scores
from downslope.recipes.anomaly.threshold import Threshold

__all__ = ["Alarm", "AnomalyDetector", "Scores", "Threshold", "find_period"]
