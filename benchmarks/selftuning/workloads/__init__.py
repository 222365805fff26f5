"""Workloads: a loss, a model, rows, and the seconds that a run may take.

from benchmarks.selftuning.workloads import WORKLOADS, load
workload = load("digits mixer")
"""

from benchmarks.selftuning.workloads.registry import WORKLOADS, Recipe, load, missing
from benchmarks.selftuning.workloads.workload import Rows, Workload

__all__ = ["WORKLOADS", "Recipe", "Rows", "Workload", "load", "missing"]
