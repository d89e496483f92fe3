"""Resolution sweep: metrics and costs of models at every resolution, and their report."""

from .pareto import pareto_front
from .record import Point, SweepError, SweepRecord, SweptModel, outcome_path
from .run import Sweep
from .summary import Summary, summarise

__all__ = [
    'Point',
    'Summary',
    'Sweep',
    'SweepError',
    'SweepRecord',
    'SweptModel',
    'outcome_path',
    'pareto_front',
    'summarise',
]
