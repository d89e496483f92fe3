"""Multi-resolution training that back-propagates each resolution in turn, to save memory."""

from __future__ import annotations

from resformer_mm.engine.turn_by_turn import TurnByTurnTraining
from resformer_mm.registry import MODELS

from .multi_resolution import MultiResolutionClassifier


@MODELS.register_module()
class TurnByTurnClassifier(TurnByTurnTraining, MultiResolutionClassifier):
    """A :class:`MultiResolutionClassifier` that needs the memory of its largest resolution only."""
