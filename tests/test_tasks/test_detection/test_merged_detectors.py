"""Detectors whose backbone merges tokens: maps of a larger stride, and heads that must expect it."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from detection_models import MASK_RCNN, losses, read, samples, shrink
from mmengine.config import Config
from torch import nn

from resformer_mm.apis import load_model
from resformer_mm.preflight.merged_strides import check_merged_strides

MERGER = dict(type='StridedTokenMerger', factor=2)
SCALES = [8, 4, 2, 1]  # of a map of stride 32: the strides of the config, 4 to 64
FCOS = MASK_RCNN.replace('mask-rcnn', 'fcos')


def config(name: str = MASK_RCNN, index: int = 0, scales: list | None = SCALES, **merger) -> Config:
    cfg = shrink(read(name), token_merger={**MERGER, 'index': index, **merger})
    if scales is not None:
        cfg.model.neck.scale_factors = scales if name == MASK_RCNN else [4, 2, 1]
    return cfg


def build(cfg: Config) -> nn.Module:
    torch.manual_seed(0)
    return load_model(cfg, device='cpu')


@pytest.mark.parametrize('index', [0, 1])
def test_levels_have_the_strides_of_the_heads(index: int) -> None:
    model = build(config(index=index))
    strides = [pair[0] for pair in model.rpn_head.prior_generator.strides]
    assert strides == model.neck.level_strides(32) == [4, 8, 16, 32, 64]
    with torch.no_grad():
        levels = model.extract_feat(torch.randn(1, 3, 160, 224))
    for level, stride in zip(levels, strides):
        assert level.shape[2:] == (math.ceil(160 / stride), math.ceil(224 / stride))


def test_an_object_is_where_its_map_says_it_is() -> None:
    """A change of pixels changes the levels at the places that their strides give to these pixels."""
    cfg = config(index=1)
    cfg.model.backbone.update(window_size=1, window_block_indices=(0, 1), local_position=None)
    model = build(cfg).double()
    image = torch.randn(1, 3, 160, 224, dtype=torch.float64)
    changed = image.clone()
    changed[:, :, 64:96, 128:160] += 1
    with torch.no_grad():
        for level, other, (stride, _) in zip(
            model.extract_feat(image), model.extract_feat(changed), model.rpn_head.prior_generator.strides
        ):
            differs = (level - other).abs().amax(dim=(0, 1)) > 1e-9
            rows, columns = (differs.any(dim=axis).nonzero().flatten() for axis in (1, 0))
            # The 3 x 3 convolution of a level reaches one position further.
            assert 64 // stride - 1 <= rows.min() <= rows.max() <= math.ceil(96 / stride)
            assert 128 // stride - 1 <= columns.min() <= columns.max() <= math.ceil(160 / stride)


@pytest.mark.parametrize(('name', 'index'), [(MASK_RCNN, 0), (MASK_RCNN, 1), (FCOS, 0)])
def test_detections_do_not_depend_on_batch_mates(name: str, index: int) -> None:
    cfg = config(name, index)
    for part in (cfg.model.test_cfg, *(cfg.model.test_cfg.get(stage) or {} for stage in ('rpn', 'rcnn'))):
        part.update({key: 0.0 for key in part if key == 'score_thr'})
    model = copy.deepcopy(build(cfg)).double()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    for size in ((50, 90), (96, 128)):  # 4 x 6 and 6 x 8 patches, next to 13 x 15
        batch = samples([size, (200, 230)], [0, 0])
        single = {key: value[:1] for key, value in batch.items()}
        with torch.no_grad():
            together, alone = (model.test_step(data)[0].pred_instances for data in (batch, single))
        assert len(together) == len(alone) > 5
        for key in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(together[key], alone[key], rtol=1e-6, atol=1e-6)


def test_a_training_step_reaches_every_parameter() -> None:
    model = build(config(index=1)).train()
    loss, _ = losses(model, samples([(50, 90), (70, 40)], [3, 2]))
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any() or not key.startswith('backbone'), key


def test_heads_of_other_strides_are_refused() -> None:
    with pytest.raises(ValueError, match=r'strides of model\.rpn_head is \[4.0.*\[8\.0, 16\.0.*stride 32'):
        build(config(scales=None))
    with pytest.raises(ValueError, match=r'strides of model\.bbox_head'):
        build(config(FCOS, scales=None))
    cfg = config()
    cfg.model.roi_head.mask_roi_extractor.featmap_strides = [8, 16, 32, 64]
    with pytest.raises(ValueError, match=r'mask_roi_extractor\.featmap_strides'):
        build(cfg)


def test_the_check_before_training_knows_detectors_of_mmdet() -> None:
    """Which do not compare the strides themselves."""
    for scales in (SCALES, None):
        cfg = config(scales=scales)
        cfg.model.type = 'mmdet.MaskRCNN'
        found = list(check_merged_strides(SimpleNamespace(cfg=cfg, model=build(cfg))))
        assert len(found) == (scales is None)
    assert found[0].path == 'model' and 'strides of model.rpn_head' in found[0].detail


def test_a_merger_whose_stride_varies_is_refused() -> None:
    cfg = shrink(read(MASK_RCNN), token_merger=dict(type='TokenMerger', grid=4))
    with pytest.raises(ValueError, match='StridedTokenMerger'):
        build(cfg)
