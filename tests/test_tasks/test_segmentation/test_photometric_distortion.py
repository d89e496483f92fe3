"""Photometric distortion by tables against that of mmseg."""

from __future__ import annotations

import numpy as np
import pytest
from mmseg.datasets.transforms import PhotoMetricDistortion as Distortion

from resformer_mm.registry import TRANSFORMS

NOISE = np.random.default_rng(0).integers(0, 256, (37, 52, 3), np.uint8)
IMAGES = {'noise': NOISE, 'mirrored': NOISE[:, ::-1], 'dark': NOISE // 16, 'one pixel': NOISE[:1, :1]}


@pytest.mark.parametrize('image', IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize(
    'settings',
    [{}, dict(brightness_delta=100, contrast_range=(0, 4), saturation_range=(0.1, 9.0), hue_delta=90)],
    ids=['defaults', 'strong'],
)
def test_draws_and_pixels_are_those_of_mmseg(settings: dict, image: np.ndarray) -> None:
    slow = Distortion(**settings)
    fast = TRANSFORMS.build(dict(type='resformer_mm.PhotoMetricDistortion', **settings))
    original, number_changed = image.copy(), 0
    for seed in range(60):
        np.random.seed(seed)
        expected, state = slow(dict(img=image))['img'], np.random.get_state()[1:3]
        np.random.seed(seed)
        actual = fast(dict(img=image))['img']
        np.testing.assert_array_equal(actual, expected)
        np.testing.assert_equal(np.random.get_state()[1:3], state)
        np.testing.assert_array_equal(image, original)
        number_changed += not np.array_equal(actual, image)
    assert number_changed > 40


def test_other_images_are_refused() -> None:
    fast = TRANSFORMS.build(dict(type='resformer_mm.PhotoMetricDistortion'))
    np.random.seed(0)
    with pytest.raises(TypeError, match='of uint8'):
        for _ in range(20):
            fast(dict(img=NOISE.astype(np.float32)))
