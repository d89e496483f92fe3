"""Crops, flips and colours are distributed as those of mmpretrain's pipeline, however images are decoded.

Every pixel of the image says where it is: blue grows along x, green along y. The corners of a copy therefore
tell its box. The samples have fixed seeds; the two-sample Kolmogorov-Smirnov test compares them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from scipy.stats import ks_2samp

from resformer_mm.registry import TRANSFORMS

HEIGHT, WIDTH = 420, 560
RESOLUTIONS = (40, 28, 20)
SAMPLES = 400
# One in ten thousand pairs of samples of one distribution differs as much; a hundred are compared.
LEVEL = 1e-4
CROP = dict(type='resformer_mm.RandomResizedCrop', scale='{resolution}')
FLIP = dict(type='RandomFlip', prob=0.5, direction='horizontal')
JITTER = dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4)
AUGMENT = dict(
    type='RandAugment',
    policies='timm_increasing',
    num_policies=2,
    total_level=10,
    magnitude_level=9,
    magnitude_std=0.5,
)


@pytest.fixture(scope='module')
def places(tmp_path_factory) -> str:
    """A JPEG file whose pixels say where they are."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    red = np.full_like(x, 100)
    pixels = np.stack([red, 20 + y * 200 / HEIGHT, 20 + x * 200 / WIDTH], axis=-1).round().astype(np.uint8)
    path = tmp_path_factory.mktemp('places') / 'places.jpg'
    Image.fromarray(pixels).save(path, quality=98, subsampling=0)
    return str(path)


def ours(copies: str, load: str, transforms: list[dict]) -> Compose:
    init_default_scope('mmpretrain')
    own = [
        dict(step, type=f'resformer_mm.{step["type"]}') if step in (AUGMENT, JITTER) else step
        for step in transforms
    ]
    settings = dict(type=f'resformer_mm.{copies}', resolutions=RESOLUTIONS, transforms=own)
    return Compose([TRANSFORMS.build(step) for step in (dict(type=f'resformer_mm.{load}'), settings)])


def theirs(transforms: list[dict], resolution: int) -> Compose:
    """mmpretrain's loading, crop and transforms, for one resolution."""
    init_default_scope('mmpretrain')
    crop = dict(type='RandomResizedCrop', scale=resolution, backend='pillow', interpolation='bicubic')
    return Compose([TRANSFORMS.build(step) for step in (dict(type='LoadImageFromFile'), crop, *transforms)])


def samples(pipeline: Compose, path: str, seed: int, number: int = SAMPLES) -> list[list[np.ndarray]]:
    """The copies of an image, time and again."""
    random.seed(seed)
    np.random.seed(seed)
    images = [pipeline(dict(img_path=path))['img'] for _ in range(number)]
    return [image if isinstance(image, list) else [image] for image in images]


def boxes(copies: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Area, aspect ratio, centre and flip of crops, from the places that their pixels tell."""
    found = []
    for copy in copies:
        side = len(copy)
        x, y = copy[..., 0].mean(axis=0) - 20, copy[..., 1].mean(axis=1) - 20
        # From the centres of the outer pixels, away from the edges, where bicubic filters differ.
        inner = side / (side - 5)
        width, height = (x[-3] - x[2]) * inner * WIDTH / 200, (y[-3] - y[2]) * inner * HEIGHT / 200
        centre = x.mean() / 200, y.mean() / 200
        found.append(
            (abs(width) * height / (WIDTH * HEIGHT), np.log(abs(width) / height), *centre, width < 0)
        )
    return dict(zip(('area', 'aspect', 'x', 'y', 'flipped'), np.array(found, float).T))


def colours(copies: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean and standard deviation of every channel of copies."""
    names = ('blue', 'green', 'red')
    pixels = np.stack([copy.reshape(-1, 3) for copy in copies]).astype(float)
    return {
        f'{kind} of {name}': values[:, channel]
        for kind, values in (('mean', pixels.mean(axis=1)), ('contrast', pixels.std(axis=1)))
        for channel, name in enumerate(names)
    }


def check_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    for name, values in one.items():
        assert ks_2samp(values, other[name]).pvalue > LEVEL, name


PIPELINES = [
    ('MultiResolution', 'LoadImage'),
    ('MultiResolution', 'OpenImage'),
    ('DownscaledCopies', 'OpenImage'),
]


@pytest.mark.parametrize(
    ('transforms', 'measure'),
    [([FLIP], boxes), ([FLIP, AUGMENT, JITTER], colours)],
    ids=['crops', 'colours'],
)
def test_every_pipeline_has_the_distribution_of_mmpretrain(
    transforms: list[dict], measure: Callable, places: str
) -> None:
    expected = {
        resolution: measure([copy for (copy,) in samples(theirs(transforms, resolution), places, seed)])
        for seed, resolution in enumerate(RESOLUTIONS)
    }
    for seed, (copies, load) in enumerate(PIPELINES):
        found = samples(ours(copies, load, [CROP, *transforms]), places, 10 + seed)
        for index, resolution in enumerate(RESOLUTIONS):
            check_same(measure([sample[index] for sample in found]), expected[resolution])


def test_copies_are_independent_unless_they_share_their_draws(places: str) -> None:
    for copies, shared in (('MultiResolution', False), ('DownscaledCopies', True)):
        found = samples(ours(copies, 'OpenImage', [CROP, FLIP]), places, 0)
        first, last = (boxes([sample[index] for sample in found]) for index in (0, -1))
        for name, values in first.items():
            correlation = np.corrcoef(values, last[name])[0, 1]
            assert correlation > 0.99 if shared else abs(correlation) < 0.2, (copies, name)


@pytest.mark.parametrize(
    ('change', 'name'),
    [
        (dict(crop_ratio_range=(0.3, 1.0)), 'area'),
        (dict(aspect_ratio_range=(0.8, 1.25)), 'aspect'),
    ],
)
def test_the_comparison_notices_other_crops(change: dict, name: str, places: str) -> None:
    one = samples(ours('MultiResolution', 'OpenImage', [CROP]), places, 0)
    other = samples(ours('MultiResolution', 'OpenImage', [dict(CROP, **change)]), places, 1)
    first, second = (boxes([sample[0] for sample in found])[name] for found in (one, other))
    assert ks_2samp(first, second).pvalue < LEVEL


def test_the_reduced_images_are_among_the_samples(places: str, monkeypatch) -> None:
    seen = []
    pipeline = ours('MultiResolution', 'OpenImage', [CROP])
    opened = pipeline.transforms[0]
    decode = opened.decode
    monkeypatch.setattr(opened, 'decode', lambda *args: seen.append(decode(*args)) or seen[-1])
    samples(pipeline, places, 0, 100)
    denominators = [denominator for _, denominator in seen]
    assert {denominators.count(number) > 5 for number in (1, 2, 4)} == {True}


def test_boxes_are_told_by_the_pixels(places: str) -> None:
    """The measurement itself: the whole image, and a box that is known."""
    pixels = np.asarray(Image.open(places))[..., ::-1]
    for left, top, right, bottom in ((0, 0, WIDTH, HEIGHT), (140, 42, 420, 252)):
        cut = Image.fromarray(pixels[top:bottom, left:right].copy())
        copy = np.asarray(cut.resize((40, 40), Image.Resampling.BICUBIC))
        found = boxes([copy, copy[:, ::-1]])
        width, height = right - left, bottom - top
        np.testing.assert_allclose(found['area'], width * height / (WIDTH * HEIGHT), rtol=0.03)
        np.testing.assert_allclose(found['aspect'], np.log(width / height), atol=0.02)
        np.testing.assert_allclose(found['x'], (left + right) / 2 / WIDTH, atol=0.01)
        np.testing.assert_allclose(found['y'], (top + bottom) / 2 / HEIGHT, atol=0.01)
        assert found['flipped'].tolist() == [0, 1]
