"""Masked autoencoders of any size: against mmpretrain's for squares, and their sum over resolutions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmpretrain.models import MAEPretrainDecoder, MAEPretrainHead
from torch import Tensor, nn

from resformer_mm.models import ResFormer
from resformer_mm.models.layers import sinusoid_map
from resformer_mm.registry import MODELS

TINY = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
DECODER = dict(patch_size=8, embed_dim=16, decoder_embed_dim=24, decoder_depth=2, decoder_num_heads=2)
LOSS = dict(type='PixelReconstructionLoss', criterion='L2')


def build(seed: int = 0, **kwargs) -> nn.Module:
    torch.manual_seed(seed)
    config = dict(
        type='resformer_mm.MultiResolutionMAE',
        backbone=dict(type='resformer_mm.MaskedResFormer', arch=TINY, patch_size=8, mask_ratio=0.5),
        neck=dict(type='resformer_mm.AnySizeMAEDecoder', **DECODER),
        head=dict(type='resformer_mm.AnySizeMAEHead', norm_pix=True, patch_size=8, loss=LOSS),
    )
    model = MODELS.build({**config, **kwargs})
    model.init_weights()
    return model


def images(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_the_decoder_is_that_of_mmpretrain_for_squares() -> None:
    decoder = build().neck.eval()
    upstream = MAEPretrainDecoder(num_patches=16, **DECODER).eval()
    table = torch.cat((torch.zeros(1, 1, 24), sinusoid_map(24, (4, 4)).flatten(2).transpose(1, 2)), dim=1)
    upstream.load_state_dict({**decoder.state_dict(), 'decoder_pos_embed': table})
    places = torch.rand(2, 16).argsort(dim=1)
    latent = torch.randn(2, 1 + 6, 16)
    torch.testing.assert_close(decoder(latent, places, (4, 4)), upstream(latent, places))


def test_patches_are_those_of_mmpretrain_for_squares_and_are_put_together_again() -> None:
    head = build().head
    upstream = MAEPretrainHead(loss=LOSS, norm_pix=True, patch_size=8)
    square = images(32, 32)
    torch.testing.assert_close(head.patchify(square), upstream.patchify(square), rtol=0, atol=0)
    torch.testing.assert_close(head.unpatchify(head.patchify(square)), square, rtol=0, atol=0)
    wide = images(16, 40)
    torch.testing.assert_close(head.unpatchify(head.patchify(wide), (2, 5)), wide, rtol=0, atol=0)


def test_images_are_padded_as_the_backbone_pads_them() -> None:
    head = build().head
    odd = images(13, 20)
    padded = torch.zeros(2, 3, 16, 24)
    padded[:, :, :13, :20] = odd
    torch.testing.assert_close(head.patchify(odd), head.patchify(padded), rtol=0, atol=0)


@pytest.mark.parametrize('size', [(32, 32), (24, 40)])
def test_the_loss_is_the_error_of_the_normalised_masked_patches(size: tuple[int, int]) -> None:
    model, batch = build(), images(*size)
    torch.manual_seed(7)
    losses = model.loss(batch)
    torch.manual_seed(7)
    latent, mask, places, grid = model.backbone.forward_masked(batch)
    predicted = model.neck(latent, places, grid)
    errors = []
    for number in range(2):
        for place in range(grid[0] * grid[1]):
            if mask[number, place]:
                top, left = 8 * (place // grid[1]), 8 * (place % grid[1])
                pixels = batch[number, :, top : top + 8, left : left + 8].permute(1, 2, 0).flatten()
                target = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
                errors.append((predicted[number, place] - target).square().mean())
    (value,) = losses.values()
    torch.testing.assert_close(value, torch.stack(errors).mean())


def test_several_resolutions_are_averaged_and_named() -> None:
    model, sizes = build(), (32, 24, 16)
    torch.manual_seed(7)
    losses = model.loss([images(size, size) for size in sizes])
    assert list(losses) == ['loss_32', 'loss_24', 'loss_16']
    torch.manual_seed(7)
    for size in sizes:  # one after the other, with the same draws
        (alone,) = model.loss(images(size, size)).values()
        torch.testing.assert_close(losses[f'loss_{size}'], alone / 3)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@torch.no_grad()
def test_features_are_those_of_whole_images() -> None:
    model = build().eval()
    torch.testing.assert_close(model(images(32, 32))[0], model.backbone(images(32, 32))[0])


@torch.no_grad()
def test_a_resformer_starts_from_a_checkpoint(tmp_path: Path) -> None:
    model = build(seed=4).eval()
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'mae.pth')
    init_cfg = dict(type='resformer_mm.PretrainedResFormer', checkpoint=str(tmp_path / 'mae.pth'))
    backbone = ResFormer(arch=TINY, patch_size=8, init_cfg=init_cfg).eval()
    backbone.init_weights()
    torch.testing.assert_close(backbone(images(24, 32))[0], model.backbone(images(24, 32))[0])


def test_errors() -> None:
    with pytest.raises(ValueError, match='of type ResFormer does not mask images'):
        build(backbone=dict(type='resformer_mm.ResFormer', arch=TINY, patch_size=8))
    with pytest.raises(ValueError, match='of type MAEPretrainDecoder decodes images of one size alone'):
        build(neck=dict(type='MAEPretrainDecoder', num_patches=16, **DECODER))
    with pytest.raises(ValueError, match='decoder_embed_dim must be a multiple of 4, got 22'):
        build(neck=dict(type='resformer_mm.AnySizeMAEDecoder', **dict(DECODER, decoder_embed_dim=22)))
