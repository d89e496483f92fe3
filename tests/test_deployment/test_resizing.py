"""What a file says of the resizing in evaluation: the examples' client against the transforms themselves."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS
from PIL import Image
from runs import ROOT

from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.deployment.resizing import resizing


def client():
    spec = importlib.util.spec_from_file_location('onnx_images', ROOT / 'examples' / 'onnx_images.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(scope: str, *steps: dict) -> dict:
    pipeline = [dict(type='LoadImageFromFile'), *steps, dict(type='PackInputs')]
    return dict(default_scope=scope, test_dataloader=dict(dataset=dict(pipeline=pipeline)))


PIPELINES = {
    'mmpretrain, centre': [
        dict(type='mmpretrain.ResizeEdge', scale=29),
        dict(type='mmpretrain.CenterCrop', crop_size=24),
    ],
    'paper': [dict(type='resformer_mm.ResizeCenterCrop', resolution=28)],
    'exact size': [dict(type='mmcv.Resize', scale=(40, 24))],
    'one number': [dict(type='mmcv.Resize', scale=31)],
    'fit': [dict(type='mmcv.Resize', scale=(80, 32), keep_ratio=True)],
    'long side': [dict(type='mmseg.Resize', scale=(50, 320), keep_ratio=True)],
    'factor': [dict(type='mmseg.Resize', scale_factor=1.3, keep_ratio=True)],
    'enlarged': [dict(type='mmdet.Resize', scale=(300, 200), keep_ratio=True)],
    'native': [],
}


@pytest.mark.parametrize('size', [(64, 48), (47, 63), (33, 90)])
@pytest.mark.parametrize('name', PIPELINES)
def test_the_client_prepares_images_as_the_pipeline(name: str, size: tuple[int, int]) -> None:
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmseg')
    pytest.importorskip('mmdet')
    steps = PIPELINES[name]
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 4 % 256, columns * 3 % 256, (rows + columns) % 256], -1).astype(np.uint8)
    results = dict(img=pixels.copy(), img_shape=(height, width), ori_shape=(height, width))
    expected = Compose([TRANSFORMS.build(step) for step in steps])(results)['img']
    found = resizing(config('mmseg', *steps))
    module = client()
    (image,) = module.prepare(Image.fromarray(pixels), {'resizing': json.dumps(found)})
    assert image.size == expected.shape[1::-1]
    difference = np.abs(np.asarray(image).astype(int) - expected.astype(int))
    assert difference.max() <= 2 and difference.mean() < 0.6
    array = module.as_array([image])
    assert array.shape == (1, 3, *expected.shape[:2]) and array.dtype == np.float32


@pytest.mark.parametrize('size', [(64, 48), (47, 63)])
@pytest.mark.parametrize('crop', ['ThreeCrop', 'CenterCrop'])
def test_frames_of_clips(crop: str, size: tuple[int, int]) -> None:
    pytest.importorskip('mmaction')
    steps = [dict(type='mmaction.Resize', scale=(-1, 24)), dict(type=f'mmaction.{crop}', crop_size=24)]
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    results = dict(imgs=[pixels], img_shape=(height, width), modality='RGB')
    expected = Compose([TRANSFORMS.build(step) for step in steps])(results)['imgs']
    found = resizing(config('mmaction', *steps))
    images = client().prepare(Image.fromarray(pixels), {'resizing': json.dumps(found)})
    assert len(images) == len(expected) == (3 if crop == 'ThreeCrop' else 1)
    for image, wanted in zip(images, expected):
        assert np.abs(np.asarray(image).astype(int) - wanted.astype(int)).max() <= 2


def test_what_is_not_known_is_not_told() -> None:
    assert resizing(dict()) is None
    assert resizing(config('mmseg', dict(type='RandomResize', scale=(64, 64)))) is None
    assert resizing(config('mmpretrain', dict(type='ResizeEdge', scale=32, edge='long'))) is None
    assert resizing(config('mmpretrain', dict(type='CenterCrop', crop_size=32, auto_pad=True))) is None
    assert resizing(config('mmdet', dict(type='Pad', size=(64, 64)))) is None


@pytest.mark.parametrize(
    ('path', 'steps'),
    [
        ('segmentation/resformer-mini_upernet_1xb8-900_mini.py', [{'short': 128, 'long': 512}]),
        ('segmentation/resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-native.py', []),
        ('video/resformer-mini_40_divST_1xb16-4x6x1-13e_mini.py', [{'short': 40, 'long': None}, [40, 40]]),
        ('detection/resformer-mini_64_mask-rcnn_1xb8-8e_mini.py', None),
    ],
)
def test_configs_of_the_project(path: str, steps: list | None) -> None:
    cfg = read_config(ROOT / 'configs' / path)
    enter_scope(cfg)
    found = resizing(cfg)
    assert found is not None
    if steps is not None:
        assert [step.get('resize', step.get('crop')) for step in found] == steps
