"""Small images first, larger ones where the model is unsure."""

from .fitting import Fit, Operation, apply_rule, choose, cross_fit, fit_frontier
from .outcomes import OutcomeMetric, Outcomes, load_outcomes, save_outcomes
from .rule import CascadeRule, confidence_function

__all__ = [
    'CascadeRule',
    'Fit',
    'Operation',
    'OutcomeMetric',
    'Outcomes',
    'apply_rule',
    'choose',
    'confidence_function',
    'cross_fit',
    'fit_frontier',
    'load_outcomes',
    'save_outcomes',
]
