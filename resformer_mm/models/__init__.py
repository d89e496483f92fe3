"""Models. Importing this package needs only PyTorch and MMEngine."""

from .backbones import FrameResFormer, ResFormer, VideoResFormer
from .layers import (
    AugmentedPositionEmbedding,
    AxialRotaryPosition,
    CombinedPosition,
    ContinuousPositionBias,
    DirectionalBias,
    DistanceBias,
    FuzzyPositionEmbedding,
    GlobalPosition,
    GlobalPositionEmbedding,
    LayerNorm2d,
    LearnedPositionEmbedding,
    LocalPosition,
    LocalPositionEmbedding,
    MixedRotaryPosition,
    NoGlobalPosition,
    PositionTables,
    RelativePositionBias,
)
from .losses import CosineConsistency, KLConsistency, L2Consistency, SmoothL1Consistency
from .necks import SimpleFeaturePyramid

__all__ = [
    'AugmentedPositionEmbedding',
    'CombinedPosition',
    'DirectionalBias',
    'DistanceBias',
    'FuzzyPositionEmbedding',
    'PositionTables',
    'ContinuousPositionBias',
    'RelativePositionBias',
    'AxialRotaryPosition',
    'MixedRotaryPosition',
    'CosineConsistency',
    'FrameResFormer',
    'GlobalPosition',
    'GlobalPositionEmbedding',
    'KLConsistency',
    'L2Consistency',
    'LayerNorm2d',
    'LearnedPositionEmbedding',
    'LocalPosition',
    'LocalPositionEmbedding',
    'NoGlobalPosition',
    'ResFormer',
    'SimpleFeaturePyramid',
    'SmoothL1Consistency',
    'VideoResFormer',
]
