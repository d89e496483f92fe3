"""Kinds of models that are not plain ViTs, recognised by the names of their parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from .layouts import find_layout
from .reading import CheckpointError

GATED = 'a ViT with gated MLPs (SwiGLU)'
# Parts without a place in a plain ViT -> the kind of model, the first that fits.
_NOT_PLAIN = {
    r'(^|\.)(blocks|layers|layer)\.\d+\.lambda_1$|^beit\.|^data2vec_vision\.': 'a BEiT',
    r'rope\.freqs_(cos|sin)$': 'an EVA-02',
    r'\.mlp\.(w12|w1|fc1_g|weights_in|gate_proj)\.|\.ffn\.(w12|w1)\.': GATED,
    r'\.attn\.relative_position_bias_table$|rel_pos_bias\.': 'a BEiT',
    r'\.relative_position_bias_table$|\.rel_pos_[hw]$|\.rel_pos\.|\.cpb_mlp\.': (
        'a model with relative positions (SAM, ViTDet)'
    ),
    r'(^|\.)(ln_pre|pre_layrnorm|norm_pre|pre_norm|pre_ln)\.': (
        'a ViT with a norm before its blocks (the visual tower of a CLIP)'
    ),
    r'(^|\.)(attn_pool|head\.probe|head\.attention)(\.|$)': 'a ViT with attention pooling (SigLIP)',
    r'\.attn\.(q_norm|k_norm|norm)\.': 'a ViT that normalises queries, keys or values',
    r'(^|\.)blocks_token_only\.': 'a CaiT',
    r'\.local_mp\.': 'an XCiT',
    r'(^|\.)patch_embed\.(backbone|conv\d?|block)\.': 'a ViT with a convolutional stem',
}
# Names -> the kind of a model in which no ViT is found, the first that fits.
_OTHERS = {
    r'(layers|stages)\.\d+\.blocks\.\d+\.attn\.'
    r'(w_msa\.)?(relative_position_bias_table|cpb_mlp\.|logit_scale)': 'a Swin',
    r'^(backbone\.)?transition1\.': 'an HRNet',
    r'(^|\.)layer1\.0\.conv1\.': 'a ResNet',
    r'(^|\.)downsample_layers\.|(^|\.)stages\.\d+\.blocks\.\d+\.conv_dw\.': 'a ConvNeXt',
    r'(token_mix|mlp_tokens)\.': 'an MLP-Mixer',
    r'(^|\.)(visual|vision_model)\.|(^|\.)post_layernorm\.': 'the visual tower of a CLIP or SigLIP',
    r'(^|\.)(stages|stage\d|network\.\d|layers\.0\.1\.0|patch_embeds|block1)\.': (
        'a network of several stages'
    ),
    r'(running_mean$|(^|\.)features\.\d+\.)': 'a convolutional network',
}


def check_kind(state: Mapping[str, Tensor], source: str) -> None:
    """Check that a checkpoint is not of a model that a ResFormer cannot start from.

    Raises:
        CheckpointError: something in it has no place in a plain ViT, or there is no ViT in it.
    """
    for kind, names in _reasons(state, source):
        shown = ', '.join(names[:3]) + (' and others' if len(names) > 3 else '')
        raise CheckpointError(
            f'{source} is {kind}, not a plain ViT, and a ResFormer has no place for {shown}: use a '
            'checkpoint of a ResFormer, DeiT or ViT'
        )


def _reasons(state: Mapping[str, Tensor], source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield kinds that a checkpoint may be of, and the names that show it."""
    patterns = [*_NOT_PLAIN.items()]
    if find_layout(state, source) is None:
        patterns = [*_OTHERS.items(), *patterns]
    for pattern, kind in patterns:
        if names := [name for name in state if re.search(pattern, name)]:
            yield kind, names
    queries = [name for name in state if re.search(r'(^|\.)blocks\.\d+\.attn\.qkv\.weight$', name)]
    widths = {state[name].shape[-1] for name in queries if state[name].ndim == 2}
    if len(widths) > 1:
        yield f'a transformer of several widths ({", ".join(map(str, sorted(widths)))})', queries
    for name in (name for name in state if re.search(r'(^|\.)blocks\.\d+\.mlp\.fc2\.weight$', name)):
        first = name.replace('fc2', 'fc1')
        if first in state and state[first].ndim == 2 and state[first].shape[0] == 2 * state[name].shape[-1]:
            yield GATED, [first, name]
