"""One decoded image at several resolutions, and the evaluation crop."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import BaseTransform, Compose
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from resformer_mm.config.resolutions import check_resolutions, fill_resolution, pipeline_at_resolution
from resformer_mm.datasets.loading import LoadImage
from resformer_mm.datasets.multi_resolution import MultiResolution
from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.tasks.classification.folders import ImageFolder
from resformer_mm.tasks.classification.resize_center_crop import ResizeCenterCrop

CROP = dict(type='mmpretrain.RandomResizedCrop', scale='{resolution}', backend='pillow')
RESIZE = dict(type='mmpretrain.Resize', scale='{resolution}')


def picture(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).copy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ('a', 'b'):
        (tmp_path / label).mkdir()
        Image.fromarray(picture(seed=ord(label))).save(tmp_path / label / 'image.png')
    return tmp_path


def dataset(folder: Path, transforms: list[dict], resolutions=(64, 48, 32)) -> ImageFolder:
    pipeline = [
        dict(type='resformer_mm.LoadImage'),
        dict(type='resformer_mm.MultiResolution', resolutions=resolutions, transforms=transforms),
        dict(type='mmpretrain.PackInputs'),
    ]
    return ImageFolder(data_root=str(folder), pipeline=[TRANSFORMS.build(step) for step in pipeline])


def test_each_image_is_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = LoadImage.transform

    def counting(self, results):
        calls.append(results['img_path'])
        return plain(self, results)

    monkeypatch.setattr(LoadImage, 'transform', counting)
    data = dataset(folder, [CROP])
    for index in range(2):
        sample = data[index]
        assert [tuple(image.shape) for image in sample['inputs']] == [(3, 64, 64), (3, 48, 48), (3, 32, 32)]
        assert sample['data_samples'].gt_label.tolist() == [index]
        assert tuple(sample['data_samples'].img_shape[:2]) == (64, 64)
    assert len(calls) == 2


def test_every_copy_is_the_transform_at_its_resolution() -> None:
    image = picture()
    out = MultiResolution([64, 48, 32], [RESIZE])(dict(img=image.copy()))
    assert out['img_shape'] == (64, 64)
    for resolution, actual in zip((64, 48, 32), out['img']):
        expected = TRANSFORMS.build(dict(RESIZE, scale=resolution))(dict(img=image.copy()))['img']
        assert np.array_equal(actual, expected)


class Draw(BaseTransform):
    """Notes a random number, and spoils the pixels it was given."""

    seen: list[tuple[float, int]] = []

    def __init__(self, size: int) -> None:
        self.size = size

    def transform(self, results: dict) -> dict:
        self.seen.append((np.random.rand(), int(results['img'].sum())))
        results['img'][:] = 0
        return results


@pytest.fixture
def draw():
    TRANSFORMS.register_module(name='NotingDraw', module=Draw, force=True)
    Draw.seen = []
    yield Draw
    TRANSFORMS.module_dict.pop('NotingDraw')


def test_copies_are_independent(draw) -> None:
    """Each has its own random draws, and none sees what another did to its pixels."""
    image = picture()
    kept = image.copy()
    transform = MultiResolution([64, 48, 32], [dict(type='mmpretrain.NotingDraw', size='{resolution}')])
    transform(dict(img=image))
    numbers, sums = zip(*draw.seen)
    assert len(set(numbers)) == 3
    assert set(sums) == {int(kept.sum())} and np.array_equal(image, kept)


def test_crops_of_the_copies_differ() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = np.arange(64)
    np.random.seed(0)
    transform = MultiResolution([32, 31, 30], [dict(CROP, crop_ratio_range=(0.05, 0.3))])
    left_edges = {int(copy[..., 0].min()) for copy in transform(dict(img=image))['img']}
    assert len(left_edges) > 1


def test_one_resolution_per_batch(folder: Path) -> None:
    data = dataset(folder, [CROP])
    for resolution in (64, 48, 32):
        (image,) = data[ResolutionIndex(1, resolution)]['inputs']
        assert tuple(image.shape) == (3, resolution, resolution)
    with pytest.raises(ValueError, match=r'drew resolution 40.*\[64, 48, 32\].*same list'):
        data[ResolutionIndex(1, 40)]


def test_a_transform_that_gives_up_gives_the_sample_up(draw, monkeypatch) -> None:
    monkeypatch.setattr(draw, 'transform', lambda self, results: None)
    transform = MultiResolution([64, 48], [dict(type='mmpretrain.NotingDraw', size='{resolution}')])
    assert transform(dict(img=picture())) is None


BAD_RESOLUTIONS = [
    ([], 'is empty'),
    ([64, 0], 'contains 0'),
    ([64, -32], 'contains -32'),
    ([64, 32.0], 'contains 32.0'),
    ([64, True], 'contains True'),
    ([64, '32'], "contains '32'"),
    ([32, 64], r'must be listed high to low: \(64, 32\)'),
    ([64, 64], 'twice'),
    ('64', 'must be a list'),
    (64, 'must be a list'),
]


@pytest.mark.parametrize(('resolutions', 'message'), BAD_RESOLUTIONS, ids=str)
def test_bad_resolutions(resolutions, message: str) -> None:
    with pytest.raises(ValueError, match=f'MultiResolution.resolutions.*{message}'):
        MultiResolution(resolutions, [CROP])


def test_any_order_where_order_does_not_matter() -> None:
    assert check_resolutions((32, 64, 48), 'resolutions', descending=False) == [32, 64, 48]
    with pytest.raises(ValueError, match='resolutions .*twice'):
        check_resolutions((32, 64, 32), 'resolutions', descending=False)


def test_transforms_that_never_use_the_resolution() -> None:
    with pytest.raises(ValueError, match=r"never use '\{resolution\}'.*RandomResizedCrop"):
        MultiResolution([64, 48], [dict(CROP, scale=64)])


def test_the_placeholder_is_filled_at_any_depth_in_a_copy() -> None:
    config = [dict(type='A', scale='{resolution}'), dict(type='B', nested=[dict(size=('{resolution}', 3))])]
    kept = copy.deepcopy(config)
    filled = fill_resolution(config, 48)
    assert filled == [dict(type='A', scale=48), dict(type='B', nested=[dict(size=(48, 3))])]
    assert config == kept


# Evaluation


@pytest.mark.parametrize('resolution', [24, 48, 63, 96])
@pytest.mark.parametrize('size', [(70, 90), (90, 70), (64, 64), (51, 133), (133, 51), (20, 31)], ids=str)
def test_evaluation_crop_is_resize_and_centre_crop(size: tuple[int, int], resolution: int) -> None:
    image = picture(*size)
    actual = ResizeCenterCrop(resolution=resolution)(dict(img=image.copy()))['img']
    height, width = size
    short = int(resolution * 256 / 224)
    if height < width:
        new_height, new_width = short, int(short * width / height)
    else:
        new_height, new_width = int(short * height / width), short
    resized = np.asarray(Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BICUBIC))
    top, left = round((new_height - resolution) / 2), round((new_width - resolution) / 2)
    assert actual.shape == (resolution, resolution, 3)
    assert np.array_equal(actual, resized[top : top + resolution, left : left + resolution])


def test_the_short_side_of_the_usual_resolutions() -> None:
    """int(R * 256 / 224), in whole numbers, whatever rounding 224 / 256 brings."""
    for resolution in range(1, 1200):
        assert ResizeCenterCrop(resolution).pipeline.transforms[0].scale == resolution * 256 // 224


def test_other_crops_and_interpolations() -> None:
    image = picture()
    whole = ResizeCenterCrop(35, crop_pct=1.0, interpolation='bilinear')(dict(img=image.copy()))['img']
    resized = np.asarray(Image.fromarray(image).resize((45, 35), Image.Resampling.BILINEAR))
    assert np.array_equal(whole, resized[:, 5:40])


@pytest.mark.parametrize('kwargs', [dict(resolution=0), dict(resolution=-3), dict(resolution='{resolution}')])
def test_bad_evaluation_resolution(kwargs: dict) -> None:
    with pytest.raises(ValueError, match='ResizeCenterCrop.resolution'):
        ResizeCenterCrop(**kwargs)


@pytest.mark.parametrize('crop_pct', [0, -0.5, 1.1])
def test_bad_crop_pct(crop_pct: float) -> None:
    with pytest.raises(ValueError, match=f'crop_pct.*{crop_pct}'):
        ResizeCenterCrop(64, crop_pct=crop_pct)


def test_a_pipeline_at_another_resolution() -> None:
    pipeline = [
        dict(type='resformer_mm.LoadImage'),
        dict(type='resformer_mm.ResizeCenterCrop', resolution=64, crop_pct=1.0),
        dict(type='mmpretrain.PackInputs'),
    ]
    kept = copy.deepcopy(pipeline)
    other = pipeline_at_resolution(pipeline, 96)
    assert other == [pipeline[0], dict(pipeline[1], resolution=96), pipeline[2]]
    assert pipeline == kept
    assert Compose([TRANSFORMS.build(other[1])])(dict(img=picture()))['img'].shape == (96, 96, 3)


def test_a_nested_pipeline_at_another_resolution() -> None:
    crop = dict(type='resformer_mm.ResizeCenterCrop', resolution=64)
    views = [[crop], [dict(type='RandomFlip', prob=1.0)], [dict(type='PackInputs')]]
    nested = [dict(type='LoadImage'), dict(type='TestTimeAug', transforms=views)]
    other = pipeline_at_resolution(nested, 32)
    assert other[1]['transforms'][0] == [dict(crop, resolution=32)]
    assert other[1]['transforms'][1:] == views[1:]


def test_a_pipeline_without_a_resolution() -> None:
    pipeline = [dict(type='LoadImage'), dict(type='RandomFlip', prob=0.5), dict(meta=dict(resolution=64))]
    with pytest.raises(ValueError, match='`resolution` field.*ResizeCenterCrop'):
        pipeline_at_resolution(pipeline, 96)
