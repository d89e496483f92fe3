"""Multi-resolution segmentation that back-propagates each resolution in turn, to save memory."""

from __future__ import annotations

from resformer_mm.engine.turn_by_turn import TurnByTurnTraining
from resformer_mm.registry import MODELS

from .multi_resolution import MultiResolutionSegmentor


@MODELS.register_module()
class TurnByTurnSegmentor(TurnByTurnTraining, MultiResolutionSegmentor):
    """A :class:`MultiResolutionSegmentor` that needs the memory of its largest resolution only."""
