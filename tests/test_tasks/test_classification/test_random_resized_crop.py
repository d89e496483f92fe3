"""Random resized crops against those of mmpretrain, which Pillow resizes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from mmpretrain.datasets.transforms import RandomResizedCrop as ResizedCrop
from PIL import Image

from resformer_mm.datasets.resizing import resize
from resformer_mm.registry import TRANSFORMS
from resformer_mm.tasks.classification.random_resized_crop import RandomResizedCrop


def noise(height: int, width: int) -> np.ndarray:
    """The hardest image to resize; of values from which bicubic interpolation does not leave 0 to 255."""
    return np.random.default_rng(0).integers(64, 192, (height, width, 3), np.uint8)


def photo(height: int, width: int) -> np.ndarray:
    """Areas with noise, as in a photo."""
    areas = np.random.default_rng(1).integers(0, 240, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    areas = areas.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
    return areas + noise(height, width) // 16 - 4


def check_close(actual: np.ndarray, expected: np.ndarray, interpolation: str) -> None:
    """Compare images of which both passes, along rows and along columns, are rounded and clipped."""
    difference = np.abs(actual.astype(int) - expected.astype(int))
    assert (difference > 1).mean() <= (0.005 if interpolation == 'bicubic' else 0.0005)
    assert difference.mean() < 0.4


@pytest.mark.parametrize('picture', [photo, noise])
@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('scale', [32, 224, (48, 80)])
@pytest.mark.parametrize('shape', [(375, 500), (301, 97), (20, 33), (400, 40)])
def test_crops_are_those_of_mmpretrain(shape: tuple, scale, interpolation: str, picture) -> None:
    image = picture(*shape)
    ours = RandomResizedCrop(scale, interpolation=interpolation)
    theirs = ResizedCrop(scale, interpolation=interpolation, backend='pillow')
    for seed in range(5):
        results = []
        for transform in (ours, theirs):
            np.random.seed(seed)
            results.append(transform(dict(img=image.copy())))
        assert results[0]['img_shape'] == results[1]['img_shape'] == results[0]['img'].shape
        check_close(results[0]['img'], results[1]['img'], interpolation)
        assert results[0]['img'].dtype == np.uint8 and results[0]['img'].flags.c_contiguous


def test_images_of_other_kinds() -> None:
    image = noise(60, 50)
    view = image[::2, ::2]
    expected = np.asarray(Image.fromarray(view).resize((16, 24), Image.Resampling.BICUBIC))
    check_close(resize(view, (24, 16), 'bicubic'), expected, 'bicubic')
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert resize(image, (24, 16), 'bicubic').shape == (24, 16, 3)
    single = image[..., :1].astype(np.float32)
    np.testing.assert_allclose(resize(single, (60, 50), 'bicubic'), single, atol=1e-3)


def test_it_is_built_by_name_and_checks_the_interpolation() -> None:
    transform = TRANSFORMS.build(dict(type='resformer_mm.RandomResizedCrop', scale=8))
    assert isinstance(transform, RandomResizedCrop) and transform.scale == (8, 8)
    with pytest.raises(ValueError, match=r"interpolation='lanczos' is not one of .*mmpretrain"):
        RandomResizedCrop(8, interpolation='lanczos')
    with pytest.raises(ValueError, match='range should be of kind'):
        RandomResizedCrop(8, crop_ratio_range=(1.0, 0.5))
