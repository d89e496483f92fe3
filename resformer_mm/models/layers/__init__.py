"""Layers of the model: small plain modules that take tensors and an explicit grid ``(H, W)``."""

from .attention import Attention
from .batch_padding import BatchPadding, extend_edges, inside, separate_padding, token_grids
from .block import MLP, Block, DropPath
from .global_position import (
    GlobalPosition,
    GlobalPositionEmbedding,
    LearnedPositionEmbedding,
    NoGlobalPosition,
    sinusoid_map,
)
from .layer_norm_2d import LayerNorm2d
from .local_position import LocalPosition, LocalPositionEmbedding
from .patch_embed import PatchEmbed
from .recomputing_mlp import RecomputingMLP
from .space_time import ClipBlock, DividedBlock, JointAttention, TemporalAttention, merge_frames, split_frames
from .temporal_position import TemporalPositionEmbedding
from .window_attention import WindowAttention

__all__ = [
    'MLP',
    'Attention',
    'BatchPadding',
    'Block',
    'ClipBlock',
    'DividedBlock',
    'DropPath',
    'GlobalPosition',
    'GlobalPositionEmbedding',
    'JointAttention',
    'LayerNorm2d',
    'LearnedPositionEmbedding',
    'LocalPosition',
    'LocalPositionEmbedding',
    'NoGlobalPosition',
    'PatchEmbed',
    'RecomputingMLP',
    'TemporalAttention',
    'TemporalPositionEmbedding',
    'WindowAttention',
    'extend_edges',
    'inside',
    'separate_padding',
    'merge_frames',
    'sinusoid_map',
    'token_grids',
    'split_frames',
]
