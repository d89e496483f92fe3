"""Segmentors whose backbone merges tokens, before all blocks or between them."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import nn

register_all_modules(init_default_scope=False)
CLASSES, PATCH = 4, 8


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def build(kind: str, **merger) -> nn.Module:
    torch.manual_seed(0)
    head = dict(channels=16, num_classes=CLASSES, norm_cfg=dict(type='BN'), align_corners=False)
    return MODELS.build(
        dict(
            type=kind,
            data_preprocessor=dict(
                type='resformer_mm.MultiResolutionSegDataPreprocessor'
                if kind.startswith('resformer_mm')
                else 'SegDataPreProcessor',
                mean=[100.0] * 3,
                std=[50.0] * 3,
                size=(64, 64),
                **(dict(resolutions=(64, 40)) if kind.startswith('resformer_mm') else {}),
            ),
            backbone=dict(
                type='resformer_mm.ResFormer',
                arch=dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48),
                patch_size=PATCH,
                out_indices=(0, 1, 2),
                out_type='featmap',
                final_norm=False,
                token_merger=dict(type='StridedTokenMerger', **merger),
            ),
            # A head that takes maps of several strides: it resizes them to the first.
            decode_head=dict(
                type='UPerHead', in_channels=[24] * 3, in_index=[0, 1, 2], pool_scales=(1, 2), **head
            ),
            test_cfg=ConfigDict(mode='whole'),
        )
    )


def batch(height: int, width: int) -> dict:
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)] * 2
    metainfo = dict(img_shape=(height, width), ori_shape=(height, width))
    labels = torch.randint(0, CLASSES, (1, height, width), generator=generator)
    samples = [SegDataSample(metainfo=metainfo, gt_sem_seg=PixelData(data=labels)) for _ in range(2)]
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize('kind', ['EncoderDecoder', 'resformer_mm.MultiResolutionSegmentor'])
@pytest.mark.parametrize('index', [0, 1, 2])
def test_a_training_step_and_a_prediction(kind: str, index: int) -> None:
    model = build(kind, factor=2, index=index).train()
    data = model.data_preprocessor(batch(64, 64), training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or 'token_merger' not in name, name
    model.eval()
    maps = model.backbone(torch.randn(1, 3, 56, 88))
    assert [tuple(one.shape[2:]) for one in maps] == [(7, 11)] * index + [(4, 6)] * (3 - index)
    with torch.no_grad():
        (first, _) = model.test_step(batch(56, 88))
    assert first.pred_sem_seg.data.shape == (1, 56, 88)
