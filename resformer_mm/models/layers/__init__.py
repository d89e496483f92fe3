"""Layers of the model: small plain modules that take tensors and an explicit grid ``(H, W)``."""

from .attention import Attention
from .attention_scale import (
    AttentionScale,
    LearnedLogTokensScale,
    LearnedPerGridScale,
    LogTokensScale,
    PerGridScale,
    YarnScale,
)
from .augmented_position import AugmentedPositionEmbedding
from .batch_padding import BatchPadding, ImageGroups, extend_edges, inside, separate_padding, token_grids
from .block import MLP, Block, PreNormBlock
from .checkpointed_mlp import CheckpointedMLP
from .combined_position import CombinedPosition
from .coordinates import CoordinateAugmentation
from .distance_bias import DirectionalBias, DistanceBias
from .drop_path import Draws, DropPath, SubsetDropPath
from .flexible_patch_embed import (
    FlexiblePatchEmbed,
    MultiKernelPatchEmbed,
    added_kernels,
    build_patch_embed,
    fix_patches,
)
from .global_position import (
    GlobalPosition,
    GlobalPositionEmbedding,
    LearnedPositionEmbedding,
    NoGlobalPosition,
    sinusoid_map,
)
from .grids import ClipGrid, Grid, TokenGrid, frame_count, frame_grid
from .kernel_resizing import kernel_resizing, resize_kernel
from .layer_norm_2d import LayerNorm2d
from .local_position import LocalPosition, LocalPositionEmbedding, pad_prefix_tokens
from .lora import LoRALinear, add_adapters, is_adapter, is_trained, merge_adapters, merge_state
from .masked_attention import MaskedAttention, VisiblePatches, draw_visible
from .packing import Packing
from .patch_embed import PatchEmbed
from .position_tables import FuzzyPositionEmbedding, PositionTables
from .relative_bias import ContinuousPositionBias, RelativePositionBias
from .rotary_position import AxialRotaryPosition, MixedRotaryPosition
from .space_time import ClipBlock, DividedBlock, JointAttention, TemporalAttention, merge_frames, split_frames
from .temporal_position import TemporalPositionEmbedding
from .token_drop import KeptGrid, RandomTokenDrop
from .token_merger import GridMerger, StridedTokenMerger, TokenMerger
from .window_attention import WindowAttention

__all__ = [
    'KeptGrid',
    'RandomTokenDrop',
    'AugmentedPositionEmbedding',
    'CombinedPosition',
    'CoordinateAugmentation',
    'DirectionalBias',
    'DistanceBias',
    'FlexiblePatchEmbed',
    'MaskedAttention',
    'VisiblePatches',
    'draw_visible',
    'FuzzyPositionEmbedding',
    'MultiKernelPatchEmbed',
    'PositionTables',
    'ContinuousPositionBias',
    'RelativePositionBias',
    'AxialRotaryPosition',
    'MixedRotaryPosition',
    'MLP',
    'Attention',
    'AttentionScale',
    'BatchPadding',
    'Block',
    'CheckpointedMLP',
    'ClipBlock',
    'ClipGrid',
    'DividedBlock',
    'Draws',
    'DropPath',
    'GlobalPosition',
    'GlobalPositionEmbedding',
    'Grid',
    'GridMerger',
    'ImageGroups',
    'JointAttention',
    'LoRALinear',
    'LayerNorm2d',
    'LearnedLogTokensScale',
    'LearnedPerGridScale',
    'LearnedPositionEmbedding',
    'LocalPosition',
    'LocalPositionEmbedding',
    'LogTokensScale',
    'NoGlobalPosition',
    'Packing',
    'PatchEmbed',
    'PerGridScale',
    'PreNormBlock',
    'StridedTokenMerger',
    'SubsetDropPath',
    'TemporalAttention',
    'TemporalPositionEmbedding',
    'TokenGrid',
    'TokenMerger',
    'WindowAttention',
    'YarnScale',
    'add_adapters',
    'added_kernels',
    'build_patch_embed',
    'extend_edges',
    'fix_patches',
    'frame_count',
    'frame_grid',
    'inside',
    'is_adapter',
    'is_trained',
    'kernel_resizing',
    'merge_adapters',
    'merge_state',
    'separate_padding',
    'merge_frames',
    'pad_prefix_tokens',
    'resize_kernel',
    'sinusoid_map',
    'token_grids',
    'split_frames',
]
