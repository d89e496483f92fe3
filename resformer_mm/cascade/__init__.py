"""Cascades: small images first, larger ones if the model is not confident."""

from .fitted import FittedCascade, fit_cascade, write_cascade_config
from .fitting import Fit, Operation, apply_rule, choose, cross_fit, fit_frontier
from .outcomes import OutcomeMetric, Outcomes, load_outcomes, save_outcomes
from .rule import CascadeRule, confidence_function

__all__ = [
    'CascadeRule',
    'Fit',
    'FittedCascade',
    'Operation',
    'OutcomeMetric',
    'Outcomes',
    'apply_rule',
    'choose',
    'confidence_function',
    'cross_fit',
    'fit_cascade',
    'fit_frontier',
    'load_outcomes',
    'save_outcomes',
    'write_cascade_config',
]
