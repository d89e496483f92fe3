"""Layers of the model: small plain modules that take tensors and an explicit grid ``(H, W)``."""

from .attention import Attention
from .block import MLP, Block, DropPath
from .global_position import (
    GlobalPosition,
    GlobalPositionEmbedding,
    LearnedPositionEmbedding,
    NoGlobalPosition,
    sinusoid_map,
)
from .local_position import LocalPosition, LocalPositionEmbedding
from .patch_embed import PatchEmbed
from .window_attention import WindowAttention

__all__ = [
    'MLP',
    'Attention',
    'Block',
    'DropPath',
    'GlobalPosition',
    'GlobalPositionEmbedding',
    'LearnedPositionEmbedding',
    'LocalPosition',
    'LocalPositionEmbedding',
    'NoGlobalPosition',
    'PatchEmbed',
    'WindowAttention',
    'sinusoid_map',
]
