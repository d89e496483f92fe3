"""Multi-resolution training on clips that back-propagates each copy in turn, to save memory."""

from __future__ import annotations

from resformer_mm.engine.turn_by_turn import TurnByTurnTraining
from resformer_mm.registry import MODELS

from .multi_resolution import MultiResolutionRecognizer


@MODELS.register_module()
class TurnByTurnRecognizer(TurnByTurnTraining, MultiResolutionRecognizer):
    """A :class:`MultiResolutionRecognizer` that needs the memory of its largest copy only."""
