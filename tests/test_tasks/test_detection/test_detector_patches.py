"""Detectors have patches of one size, that of their strides."""

from __future__ import annotations

import pytest
import torch
from detection_models import MASK_RCNN, read, shrink, tiny

from resformer_mm.apis import load_model
from resformer_mm.config.patches import set_patches


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(patch_size=8), 'the patch size gives a map of stride 8'),
        (dict(patch_sizes=[8, 16]), 'draws the size of the patches'),
        (dict(tokens=64), 'tokens=64'),
    ],
)
def test_patches_of_another_size_than_the_strides_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny(patch_embed=dict(type='FlexiblePatchEmbed', **settings))


def test_patches_of_the_strides() -> None:
    plain, flexible = tiny(), tiny(patch_embed=dict(type='FlexiblePatchEmbed'))
    flexible.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(flexible.extract_feat(image), plain.extract_feat(image))
    cfg = shrink(read(MASK_RCNN), patch_embed=dict(type='FlexiblePatchEmbed', patch_size=8))
    cfg.model.neck.scale_factors = (2, 1, 0.5, 0.25)
    levels = load_model(cfg, device='cpu').extract_feat(image)
    assert [level.shape[2:] for level in levels] == [level.shape[2:] for level in plain.extract_feat(image)]


def test_another_neck_is_refused() -> None:
    cfg = shrink(read(MASK_RCNN), patch_embed=dict(type='FlexiblePatchEmbed', patch_size=8))
    cfg.model.neck = dict(type='ChannelMapper', in_channels=[24], out_channels=16, num_outs=5)
    with pytest.raises(ValueError, match='the strides of the neck are those of the kernel'):
        load_model(cfg, device='cpu')


def test_the_option_is_refused() -> None:
    cfg = read(MASK_RCNN)
    with pytest.raises(ValueError, match='--patch-size does not apply to detectors'):
        set_patches(cfg, patch_size=8)
    assert cfg.model.backbone.get('patch_embed') is None
