"""Classifiers, adapters to mmpretrain."""

from .multi_resolution import MultiResolutionClassifier
from .turn_by_turn import TurnByTurnClassifier

__all__ = ['MultiResolutionClassifier', 'TurnByTurnClassifier']
