"""Checkpoints of plain ViTs of other libraries: converted, or named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from resformer_mm.checkpoints import CheckpointError, convert_weights, load_pretrained, read_weights
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
    'MoCo': (
        ('base_encoder.patch_embed.proj', 'base_encoder.cls_token'),
        ('base_encoder.pos_embed', 'base_encoder.norm', 'predictor.0'),
        TIMM_BLOCK,
        'base_encoder.blocks.{}.',
    ),
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
        elif stem.endswith('attn.qkv') and layout == 'Hugging Face':
            prefix = block.format(stem.split('.')[1]) + 'attention.attention.'
            for part, third in zip(('query', 'key', 'value'), value.chunk(3)):
                state[f'{prefix}{part}.{kind}'] = third.clone()
        elif stem.endswith('attn.qkv'):
            state[f'{block.format(stem.split(".")[1])}attn.qkv.{kind}'] = value
        else:
            state[f'{names[stem]}.{kind}'] = value
    return state


def save(path: Path, state: dict, key: str = '') -> Path:
    torch.save({key: state} if key else state, path)
    return path


@pytest.mark.parametrize('layout', NAMES)
def test_names_of_other_libraries(layout: str, tmp_path: Path) -> None:
    expected = convert_weights(read_weights(save(tmp_path / 'timm.pth', timm_state())), 'learned', 3).state
    key = 'teacher' if layout == 'DINO' else 'state_dict'
    state = {f'module.{name}': value for name, value in renamed(layout).items()}
    weights = read_weights(save(tmp_path / 'other.pth', state, key))
    found = convert_weights(weights, 'learned', 3)
    found.report.check()
    assert found.report.layout == layout
    if layout in ('DINO', 'MoCo'):
        expected = {name: value for name, value in expected.items() if not name.startswith('head.')}
    assert set(found.state) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in found.state.items())
    report = load_pretrained(ResFormer(arch=ARCH), tmp_path / 'other.pth')
    assert report.layout == layout and not report.unexplained_missing


def test_torchvision(tmp_path: Path) -> None:
    """The converted weights compute what torchvision's model does."""
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(32, 8, 2, 3, 48, 96, num_classes=5).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    weights = read_weights(save(tmp_path / 'tv.pth', model.state_dict()))
    conversion = convert_weights(weights, 'learned', num_heads=3)
    conversion.report.check()
    config = conversion.architecture.backbone_config()
    del config['type']
    ours = ResFormer(**config).eval()
    ours.load_state_dict(
        {n.removeprefix('backbone.'): v for n, v in conversion.state.items() if n.startswith('backbone.')}
    )
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        (token,) = ours(image)
        logits = token @ conversion.state['head.fc.weight'].T + conversion.state['head.fc.bias']
        assert torch.allclose(logits, model(image), atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('layers.0.blocks.0.attn.relative_position_bias_table', 'a Swin'),
        ('backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table', 'a Swin'),
        ('blocks.0.attn.q_bias', 'a BEiT'),
        ('register_tokens', 'register tokens'),
        ('blocks.0.ls1.gamma', 'layer scale'),
        ('visual.ln_pre.weight', 'CLIP'),
        ('backbone.layer1.0.conv1.weight', 'a ResNet'),
    ],
)
def test_other_kinds_are_named(name: str, kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / 'other.pth', {**timm_state(), name: torch.ones(3)})
    with pytest.raises(CheckpointError, match=f'other.pth is .*{kind}.*not a plain ViT'):
        convert_weights(read_weights(path))
