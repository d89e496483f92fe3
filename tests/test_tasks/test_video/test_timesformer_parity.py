"""With a learned position table and no LPE, the backbone for clips is mmaction2's TimeSformer."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from resformer_mm.compat import prepare_mmaction
from resformer_mm.models import VideoResFormer

prepare_mmaction()
import mmaction.models  # noqa: E402, F401

FRAMES, SIZE, WIDTH, BLOCKS = 3, 32, 24, 2


def timesformer(attention_type: str) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = ROOT.build(
            dict(
                type='TimeSformer',
                num_frames=FRAMES,
                img_size=SIZE,
                patch_size=8,
                embed_dims=WIDTH,
                num_heads=2,
                num_transformer_layers=BLOCKS,
                attention_type=attention_type,
            )
        )
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()  # evaluation: its stochastic depth has no switch


def renamed(state: dict[str, Tensor], attention_type: str) -> dict[str, Tensor]:
    """Names of TimeSformer's parameters to ours."""
    divided = attention_type == 'divided_space_time'
    blocks = {'attentions.0.attn.in_proj_': 'attn.qkv.', 'attentions.0.attn.out_proj.': 'attn.proj.'}
    blocks |= {'norms.0.': 'norm1.', 'norms.1.': 'norm2.'}
    if divided:
        blocks = {f'attentions.1{name[12:]}': ours for name, ours in blocks.items() if 'attn' in name} | {
            'attentions.0.attn.in_proj_': 'temporal_attn.qkv.',
            'attentions.0.attn.out_proj.': 'temporal_attn.proj.',
            'attentions.0.norm.': 'temporal_norm.',
            'attentions.0.temporal_fc.': 'temporal_fc.',
            'attentions.1.norm.': 'norm1.',
            'ffns.0.norm.': 'norm2.',
        }
    blocks |= {'ffns.0.layers.0.0.': 'mlp.fc1.', 'ffns.0.layers.1.': 'mlp.fc2.'}
    mapped = {}
    for name, value in state.items():
        if name == 'pos_embed':
            mapped['global_position.cls_token_table'] = value[:, :1]
            mapped['global_position.table'] = value[:, 1:]
            continue
        name = name.replace('time_embed', 'temporal_position.table')
        name = name.replace('patch_embed.projection.', 'patch_embed.proj.')
        if name.startswith('transformer_layers.layers.'):
            index, rest = name.removeprefix('transformer_layers.layers.').split('.', 1)
            theirs = next(prefix for prefix in blocks if rest.startswith(prefix))
            name = f'blocks.{index}.{blocks[theirs]}{rest.removeprefix(theirs)}'
        mapped[name] = value
    return mapped


@pytest.mark.parametrize('attention_type', ['divided_space_time', 'joint_space_time', 'space_only'])
def test_same_class_token_and_gradients(attention_type: str) -> None:
    theirs = timesformer(attention_type)
    ours = VideoResFormer(
        dict(embed_dims=WIDTH, num_layers=BLOCKS, num_heads=2, feedforward_channels=4 * WIDTH),
        patch_size=8,
        num_frames=FRAMES,
        attention_type=attention_type,
        global_position=dict(type='LearnedPositionEmbedding', grid_size=SIZE // 8),
        local_position=None,
    ).eval()
    ours.load_state_dict(renamed(theirs.state_dict(), attention_type))
    clips = torch.randn(2, 3, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    expected, actual = theirs(clips), ours(clips)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    for output in (expected, actual):
        output.square().sum().backward()
    wanted = renamed({name: value.grad for name, value in theirs.named_parameters()}, attention_type)
    for name, parameter in ours.named_parameters():
        scale = wanted[name].abs().max()
        torch.testing.assert_close(
            parameter.grad / scale, wanted[name] / scale, rtol=1e-3, atol=1e-4, msg=name
        )
