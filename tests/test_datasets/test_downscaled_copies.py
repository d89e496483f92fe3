"""Copies that share their random draws are downscaled pictures of the largest."""

from __future__ import annotations

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from resformer_mm.datasets.downscaled_copies import DownscaledCopies
from resformer_mm.datasets.multi_resolution import MultiResolution
from resformer_mm.datasets.samplers import ResolutionIndex

CROP = dict(type='resformer_mm.RandomResizedCrop', scale='{resolution}')
FLIP = dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal')
JITTER = dict(type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4)
ERASE = dict(
    type='mmpretrain.RandomErasing',
    erase_prob=1.0,
    mode='rand',
    min_area_ratio=0.2,
    max_area_ratio=0.3,
    fill_color=[128, 128, 128],
    fill_std=[40, 40, 40],
)


def picture(height: int = 120, width: int = 160) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def seeded(transform, results: dict, seed: int = 0) -> dict:
    random.seed(seed)
    np.random.seed(seed)
    return transform(results)


@pytest.mark.parametrize('seed', range(4))
def test_smaller_copies_are_shrunk_from_the_largest(seed: int) -> None:
    steps = [CROP, FLIP, JITTER]
    image = picture()
    results = seeded(DownscaledCopies([64, 48, 31], steps), dict(img=image), seed)
    alone = seeded(MultiResolution([64], steps), dict(img=image), seed)
    assert np.array_equal(results['img'][0], alone['img'][0])
    assert results['img_shape'][:2] == (64, 64) and results['flip'] == alone['flip']
    for side, copy in zip((48, 31), results['img'][1:], strict=True):
        expected = Image.fromarray(results['img'][0]).resize((side, side), Image.Resampling.BICUBIC)
        assert copy.shape == (side, side, 3) and copy.dtype == np.uint8
        assert np.abs(copy.astype(int) - np.asarray(expected)).max() <= 1
    assert np.array_equal(image, picture())


def test_copies_are_erased_on_their_own() -> None:
    plain = seeded(DownscaledCopies([64, 48], [CROP]), dict(img=picture()))
    results = seeded(DownscaledCopies([64, 48], [CROP], [ERASE]), dict(img=picture()))
    places = []
    for copy, untouched in zip(results['img'], plain['img'], strict=True):
        changed = (copy != untouched).any(axis=-1)
        assert 0.15 < changed.mean() < 0.35  # of every copy, so the largest was shrunk before it was erased
        assert 30 < copy[changed].std() < 50  # noise that shrinking would have averaged
        places.append(np.argwhere(changed).min(axis=0) / len(copy))
    assert np.abs(places[0] - places[1]).max() > 0.05


def test_one_resolution_per_batch() -> None:
    transform = DownscaledCopies([64, 48], [CROP, FLIP], [ERASE])
    results = seeded(transform, dict(img=picture(), sample_idx=ResolutionIndex(0, 48)))
    alone = seeded(MultiResolution([48], [CROP, FLIP, ERASE]), dict(img=picture()))
    assert [image.shape for image in results['img']] == [(48, 48, 3)]
    assert np.array_equal(results['img'][0], alone['img'][0])
    with pytest.raises(ValueError, match=r'drew resolution 40.*\[64, 48\] of DownscaledCopies'):
        transform(dict(img=picture(), sample_idx=ResolutionIndex(0, 40)))


def test_a_transform_that_gives_up_gives_the_sample_up(monkeypatch) -> None:
    transform = DownscaledCopies([64, 48], [CROP], [ERASE])
    monkeypatch.setattr(transform.copy_pipelines[48].transforms[0], 'transform', lambda results: None)
    assert transform(dict(img=picture())) is None
    transform = DownscaledCopies([64, 48], [CROP, FLIP])
    monkeypatch.setattr(transform.pipelines[64].transforms[1], 'transform', lambda results: None)
    assert transform(dict(img=picture())) is None


def test_it_is_built_by_name_and_checked_like_the_plain_copies(tmp_path: Path) -> None:
    transform = TRANSFORMS.build(
        dict(type='resformer_mm.DownscaledCopies', resolutions=[9, 8], transforms=[CROP])
    )
    assert isinstance(transform, MultiResolution) and 'DownscaledCopies' in repr(transform)
    with pytest.raises(ValueError, match='DownscaledCopies.resolutions .*high to low'):
        DownscaledCopies([8, 9], [CROP])
    with pytest.raises(ValueError, match='DownscaledCopies.transforms never use'):
        DownscaledCopies([9, 8], [FLIP])
    path = tmp_path / 'image.jpg'
    Image.fromarray(picture()).save(path, quality=95)
    opened = TRANSFORMS.build(dict(type='resformer_mm.OpenImage'))(dict(img_path=str(path)))
    assert [image.shape[0] for image in transform(opened)['img']] == [9, 8]
