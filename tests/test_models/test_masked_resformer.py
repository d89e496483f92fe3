"""Masked images: what is computed among visible patches is what whole attention computes with a mask."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.models import MaskedResFormer, ResFormer
from resformer_mm.models.layers import VisiblePatches, draw_visible

TINY = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
SIZES = [(32, 32), (24, 40), (20, 13)]


def build(kind: type = MaskedResFormer, seed: int = 0, **kwargs) -> nn.Module:
    torch.manual_seed(seed)
    model = kind(arch=TINY, patch_size=8, **kwargs)
    for name, parameter in model.named_parameters():
        if 'local_position' in name:  # zero at the start, which would hide mistakes
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def literal(model: nn.Module, image: Tensor, is_masked: Tensor) -> Tensor:
    """Class token and all patches ``(1 + N, C)`` of one image; those that are masked are never read."""
    tokens, (height, width) = model.patch_embed(image[None])
    tokens = tokens + model.global_position((height, width))
    tokens = torch.cat((model.cls_token, tokens), dim=1)[0]
    hidden = torch.cat((torch.tensor([False]), is_masked))
    heads, channels = 2, tokens.shape[1]
    for block in model.blocks:
        x = block.norm1(tokens)
        query, key, value = block.attn.qkv(x).chunk(3, dim=1)
        out = torch.empty_like(value)
        for head in range(heads):
            part = slice(head * channels // heads, (head + 1) * channels // heads)
            score = query[:, part] @ key[:, part].t() / (channels // heads) ** 0.5
            out[:, part] = score.masked_fill(hidden, -torch.inf).softmax(dim=1) @ value[:, part]
            kernel, bias = block.attn.local_position.conv.weight[:, 0], block.attn.local_position.conv.bias
            for row in range(height):
                for column in range(width):
                    term = bias.clone()
                    for i in (-1, 0, 1):
                        for j in (-1, 0, 1):
                            y, x_ = row + i, column + j
                            place = 1 + y * width + x_
                            if 0 <= y < height and 0 <= x_ < width and not hidden[place]:
                                term = term + kernel[:, i + 1, j + 1] * value[place, part]
                    out[1 + row * width + column, part] += term
        tokens = tokens + block.attn.proj(out)
        tokens = tokens + block.mlp(block.norm2(tokens))
    return model.norm(tokens)


@torch.no_grad()
@pytest.mark.parametrize('size', SIZES)
def test_visible_patches_are_those_of_whole_attention_with_a_mask(size: tuple[int, int]) -> None:
    model = build(mask_ratio=0.6)
    images = torch.randn(3, 3, *size)
    latent, mask, places, grid = model.forward_masked(images)
    length = grid[0] * grid[1]
    kept = int(length * 0.4)
    assert latent.shape == (3, 1 + kept, 16) and mask.sum(dim=1).tolist() == [length - kept] * 3
    for number in range(3):
        expected = literal(model, images[number], mask[number].bool())
        torch.testing.assert_close(latent[number, 0], expected[0], rtol=0, atol=2e-6)
        for place in range(length):
            if not mask[number, place]:
                found = latent[number, 1 + places[number, place]]
                torch.testing.assert_close(found, expected[1 + place], rtol=0, atol=2e-6)


@torch.no_grad()
def test_masked_pixels_are_not_read() -> None:
    model = build()
    image = torch.randn(1, 3, 32, 32)
    torch.manual_seed(5)
    latent, mask, _, _ = model.forward_masked(image)
    hidden = mask.view(1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3).bool()
    torch.manual_seed(5)
    other, *_ = model.forward_masked(image.masked_fill(hidden, 100.0))
    torch.testing.assert_close(latent, other, rtol=0, atol=0)


@torch.no_grad()
def test_whole_images_are_those_of_a_resformer_with_the_same_weights() -> None:
    model, plain = build(), build(ResFormer, seed=1)
    plain.load_state_dict(model.state_dict())
    image = torch.randn(2, 3, 24, 32)
    torch.testing.assert_close(model(image)[0], plain(image)[0])


@torch.no_grad()
def test_registers_are_not_part_of_the_output() -> None:
    model = build(num_registers=3)
    latent, *_ = model.forward_masked(torch.randn(2, 3, 32, 32))
    assert latent.shape == (2, 1 + 4, 16)


def test_every_parameter_gets_a_gradient_and_checkpointing_changes_none() -> None:
    gradients = []
    for with_cp in (False, True):
        model = build(with_cp=with_cp).train()
        torch.manual_seed(0)
        latent, *_ = model.forward_masked(torch.randn(2, 3, 32, 32))
        latent.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other)


def test_stochastic_depth_of_kept_samples_alone() -> None:
    """The visible patches follow the samples that a block computes."""
    model = build(drop_path_rate=0.5, drop_path=dict(type='SubsetDropPath')).train()
    latent, *_ = model.forward_masked(torch.randn(8, 3, 32, 32))
    assert latent.isfinite().all()


def test_every_set_of_patches_is_drawn_as_often() -> None:
    torch.manual_seed(0)
    visible, places = draw_visible(6000, 4, 2, torch.device('cpu'))
    pairs = visible.indices.sort(dim=1).values
    counts = torch.bincount(4 * pairs[:, 0] + pairs[:, 1], minlength=16)
    assert counts[counts > 0].numel() == 6 and (counts[counts > 0] - 1000).abs().max() < 120
    assert torch.equal(places.gather(1, visible.indices), torch.arange(2).expand(6000, 2))


def test_scattered_patches_are_zero_elsewhere() -> None:
    visible = VisiblePatches(torch.tensor([[2, 0]]))
    tokens = torch.tensor([[[1.0], [2.0]]])
    assert visible.scatter(tokens, 4).flatten().tolist() == [2, 0, 1, 0]
    assert torch.equal(visible.gather(visible.scatter(tokens, 4)), tokens)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(mask_ratio=1.0), 'mask_ratio must be between 0 and 1'),
        (dict(window_size=2, window_block_indices=[0]), 'window_size=2 does not fit masked images'),
        (dict(with_cls_token=False, out_type='avg_featmap'), 'with_cls_token=True'),
        (dict(local_position=dict(type='AxialRotaryPosition')), 'has a bias or a rotation'),
        (dict(local_position=dict(type='RelativePositionBias', grid_size=4)), 'has a bias or a rotation'),
    ],
)
def test_errors(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**copy.deepcopy(kwargs))
