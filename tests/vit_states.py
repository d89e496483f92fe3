"""State dicts of plain ViTs under the names of several libraries, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor

from resformer_mm.models import ResFormer

ARCH = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96)
TIMM_BLOCK = ('norm1', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')
# Layout -> names of the same parameters: patch embedding, class token, table, norm, parts of block {0}.
NAMES = {
    'Hugging Face': (
        ('vit.embeddings.patch_embeddings.projection', 'vit.embeddings.cls_token'),
        ('vit.embeddings.position_embeddings', 'vit.layernorm', 'classifier'),
        (
            'layernorm_before',
            'attention.output.dense',
            'layernorm_after',
            'intermediate.dense',
            'output.dense',
        ),
        'vit.encoder.layer.{}.',
    ),
    'Hugging Face 5': (
        ('vit.embeddings.patch_embeddings.projection', 'vit.embeddings.cls_token'),
        ('vit.embeddings.position_embeddings', 'vit.layernorm', 'classifier'),
        ('layernorm_before', 'attention.o_proj', 'layernorm_after', 'mlp.fc1', 'mlp.fc2'),
        'vit.layers.{}.',
    ),
    'timm in Lightning': (
        ('model.patch_embed.proj', 'model.cls_token'),
        ('model.pos_embed', 'model.norm', 'model.head'),
        TIMM_BLOCK,
        'model.blocks.{}.',
    ),
    'DINO': (
        ('backbone.patch_embed.proj', 'backbone.cls_token'),
        ('backbone.pos_embed', 'backbone.norm', 'head.mlp.0'),
        TIMM_BLOCK,
        'backbone.blocks.{}.',
    ),
    'mmpretrain or mmseg': (
        ('backbone.patch_embed.projection', 'backbone.cls_token'),
        ('backbone.pos_embed', 'backbone.ln1', 'head.layers.head'),
        ('ln1', 'attn.proj', 'ln2', 'ffn.layers.0.0', 'ffn.layers.1'),
        'backbone.layers.{}.',
    ),
    'mmseg': (
        ('backbone.patch_embed.projection', 'backbone.cls_token'),
        ('backbone.pos_embed', 'backbone.ln1', 'decode_head.conv_seg'),
        ('ln1', 'attn.attn.out_proj', 'ln2', 'ffn.layers.0.0', 'ffn.layers.1'),
        'backbone.layers.{}.',
    ),
    'MoCo': (
        ('base_encoder.patch_embed.proj', 'base_encoder.cls_token'),
        ('base_encoder.pos_embed', 'base_encoder.norm', 'predictor.0'),
        TIMM_BLOCK,
        'base_encoder.blocks.{}.',
    ),
}
# Layout -> names of the queries, keys and values of a block.
QKV = {
    'Hugging Face': ('attention.attention.', ('query', 'key', 'value')),
    'Hugging Face 5': ('attention.', ('q_proj', 'k_proj', 'v_proj')),
    'mmseg': ('attn.attn.in_proj_', ()),
}


def timm_state() -> dict[str, Tensor]:
    """Random weights under the names of timm."""
    model = ResFormer(arch=ARCH, global_position=dict(type='NoGlobalPosition'), local_position=None)
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(value.shape, generator=generator) for name, value in model.state_dict().items()
    }
    state['pos_embed'] = torch.randn(1, 17, 48, generator=generator)
    state['head.weight'] = torch.randn(5, 48, generator=generator)
    return state | {'head.bias': torch.randn(5, generator=generator)}


def renamed(layout: str) -> dict[str, Tensor]:
    """The same weights under the names of another library."""
    (patches, token), (table, norm, head), parts, block = NAMES[layout]
    names = {'patch_embed.proj': patches, 'norm': norm, 'head': head}
    for index in range(2):
        for ours, theirs in zip(TIMM_BLOCK, parts):
            names[f'blocks.{index}.{ours}'] = block.format(index) + theirs
    state = {}
    for name, value in timm_state().items():
        stem, _, kind = name.rpartition('.')
        if name in ('cls_token', 'pos_embed'):
            state[{'cls_token': token, 'pos_embed': table}[name]] = value
        elif stem.endswith('attn.qkv'):
            joined, separate = QKV.get(layout, ('attn.qkv.', ()))
            prefix = block.format(stem.split('.')[1]) + joined
            for part, third in zip(separate, value.chunk(3)):
                state[f'{prefix}{part}.{kind}'] = third.clone()
            if not separate:
                state[f'{prefix}{kind}'] = value
        else:
            state[f'{names[stem]}.{kind}'] = value
    return state


def dino_v3(library: str) -> dict[str, Tensor]:
    """The same ViT as a DINOv3, in the names of Meta's code, of timm and of Hugging Face."""
    state = {name: value for name, value in timm_state().items() if not name.startswith(('head.', 'pos_'))}
    tokens = torch.ones(1, 4, 48)
    scales = {f'blocks.{index}.ls{part}.gamma': torch.ones(48) for index in (0, 1) for part in (1, 2)}
    if library == 'Meta':
        masks = {f'blocks.{index}.attn.qkv.bias_mask': torch.ones(144) for index in (0, 1)}
        for mask in masks.values():
            mask[48:96] = 0
        extra = {
            'storage_tokens': tokens,
            'mask_token': torch.ones(1, 48),
            'rope_embed.periods': torch.ones(4),
        }
        return state | scales | masks | extra
    if library == 'timm':
        for index in (0, 1):
            query, _, value = state.pop(f'blocks.{index}.attn.qkv.bias').chunk(3)
            state |= {f'blocks.{index}.attn.q_bias': query, f'blocks.{index}.attn.v_bias': value}
        scales = {name.replace('ls', 'gamma_').removesuffix('.gamma'): v for name, v in scales.items()}
        return state | scales | {'reg_token': tokens}
    names = {'embeddings.register_tokens': tokens, 'embeddings.mask_token': torch.ones(1, 1, 48)}
    parts = {'attn.proj': 'attention.o_proj', 'mlp.fc1': 'mlp.up_proj', 'mlp.fc2': 'mlp.down_proj'}
    for name, value in state.items():
        if '.qkv.' in name:
            for part, third in zip('qkv', value.chunk(3)):
                if (part, name[-4:]) != ('k', 'bias'):
                    block, _, kind = name.partition('.attn.qkv.')
                    names[f'{block.replace("blocks", "layer")}.attention.{part}_proj.{kind}'] = third.clone()
        else:
            for ours, theirs in parts.items():
                name = name.replace(ours, theirs)
            name = name.replace('patch_embed.proj', 'embeddings.patch_embeddings').replace('blocks', 'layer')
            names['embeddings.cls_token' if name == 'cls_token' else name] = value
    ends = [('blocks', 'layer'), ('ls', 'layer_scale'), ('gamma', 'lambda1')]
    for name, value in scales.items():
        for ours, theirs in ends:
            name = name.replace(ours, theirs)
        names[name] = value
    return names
