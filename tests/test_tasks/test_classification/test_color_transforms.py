"""Fast colour jitter, RandAugment and erasing against those of mmpretrain, with the same random draws."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmpretrain.datasets.transforms import ColorJitter as PillowJitter
from mmpretrain.datasets.transforms import RandAugment as PlainAugment
from mmpretrain.datasets.transforms import RandomErasing as PlainErasing

from resformer_mm.registry import TRANSFORMS
from resformer_mm.tasks.classification.color_jitter import ColorJitter
from resformer_mm.tasks.classification.rand_augment import OPERATIONS, RandAugment
from resformer_mm.tasks.classification.random_erasing import RandomErasing

FILL = (104, 116, 124)
POLICY = dict(
    policies='timm_increasing',
    num_policies=2,
    magnitude_level=9,
    magnitude_std=0.5,
    hparams=dict(pad_val=list(FILL), interpolation='bicubic'),
)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth areas of all values, as in a photo, of unlike channels."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3)).astype(np.float32)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    return (smooth * np.float32([1, 0.8, 0.6])).astype(np.uint8)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


IMAGES = {
    'photo': photo(48, 64),
    'noise': noise(33, 20),
    'mirrored': photo(31, 47)[:, ::-1],
    'upside down': photo(31, 47)[::-1],
    'of a larger image': noise(60, 60)[3:40, 5:50],
    'one colour': np.full((20, 30, 3), (7, 0, 255), np.uint8),
    'two values': np.where(noise(24, 24) > 128, np.uint8(255), np.uint8(0)),
    'one row': noise(1, 40),
}


@pytest.fixture(autouse=True, scope='module')
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def apply(transform, image: np.ndarray, seed: int) -> np.ndarray:
    """The result of a transform for the draws of a seed; an image that it must not change in place."""
    np.random.seed(seed)
    return transform(dict(img=image))['img']


def levels(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == np.uint8
    return np.abs(actual.astype(int) - expected)


@pytest.mark.parametrize('image', IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize('index', range(15))
def test_operations_of_rand_augment(index: int, image: np.ndarray) -> None:
    plain, fast = PlainAugment(**POLICY), RandAugment(**POLICY)
    for augment in (plain, fast):
        augment.transforms = [augment.transforms[index]]
        augment.policies = augment.policies[:1]
        augment.num_policies = 1
        augment.transforms[0].prob = 1.0
    original = image.copy()
    for seed in range(12):
        expected, state = apply(plain, image, seed), np.random.get_state()[1:3]
        actual = apply(fast, image, seed)
        difference = levels(actual, expected)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.02
        np.testing.assert_equal(np.random.get_state()[1:3], state)  # as many draws
        np.testing.assert_array_equal(image, original)


def test_all_operations_but_rotation_are_faster_ones() -> None:
    types = {type(operation) for operation in RandAugment(**POLICY).transforms}
    assert {cls.__name__ for cls in types - set(OPERATIONS)} == {'Rotate'}


@pytest.mark.parametrize('magnitude_std', [0, 0.5, 'inf'])
def test_rand_augment_draws_what_mmpretrain_draws(magnitude_std) -> None:
    policy = {**POLICY, 'magnitude_std': magnitude_std, 'magnitude_level': 10}
    plain, fast, image = PlainAugment(**policy), RandAugment(**policy), photo(40, 56)
    differences = []
    for seed in range(150):
        expected, state = apply(plain, image, seed), np.random.get_state()[1:3]
        # The second operation may enlarge what the first left, as equalisation and thresholds do.
        differences.append((levels(apply(fast, image, seed), expected) > 1).mean())
        np.testing.assert_equal(np.random.get_state()[1:3], state)
    assert np.mean(differences) < 0.003
    assert np.mean(np.equal(differences, 0)) > 0.9


def test_other_operations_run_as_they_are() -> None:
    policies = [
        dict(type='Shear', magnitude=0.2, prob=1.0, interpolation='nearest'),
        dict(type='Translate', magnitude=0.2, prob=1.0, pad_val=9),  # nearest by default
        dict(type='Cutout', shape=9, prob=1.0),
        dict(type='GaussianBlur', radius=1, prob=1.0),
    ]
    plain, fast = (cls(policies, 3, 9) for cls in (PlainAugment, RandAugment))
    for seed in range(20):
        np.testing.assert_array_equal(apply(fast, IMAGES['photo'], seed), apply(plain, IMAGES['photo'], seed))


def test_an_operation_may_skip_the_image() -> None:
    fast = RandAugment([dict(type='Invert', prob=1.0)], 2, 9)
    fast.transforms = [lambda results: None]
    assert fast(dict(img=IMAGES['photo'])) is None


@pytest.mark.parametrize('image', IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
@pytest.mark.parametrize('span', [0.4, (0.0, 0.3), (1.5, 3.0)])
@pytest.mark.filterwarnings("ignore:Only use 'alpha'", 'ignore:.mode. parameter is deprecated')
def test_operations_of_color_jitter(span, name: str, image: np.ndarray) -> None:
    plain, fast = PillowJitter(**{name: span}), ColorJitter(**{name: span})
    original = image.copy()
    for seed in range(8):
        expected, state = apply(plain, image, seed), np.random.get_state()[1:3]
        difference = levels(apply(fast, image, seed), expected)
        assert difference.max() <= (1 if span != (1.5, 3.0) else 2) and difference.mean() < 0.05
        np.testing.assert_equal(np.random.get_state()[1:3], state)
        np.testing.assert_array_equal(image, original)


@pytest.mark.filterwarnings("ignore:Only use 'alpha'", 'ignore:.mode. parameter is deprecated')
def test_color_jitter_in_all_orders() -> None:
    settings = dict(brightness=0.4, contrast=0.4, saturation=0.4)
    plain, fast, image = PillowJitter(**settings), ColorJitter(**settings), photo(64, 48)
    for seed in range(100):
        difference = levels(apply(fast, image, seed), apply(plain, image, seed))
        assert difference.max() <= 3 and difference.mean() < 0.1


@pytest.mark.filterwarnings("ignore:Only use 'alpha'", 'ignore:.mode. parameter is deprecated')
def test_hue_is_that_of_opencv_and_near_that_of_pillow() -> None:
    for image, mean in ((photo(64, 48), 0.7), (noise(64, 48), 1.3)):
        for seed in range(10):
            actual = apply(ColorJitter(hue=0.5), image, seed)
            exact = apply(PillowJitter(hue=0.5, backend='cv2'), image, seed)
            np.testing.assert_array_equal(actual, exact)
            difference = levels(actual, apply(PillowJitter(hue=0.5), image, seed))
            assert difference.max() <= 13 and difference.mean() <= mean


def test_erasing_takes_the_same_rectangles_and_colours_of_the_same_distribution() -> None:
    settings = dict(erase_prob=0.5, mode='rand', fill_color=[40.0, 116.0, 230.0], fill_std=[60.0, 5.0, 40.0])
    plain, fast = PlainErasing(**settings), RandomErasing(**settings)
    patches: tuple[list, list] = ([], [])
    for seed in range(150):
        results = []
        for erasing, found in zip((plain, fast), patches):
            image = np.full((70, 50, 3), (3, 4, 5), np.uint8)
            results.append(apply(erasing, image, seed))
            is_erased = results[-1][..., 1] != 4
            found.append(results[-1][is_erased])
        rectangles = [
            [(is_erased.any(axis).nonzero()[0][[0, -1]] if is_erased.any() else ()) for axis in (0, 1)]
            for is_erased in (result[..., 1] != 4 for result in results)
        ]
        np.testing.assert_equal(rectangles[0], rectangles[1])
    expected, actual = (np.concatenate(found).astype(float) for found in patches)
    assert len(expected) > 40_000
    for channel in range(3):
        ours, theirs = actual[:, channel], expected[:, channel]
        bins = [np.histogram(values, 32, (0, 256))[0] / len(values) for values in (ours, theirs)]
        error = 4 * np.sqrt(2 * bins[1] / len(theirs)) + 1e-4
        assert (np.abs(bins[0] - bins[1]) < error).all()
        assert ours.mean() == pytest.approx(theirs.mean(), abs=6 * theirs.std() / np.sqrt(len(theirs)))
    assert np.abs(np.corrcoef(actual.T) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(actual[:-1, 1], actual[1:, 1])[0, 1]) < 0.02


def test_erasing_repeats_with_the_seed_of_numpy_and_no_other() -> None:
    erasing = RandomErasing(1.0, mode='rand', fill_color=100, fill_std=30)
    first = apply(erasing, noise(40, 40), 3)
    cv2.setRNGSeed(99)
    np.testing.assert_array_equal(apply(erasing, noise(40, 40), 3), first)
    assert (apply(erasing, noise(40, 40), 4) != first).any()
    for settings in (dict(mode='const', fill_color=(1, 2, 3)), dict(mode='rand')):
        ours, theirs = RandomErasing(1.0, **settings), PlainErasing(1.0, **settings)
        np.testing.assert_array_equal(apply(ours, noise(40, 40), 5), apply(theirs, noise(40, 40), 5))


@pytest.mark.parametrize(
    'image',
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 1), np.uint8)],
    ids=['float', 'without channels', 'one channel'],
)
def test_other_images_are_refused(image: np.ndarray) -> None:
    always = RandAugment([dict(type='Shear', magnitude=0.1, prob=1.0)], 1, 9)
    for transform in (ColorJitter(brightness=0.4), always):
        with pytest.raises(TypeError, match=r'\(H, W, 3\) of uint8, not .*mmpretrain'):
            apply(transform, image, 0)


def test_they_are_built_by_name() -> None:
    jitter = TRANSFORMS.build(dict(type='resformer_mm.ColorJitter', brightness=0.2, hue=(-0.1, 0.3)))
    assert isinstance(jitter, ColorJitter) and isinstance(jitter, PillowJitter)
    assert (jitter.brightness, jitter.contrast, jitter.hue) == ((0.8, 1.2), None, (-0.1, 0.3))
    assert isinstance(TRANSFORMS.build(dict(type='resformer_mm.RandAugment', **POLICY)), RandAugment)
    assert isinstance(TRANSFORMS.build(dict(type='resformer_mm.RandomErasing')), RandomErasing)
    with pytest.raises(ValueError, match='non negative'):
        ColorJitter(brightness=-0.1)
