"""Recognizers, adapters to mmaction2."""

from .multi_resolution import MultiResolutionRecognizer
from .turn_by_turn import TurnByTurnRecognizer

__all__ = ['MultiResolutionRecognizer', 'TurnByTurnRecognizer']
