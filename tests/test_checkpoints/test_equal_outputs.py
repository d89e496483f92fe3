"""Converted weights compute what the ViTs of other libraries compute."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.checkpoints import Conversion, convert_weights, read_weights
from resformer_mm.models import ResFormer

SIZES = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96)
Outputs = Callable[[Tensor], Tensor]


def torchvision() -> tuple[nn.Module, Outputs]:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, 2, 3, 48, 96, num_classes=5)
    return model, model


def mmpretrain(name: str, **kwargs) -> tuple[nn.Module, Outputs]:
    from mmpretrain.models import backbones

    model = getattr(backbones, name)(SIZES, img_size=32, patch_size=8, out_type='raw', **kwargs)
    if name == 'DeiT3':  # its forward pass uses `ln1` in the place of `ln2`, unlike DeiT III
        for layer in model.layers:
            layer.ln2 = layer.ln1
    return model, lambda image: model(image)[-1]


def mmseg() -> tuple[nn.Module, Outputs]:
    from mmseg.models.backbones import VisionTransformer

    sizes = dict(img_size=32, patch_size=8, embed_dims=48, num_layers=2, num_heads=3, mlp_ratio=2)
    model = VisionTransformer(
        **sizes, output_cls_token=True, final_norm=True, norm_cfg=dict(type='LN', eps=1e-6)
    )

    def tokens(image: Tensor) -> Tensor:
        featmap, cls_token = model(image)[-1]
        return torch.cat((cls_token.unsqueeze(1), featmap.flatten(2).transpose(1, 2)), 1)

    return model, tokens


def timm(**kwargs) -> tuple[nn.Module, Outputs]:
    library = pytest.importorskip('timm.models.vision_transformer')
    sizes = dict(embed_dim=48, depth=2, num_heads=3, mlp_ratio=2, num_classes=5)
    model = library.VisionTransformer(32, 8, **sizes, **kwargs)
    return model, model


def eva() -> tuple[nn.Module, Outputs]:
    """A ViT as timm builds DINOv3, with biases of queries and values apart, but without rotary positions."""
    library = pytest.importorskip('timm.models.eva')
    sizes = dict(embed_dim=48, depth=2, num_heads=3, mlp_ratio=2, num_classes=5)
    kind = dict(qkv_bias=True, init_values=0.1, use_abs_pos_emb=True, global_pool='token', use_fc_norm=False)
    model = library.Eva(32, 8, **sizes, **kind)
    assert model.blocks[0].attn.q_bias is not None
    return model, model


def hugging_face(name: str, **kwargs) -> tuple[nn.Module, Outputs]:
    library = pytest.importorskip('transformers')
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=32, patch_size=8)
    config = getattr(library, f'{name}Config')(**sizes, layer_norm_eps=1e-6, **kwargs)
    model = getattr(library, f'{name}Model')(config)
    return model, lambda image: model(image).last_hidden_state


# Name -> function that makes the model, and what computes its logits or its tokens.
MODELS: dict[str, Callable] = {
    'torchvision': torchvision,
    'mmpretrain': lambda: mmpretrain('VisionTransformer'),
    'mmpretrain, layer scale': lambda: mmpretrain('VisionTransformer', layer_scale_init_value=0.1),
    'mmpretrain, patches alone': lambda: mmpretrain('VisionTransformer', with_cls_token=False),
    'mmpretrain, DeiT III': lambda: mmpretrain('DeiT3'),
    'mmseg': mmseg,
    'timm': timm,
    'timm, DeiT III': lambda: timm(init_values=0.1, no_embed_class=True),
    'timm, patches alone': lambda: timm(class_token=False, global_pool='avg', fc_norm=False),
    'timm, no bias': lambda: timm(qkv_bias=False),
    'timm, biases apart': eva,
    'Hugging Face': lambda: hugging_face('ViT', intermediate_size=96),
    'Hugging Face, DINOv2': lambda: hugging_face('Dinov2', mlp_ratio=2),
    'Hugging Face, I-JEPA': lambda: hugging_face('IJepa', intermediate_size=96),
}


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Give every parameter a value that matters, also those that start at zero or one."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        is_norm = re.search(r'(norm\w*|ln\w*)\.weight$', name)
        parameter.normal_(float(bool(is_norm)), 0.2, generator=generator)


def tokens_and_logits(conversion: Conversion, image: Tensor) -> tuple[Tensor, Tensor | None]:
    config = {**conversion.architecture.backbone_config(), 'out_type': 'raw'}
    del config['type']
    model = ResFormer(**config).eval()
    state, prefix = conversion.state, 'backbone.'
    model.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
    (tokens,) = model(image)
    if 'head.fc.weight' not in state:
        return tokens, None
    pooled = tokens[:, 0] if model.with_cls_token else tokens.mean(dim=1)
    return tokens, pooled @ state['head.fc.weight'].T + state['head.fc.bias']


@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=pytest.mark.operators(n)) if n == 'mmseg' else n for n in MODELS]
)
@torch.no_grad()
def test_same_outputs(name: str, tmp_path: Path) -> None:
    model, outputs = MODELS[name]()
    model.eval()
    randomise(model)
    prefix = 'backbone.' if name.startswith('mm') else ''
    torch.save({prefix + key: value for key, value in model.state_dict().items()}, tmp_path / 'a.pth')
    conversion = convert_weights(read_weights(tmp_path / 'a.pth'), 'learned', num_heads=3)
    conversion.report.check()
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    expected = outputs(image)
    tokens, logits = tokens_and_logits(conversion, image)
    found = tokens if logits is None else logits
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
