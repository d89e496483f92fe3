"""The chain of inputs against forward passes that are written out, and losses by cause."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.analysis.size_causes import (
    CAUSES,
    CHAIN,
    CentrePositions,
    ChainOfInputs,
    enlarged,
    loss_by_cause,
)
from resformer_mm.models import ResFormer

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16)
PATCH = 4


def backbone_of(**kwargs) -> ResFormer:
    torch.manual_seed(0)
    backbone = ResFormer(ARCH, patch_size=PATCH, **kwargs).eval()
    for parameter in backbone.parameters():  # position modules that start at zero
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return backbone


def chain_of(backbone: ResFormer) -> ChainOfInputs:
    return ChainOfInputs(
        backbone, lambda images: images.float() / 100 - 1, lambda inputs: backbone(inputs)[0]
    )


def images(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def literal(backbone: ResFormer, tokens: Tensor, grid: tuple[int, int], position: Tensor) -> Tensor:
    """Class token of patch tokens ``(B, H * W, C)`` and their positions."""
    tokens = torch.cat((backbone.cls_token.expand(len(tokens), -1, -1), tokens + position), 1)
    for block in backbone.blocks:
        tokens = block(tokens, grid)
    return backbone.norm(tokens)[:, 0]


@pytest.mark.parametrize('sides', [(8, 20), (10, 19), (12, 12)])  # whole patches, parts of them, equal sizes
def test_inputs_are_those_written_out(sides: tuple[int, int]) -> None:
    backbone = backbone_of()
    small, large = images(sides[0], sides[0]), images(sides[1], sides[1])
    found = chain_of(backbone).logits(small, large)
    low, high = small.float() / 100 - 1, large.float() / 100 - 1
    n, m = (-(-side // PATCH) for side in sides)
    start = (m - n) // 2
    with torch.no_grad():
        torch.testing.assert_close(found['small'], backbone(low)[0])
        torch.testing.assert_close(found['large'], backbone(high)[0])
        torch.testing.assert_close(found['enlarged'], backbone(enlarged(small, (sides[1],) * 2) / 100 - 1)[0])
        positions = backbone.global_position((m, m)).view(1, m, m, -1)
        inner = positions[:, start : start + n, start : start + n].reshape(1, n * n, -1)
        tokens, grid = backbone.patch_embed(low)
        torch.testing.assert_close(found['placed'], literal(backbone, tokens, (n, n), inner))
        # Every patch of the grid around the image is one of zeros.
        canvas = torch.zeros(2, 3, PATCH * m, PATCH * m)
        top = PATCH * start
        canvas[:, :, top : top + sides[0], top : top + sides[0]] = low
        tokens, _ = backbone.patch_embed(canvas)
        position = positions.view(1, m * m, -1)
        torch.testing.assert_close(found['padded'], literal(backbone, tokens, (m, m), position))
    if sides[0] < sides[1]:
        assert min((found[a] - found[b]).abs().max() for a, b in zip(CHAIN, CHAIN[1:])) > 1e-3


@pytest.mark.parametrize('flexible', [False, True])
def test_kernels_are_those_of_flexible_patches(flexible: bool) -> None:
    settings = dict(patch_embed=dict(type='FlexiblePatchEmbed')) if flexible else {}
    backbone = backbone_of(**settings)
    small, large = images(8, 8), images(16, 16)
    other = backbone_of(patch_embed=dict(type='FlexiblePatchEmbed', patch_size=2))
    other.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        expected = other(small.float() / 100 - 1)[0]
    torch.testing.assert_close(chain_of(backbone).logits(small, large)['kernels'], expected)
    # 12 pixels have the tokens of 16 with patches of 3; 10 pixels would need 2.5.
    assert 'kernels' in chain_of(backbone).logits(images(12, 12), large)
    assert 'kernels' not in chain_of(backbone).logits(images(10, 10), large)


def test_the_model_is_the_same_afterwards() -> None:
    backbone = backbone_of()
    modules, before = dict(backbone.named_modules()), backbone(images(16, 16).float())[0]
    chain_of(backbone).logits(images(8, 8), images(16, 16))
    assert dict(backbone.named_modules()) == modules
    torch.testing.assert_close(backbone(images(16, 16).float())[0], before, rtol=0, atol=0)
    with pytest.raises(ValueError, match='does not fit'):
        chain_of(backbone).logits(images(16, 16), images(8, 8))
    assert dict(backbone.named_modules()) == modules


def test_without_position_embedding_places_change_nothing() -> None:
    backbone = backbone_of(global_position=dict(type='NoGlobalPosition'))
    found = chain_of(backbone).logits(images(8, 8), images(16, 16))
    torch.testing.assert_close(found['placed'], found['small'], rtol=0, atol=0)
    table = backbone_of(global_position=dict(type='LearnedPositionEmbedding', grid_size=4))
    inner = CentrePositions(table.global_position, (4, 4))
    torch.testing.assert_close(inner.cls_token_embedding(), table.global_position.cls_token_embedding())


def test_models_without_places_are_refused() -> None:
    with pytest.raises(ValueError, match='token_merger=None'):
        chain_of(backbone_of(token_merger=dict(type='TokenMerger', grid=2)))
    flexible = backbone_of(patch_embed=dict(type='FlexiblePatchEmbed', tokens=4))
    with pytest.raises(ValueError, match='patches of one size'):
        chain_of(flexible).logits(images(8, 8), images(16, 16))


@pytest.mark.parametrize('falls_to_small', [True, False])
def test_causes_add_up_to_the_loss(falls_to_small: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    right = {state: torch.rand(50, generator=generator) < 0.5 for state in CHAIN}
    losses = loss_by_cause(right, falls_to_small)
    assert tuple(losses) == CAUSES
    ends = [100 * right[state].double().mean().item() for state in ('large', 'small')]
    expected = ends[0] - ends[1] if falls_to_small else ends[1] - ends[0]
    assert sum(points for points, _ in losses.values()) == pytest.approx(expected)
    # The detail is what large images have more; its error is that of a mean of paired differences.
    sign = 1 if falls_to_small else -1
    pairs = zip(right['large'].tolist(), right['enlarged'].tolist())
    differences = [100 * sign * (a - b) for a, b in pairs]
    mean = sum(differences) / 50
    error = (sum((value - mean) ** 2 for value in differences) / 49 / 50) ** 0.5
    assert losses['detail'] == pytest.approx((mean, error))
