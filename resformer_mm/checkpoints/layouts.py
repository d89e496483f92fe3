"""Names of plain ViTs in other libraries, translated to those of timm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .reading import CheckpointError

_BLOCK = r'blocks.\1.'
_FFN = (
    (r'^layers\.(\d+)\.ffn\.layers\.0\.0\.', _BLOCK + 'mlp.fc1.'),
    (r'^layers\.(\d+)\.ffn\.layers\.1\.', _BLOCK + 'mlp.fc2.'),
)
_OPENMMLAB = (
    (r'^head\.layers\.head(_dist)?\.', r'head\1.'),
    (r'^backbone\.', ''),
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^(?:ln|norm)1\.', 'norm.'),
    (r'^layers\.(\d+)\.(?:ln|norm)([12])\.', _BLOCK + r'norm\2.'),
    (r'^layers\.(\d+)\.attn\.attn\.in_proj_', _BLOCK + 'attn.qkv.'),
    (r'^layers\.(\d+)\.attn\.attn\.out_proj\.', _BLOCK + 'attn.proj.'),
    (r'^layers\.(\d+)\.attn\.(qkv|proj)\.', _BLOCK + r'attn.\2.'),
    *_FFN,
)
_HUGGING_FACE = (
    (r'^(?:vit|deit)\.', ''),
    (r'^embeddings\.cls_token$', 'cls_token'),
    (r'^embeddings\.distillation_token$', 'dist_token'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'^encoder\.layer\.(\d+)\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.', _BLOCK + r'attn.\2.'),
    (r'^encoder\.layer\.(\d+)\.attention\.output\.dense\.', _BLOCK + 'attn.proj.'),
    (r'^encoder\.layer\.(\d+)\.intermediate\.dense\.', _BLOCK + 'mlp.fc1.'),
    (r'^encoder\.layer\.(\d+)\.output\.dense\.', _BLOCK + 'mlp.fc2.'),
    (r'^encoder\.layer\.(\d+)\.layernorm_before\.', _BLOCK + 'norm1.'),
    (r'^encoder\.layer\.(\d+)\.layernorm_after\.', _BLOCK + 'norm2.'),
    (r'^layernorm\.', 'norm.'),
    (r'^(?:cls_)?classifier\.', 'head.'),
    (r'^distillation_classifier\.', 'head_dist.'),
)
_TORCHVISION = (
    (r'^class_token$', 'cls_token'),
    (r'^encoder\.pos_embedding$', 'pos_embed'),
    (r'^conv_proj\.', 'patch_embed.proj.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.', _BLOCK + r'norm\2.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_', _BLOCK + 'attn.qkv.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.', _BLOCK + 'attn.proj.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.', _BLOCK + 'mlp.fc1.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.', _BLOCK + 'mlp.fc2.'),
    (r'^encoder\.ln\.', 'norm.'),
    (r'^heads\.head\.', 'head.'),
)
_DINO = ((r'^backbone\.', ''),)
_MOCO = ((r'^(?:base_encoder|encoder_q)\.', ''),)

# Layout -> (a name that only it has, translations in order).
_LAYOUTS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    'mmpretrain or mmseg': (r'^(backbone\.)?layers\.0\.ffn\.layers\.0\.0\.weight$', _OPENMMLAB),
    'Hugging Face': (r'encoder\.layer\.0\.attention\.attention\.query\.weight$', _HUGGING_FACE),
    'torchvision': (r'^encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_weight$', _TORCHVISION),
    'DINO': (r'^backbone\.pos_embed$', _DINO),
    'MoCo': (r'^(base_encoder|encoder_q)\.blocks\.0\.attn\.qkv\.weight$', _MOCO),
}
# What a plain ViT does not have -> what the checkpoint is.
_OTHER_KINDS = {
    r'(^|\.)(layers|stages)\.\d+\.blocks\.\d+\.attn\.(w_msa\.)?relative_position_bias_table$': 'a Swin',
    r'\.relative_position_bias_table$|(^|\.)blocks\.0\.attn\.q_bias$|^beit\.': 'a BEiT',
    r'(^|\.)register_tokens$|(^|\.)reg_token$': 'a ViT with register tokens (DINOv2)',
    r'(^|\.)blocks\.0\.(ls1\.gamma|gamma_1)$|layer_scale1\.': 'a ViT with layer scale (DINOv2, DeiT III)',
    r'(^|\.)ln_pre\.|(^|\.)pre_layrnorm\.|^norm_pre\.': 'the visual tower of a CLIP (ln_pre)',
    r'(^|\.)downsample_layers\.|(^|\.)stages\.\d+\.blocks\.\d+\.conv_dw\.': 'a ConvNeXt',
    r'(^|\.)layer1\.0\.conv1\.weight$': 'a ResNet',
}
_OTHER_PARTS = re.compile(
    r'(decoder_|mask_token$|pre_logits\.|pooler\.|predictor\.|momentum_encoder\.|encoder_k\.|queue|'
    r'head\.(?!weight$|bias$)|decode_head\.|auxiliary_head\.|neck\.|decoder\.)'
)


@dataclass
class Translation:
    """Tensors under timm's names.

    Attributes:
        layout: name of the layout in which they were.
        state: name of timm -> tensor.
        origins: name of timm -> name in the file.
        dropped: name in the file -> why it is left out.
    """

    layout: str
    state: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def other_kind(state: Mapping[str, Tensor]) -> str | None:
    """Return what a checkpoint is that is not of a plain ViT; None if nothing shows that."""
    for pattern, kind in _OTHER_KINDS.items():
        if any(re.search(pattern, name) for name in state):
            return kind
    return None


def foreign_layout(state: Mapping[str, Tensor]) -> str | None:
    """Return the layout of a plain ViT of another library than timm; None for any other checkpoint."""
    for layout, (pattern, _) in _LAYOUTS.items():
        if any(re.search(pattern, name) for name in state):
            return layout
    return None


def translate(state: Mapping[str, Tensor], layout: str, source: str) -> Translation:
    """Translate a plain ViT of another library to the names of timm.

    Separate projections of queries, keys and values are joined. Decoders, projection heads and other parts
    of a pre-training are left out.

    Args:
        state: name -> tensor.
        layout: result of :func:`foreign_layout`, or 'timm'.
        source: the file, for messages.

    Raises:
        CheckpointError: one of three projections is missing.
    """
    rules = _LAYOUTS[layout][1] if layout in _LAYOUTS else ()
    result = Translation(layout)
    for origin, value in state.items():
        name = origin
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if _OTHER_PARTS.match(name):
            result.dropped[origin] = 'left out, it belongs to another part than the ViT'
        else:
            result.state[name], result.origins[name] = value, origin
    for name in [name for name in result.state if '.attn.q.' in name]:
        parts = [name.replace('.attn.q.', f'.attn.{part}.') for part in 'qkv']
        if any(part not in result.state for part in parts):
            raise CheckpointError(f'{source} has {result.origins[name]} without its keys and values')
        joined = name.replace('.attn.q.', '.attn.qkv.')
        result.state[joined] = torch.cat([result.state.pop(part) for part in parts])
        result.origins[joined] = ' + '.join(result.origins.pop(part) for part in parts)
    return result
