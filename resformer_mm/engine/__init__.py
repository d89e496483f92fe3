"""Training and evaluation machinery on MMEngine alone."""

from .hooks import CheckNumClassesHook, DrawInEveryProcessHook, InvalidLossHook, SkippedImagesHook
from .loops import MultiResolutionTestLoop, MultiResolutionValLoop
from .optim_wrapper import AutocastOptimWrapper
from .turn_by_turn import TurnByTurnDistributedDataParallel, train_by_turns

__all__ = [
    'AutocastOptimWrapper',
    'CheckNumClassesHook',
    'DrawInEveryProcessHook',
    'InvalidLossHook',
    'MultiResolutionTestLoop',
    'MultiResolutionValLoop',
    'SkippedImagesHook',
    'TurnByTurnDistributedDataParallel',
    'train_by_turns',
]
