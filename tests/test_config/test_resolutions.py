"""Evaluation pipelines of the other libraries at another resolution; what their own transforms then do."""

from __future__ import annotations

import copy

import mmpretrain.datasets  # noqa: F401
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import DefaultScope

from resformer_mm.config.resolutions import pipeline_at_resolution, short_side


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def resized(pipeline: list[dict], height: int, width: int) -> tuple[int, int]:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    return Compose(pipeline)(dict(img=image, img_shape=(height, width)))['img'].shape[:2]


@pytest.mark.parametrize('resolution', [96, 224, 300])
def test_a_resize_and_crop_keep_their_proportion(resolution: int) -> None:
    pipeline = [
        dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
        dict(type='mmpretrain.CenterCrop', crop_size=224),
    ]
    kept = copy.deepcopy(pipeline)
    other = pipeline_at_resolution(pipeline, resolution)
    assert other[0]['scale'] == round(resolution * 256 / 224)
    assert resized(other, 500, 400) == (resolution, resolution)
    assert pipeline == kept


@pytest.mark.parametrize(('resolution', 'size'), [(128, (128, 256)), (512, (512, 1024)), (700, (700, 1400))])
def test_a_resize_that_keeps_the_aspect_gives_the_short_side(resolution: int, size: tuple) -> None:
    pipeline = [dict(type='Resize', scale=(2048, 512), keep_ratio=True)]
    assert resized(pipeline_at_resolution(pipeline, resolution), 300, 600) == size


def test_sides_left_open_stay_open() -> None:
    pipeline = [dict(type='Resize', scale=(-1, 256)), dict(type='ThreeCrop', crop_size=256)]
    assert [t.get('scale', t.get('crop_size')) for t in pipeline_at_resolution(pipeline, 128)] == [
        (-1, 128),
        128,
    ]
    pipeline = [dict(type='Resize', scale=(float('inf'), 512), keep_ratio=True)]
    assert pipeline_at_resolution(pipeline, 64)[0]['scale'] == (float('inf'), 64)


def test_a_resolution_field_comes_before_sizes() -> None:
    pipeline = [
        dict(type='Resize', scale=512),
        dict(type='resformer_mm.ResizeCenterCrop', resolution=64),
    ]
    other = pipeline_at_resolution(pipeline, 32)
    assert [other[0]['scale'], other[1]['resolution']] == [512, 32]


def test_nested_transforms_and_padding_follow() -> None:
    views = [[dict(type='Resize', scale=(1333, 800), keep_ratio=True)], [dict(type='Pad', size=(1333, 800))]]
    other = pipeline_at_resolution([dict(type='TestTimeAug', transforms=views)], 400)[0]['transforms']
    assert other == [
        [dict(type='Resize', scale=(666, 400), keep_ratio=True)],
        [dict(type='Pad', size=(666, 400))],
    ]


def test_sizes_of_other_transforms_are_left_alone() -> None:
    pipeline = [
        dict(type='Resize', scale=64),
        dict(type='Pad', size_divisor=32),
        dict(type='Jitter', scale=3),
    ]
    assert pipeline_at_resolution(pipeline, 32) == [dict(pipeline[0], scale=32), *pipeline[1:]]


@pytest.mark.parametrize('resolution', [0, -64, 1.5, True])
def test_bad_resolutions(resolution) -> None:
    with pytest.raises(ValueError, match='resolution'):
        pipeline_at_resolution([dict(type='Resize', scale=64)], resolution)


def test_short_side() -> None:
    assert [short_side(7), short_side((9, 5)), short_side([-1, 256])] == [7, 5, 256]
