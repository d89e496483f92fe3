"""A ViT of timm, converted with its position table, computes the same here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.checkpoints import convert_weights, load_pretrained, read_weights, reverse_weights
from resformer_mm.checkpoints.conversion import convert_file, write_checkpoint
from resformer_mm.registry import MODELS

timm = pytest.importorskip('timm')


@pytest.fixture(scope='module')
def vit() -> nn.Module:
    """timm's tiny ViT with random numbers in every parameter."""
    torch.manual_seed(0)
    model = timm.create_model('vit_tiny_patch16_224', pretrained=False, num_classes=10).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope='module')
def source(vit: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('timm') / 'vit.pth'
    torch.save(vit.state_dict(), path)
    return path


def image(height: int = 224, width: int = 224) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def classifier(config: dict) -> nn.Module:
    model = nn.Module()
    model.backbone = MODELS.build(dict(config, out_type='raw'))
    model.head = nn.Module()
    model.head.fc = nn.Linear(model.backbone.embed_dims, 10)
    return model.eval()


@pytest.mark.parametrize('converted', [False, True])
def test_same_tokens_and_logits(vit: nn.Module, source: Path, tmp_path: Path, converted: bool) -> None:
    conversion, content = convert_file(source, tmp_path / 'ours.pth', position='learned')
    write_checkpoint(content, tmp_path / 'ours.pth')
    assert conversion.architecture.arch == 'tiny'
    model = classifier(conversion.architecture.backbone_config())
    report = load_pretrained(model, tmp_path / 'ours.pth' if converted else source)
    assert not report.missing and not report.unexpected
    with torch.no_grad():
        (tokens,) = model.backbone(image())
        logits = model.head.fc(tokens[:, 0])
        torch.testing.assert_close(tokens, vit.forward_features(image()), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits, vit(image()), rtol=1e-5, atol=1e-5)


def test_same_tokens_without_positions(vit: nn.Module, source: Path) -> None:
    """As an initialisation of ResFormer: alike but for what the positions add, any size."""
    import copy

    model = classifier(dict(type='ResFormer', arch='tiny'))
    load_pretrained(model, source)
    bare = copy.deepcopy(vit)
    with torch.no_grad():
        gpe = model.backbone.global_position((14, 14))
        bare.pos_embed.copy_(torch.cat((torch.zeros(1, 1, 192), gpe), dim=1))
        (tokens,) = model.backbone(image())
        torch.testing.assert_close(tokens, bare.forward_features(image()), rtol=1e-5, atol=1e-5)


def test_round_trip_is_bit_for_bit(vit: nn.Module, source: Path) -> None:
    weights = read_weights(source)
    conversion = convert_weights(weights, position='learned')
    weights.state = conversion.state
    back = reverse_weights(weights).state
    assert list(back) == list(vit.state_dict())
    assert all(torch.equal(value, back[name]) for name, value in vit.state_dict().items())
