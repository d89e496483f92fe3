"""Patch sizes of configs."""

from __future__ import annotations

import pytest
import small_models
from mmengine.config import Config

from resformer_mm.config.patches import set_patches


@pytest.mark.parametrize('task', ['classifier', 'segmentor', 'recognizer'])
def test_a_plain_backbone_becomes_flexible(task: str) -> None:
    cfg = getattr(small_models, task)()
    set_patches(cfg)
    assert 'patch_embed' not in cfg.model.backbone
    set_patches(cfg, patch_size=8)
    assert cfg.model.backbone.patch_embed == dict(type='FlexiblePatchEmbed', patch_size=8)
    set_patches(cfg, tokens=64)
    assert cfg.model.backbone.patch_embed == dict(type='FlexiblePatchEmbed', tokens=64)


def test_a_flexible_backbone_keeps_its_kernels() -> None:
    cfg = small_models.classifier()
    cfg.model.backbone.patch_embed = dict(type='MultiKernelPatchEmbed', kernel_sizes=[4], tokens=16)
    cfg.model = dict(type='AverageClsScoreTTA', module=cfg.model)
    set_patches(cfg, patch_size=8)
    expected = dict(type='MultiKernelPatchEmbed', kernel_sizes=[4], patch_size=8)
    assert cfg.model.module.backbone.patch_embed == expected


def test_other_backbones_are_refused() -> None:
    cfg = small_models.classifier()
    cfg.model.backbone = dict(type='VisionTransformer', arch='deit-small')
    with pytest.raises(
        ValueError, match='--tokens needs a ResFormer, but model.backbone is VisionTransformer'
    ):
        set_patches(cfg, tokens=16)
    with pytest.raises(ValueError, match='give one of them'):
        set_patches(Config(), patch_size=4, tokens=16)
