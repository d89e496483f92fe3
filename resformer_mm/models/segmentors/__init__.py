"""Segmentors, adapters to mmsegmentation."""

from .multi_resolution import MultiResolutionSegmentor
from .turn_by_turn import TurnByTurnSegmentor

__all__ = ['MultiResolutionSegmentor', 'TurnByTurnSegmentor']
