"""Training and evaluation with MMEngine: the objective, loops, hooks and an optimiser wrapper."""

from .class_hooks import CheckNumClassesHook, CheckSplitsHook
from .hooks import DrawInEveryProcessHook, SkippedImagesHook
from .invalid_loss import InvalidLossHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .loops import MultiResolutionTestLoop, MultiResolutionValLoop
from .merged_groups import MergedGroupsOptimWrapperConstructor
from .objective import Copy, MultiResolutionObjective, enumerate_copies
from .one_forward import OneForwardObjective
from .optim_wrapper import AutocastOptimWrapper
from .partial_copies import PartialCopy
from .patch_sizes import DrawPatchSizesHook
from .pictures import DrawOneViewHook, PictureNamesHook
from .steering import LossGapHook, LossProgressHook, SteerResolutionsHook
from .teacher import TeacherHook
from .turns import TurnByTurnEpochLoop, TurnByTurnIterLoop, train_by_turns

__all__ = [
    'AutocastOptimWrapper',
    'CheckNumClassesHook',
    'CheckSplitsHook',
    'Copy',
    'DrawInEveryProcessHook',
    'DrawOneViewHook',
    'DrawPatchSizesHook',
    'InvalidLossHook',
    'LayerDecayOptimWrapperConstructor',
    'LossGapHook',
    'LossProgressHook',
    'MergedGroupsOptimWrapperConstructor',
    'MultiResolutionObjective',
    'MultiResolutionTestLoop',
    'MultiResolutionValLoop',
    'OneForwardObjective',
    'PartialCopy',
    'PictureNamesHook',
    'SkippedImagesHook',
    'SteerResolutionsHook',
    'TeacherHook',
    'TurnByTurnEpochLoop',
    'TurnByTurnIterLoop',
    'enumerate_copies',
    'train_by_turns',
]
