"""Consistency losses."""

from .pseudo_label import PseudoLabelConsistency
from .scale_consistency import (
    CosineConsistency,
    KLConsistency,
    L2Consistency,
    ScaleConsistency,
    SmoothL1Consistency,
)

__all__ = [
    'CosineConsistency',
    'KLConsistency',
    'L2Consistency',
    'PseudoLabelConsistency',
    'ScaleConsistency',
    'SmoothL1Consistency',
]
