"""Detectors have patches of one size, that of their strides."""

from __future__ import annotations

import pytest
import torch
from detection_models import MASK_RCNN, read, tiny

from resformer_mm.config.patches import set_patches


@pytest.mark.parametrize('settings', [dict(patch_size=8), dict(patch_sizes=[8, 16]), dict(tokens=64)])
def test_patches_of_another_size_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match='the strides of the neck'):
        tiny(patch_embed=dict(type='FlexiblePatchEmbed', **settings))


def test_patches_of_the_same_size_are_those_of_the_plain_detector() -> None:
    plain, flexible = tiny(), tiny(patch_embed=dict(type='FlexiblePatchEmbed'))
    flexible.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(flexible.extract_feat(image), plain.extract_feat(image))


def test_the_option_is_refused() -> None:
    cfg = read(MASK_RCNN)
    with pytest.raises(ValueError, match='--patch-size does not apply to detectors'):
        set_patches(cfg, patch_size=8)
    assert cfg.model.backbone.get('patch_embed') is None
