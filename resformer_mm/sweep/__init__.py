"""Which resolution to deploy: metrics and costs of models at every resolution, and the report of them."""

from .pareto import pareto_front
from .record import Point, SweepError, SweepRecord, SweptModel
from .run import SweepSettings, run_sweep
from .summary import Summary, summarise

__all__ = [
    'Point',
    'Summary',
    'SweepError',
    'SweepRecord',
    'SweepSettings',
    'SweptModel',
    'pareto_front',
    'run_sweep',
    'summarise',
]
