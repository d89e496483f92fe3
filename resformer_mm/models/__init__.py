"""Models. Importing this package imports the core alone, which needs torch and MMEngine, nothing else."""

from .backbones import ResFormer, VideoResFormer
from .layers import (
    GlobalPosition,
    GlobalPositionEmbedding,
    LearnedPositionEmbedding,
    LocalPosition,
    LocalPositionEmbedding,
    NoGlobalPosition,
)
from .losses import CosineConsistency, KLConsistency, L2Consistency, SmoothL1Consistency

__all__ = [
    'CosineConsistency',
    'GlobalPosition',
    'GlobalPositionEmbedding',
    'KLConsistency',
    'L2Consistency',
    'LearnedPositionEmbedding',
    'LocalPosition',
    'LocalPositionEmbedding',
    'NoGlobalPosition',
    'ResFormer',
    'SmoothL1Consistency',
    'VideoResFormer',
]
