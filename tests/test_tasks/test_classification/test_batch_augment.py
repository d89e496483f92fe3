"""Colour jitter and erasing of batches against the transforms of the loader."""

from __future__ import annotations

import colorsys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.datasets.transforms import ColorJitter as PillowJitter
from mmpretrain.datasets.transforms import RandomErasing as PlainErasing
from scipy.stats import ks_2samp
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from resformer_mm.registry import MODELS
from resformer_mm.resuming.random_states import capture_states, preserved_states, restore_states
from resformer_mm.tasks.classification import batch_augment
from resformer_mm.tasks.classification.batch_augment import BatchAugment
from resformer_mm.tasks.classification.batch_color_jitter import BatchColorJitter, JitterDraws
from resformer_mm.tasks.classification.batch_erasing import BatchErasing

JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.4)
ERASING = dict(
    erase_prob=0.25,
    mode='rand',
    min_area_ratio=0.02,
    max_area_ratio=1 / 3,
    fill_color=[103.53, 116.28, 123.675],
    fill_std=[57.375, 57.12, 58.395],
)
QUIET = pytest.mark.filterwarnings("ignore:Only use 'alpha'", 'ignore:.mode. parameter is deprecated')


def batch(number: int, height: int, width: int) -> Tensor:
    """Noise of unlike contrast and colours."""
    generator = torch.Generator().manual_seed(height)
    noise = torch.rand(number, 3, height, width, generator=generator)
    centre, span = torch.rand(2, number, 3, 1, 1, generator=generator)
    return (255 * (centre + span * (noise - 0.5))).clamp(0, 255).to(torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@QUIET
@pytest.mark.parametrize(('height', 'width'), [(24, 40), (17, 9), (1, 1)])
@pytest.mark.parametrize('names', [tuple(JITTER), ('saturation', 'brightness'), ('contrast',)], ids=str)
def test_jitter_is_that_of_the_loader_in_every_order(names, height: int, width: int) -> None:
    jitter = BatchColorJitter(**{name: JITTER[name] for name in names})
    assert set(jitter.names) == set(names)
    orders = list(permutations(range(len(names))))
    images = batch(len(orders), height, width)
    draws = jitter.draw(len(orders), generator())._replace(order=torch.tensor(orders))
    actual = jitter(images.float(), draws)
    single = PillowJitter()
    for number, order in enumerate(orders):
        values = dict(zip(jitter.names, draws.values[number].tolist()))
        places = [tuple(JITTER).index(jitter.names[index]) for index in order]
        drawn = (places, *(values.get(name) for name in (*JITTER, 'hue')))
        single._rand_params = lambda drawn=drawn: drawn
        expected = single(dict(img=images[number].permute(1, 2, 0).numpy()))['img']
        difference = (actual[number].permute(1, 2, 0).numpy() - expected).astype(float)
        # A mean grey may be rounded otherwise, by a level before the factor.
        assert np.abs(difference).max() <= len(names)
        assert np.abs(difference).mean() < 0.25 and np.quantile(np.abs(difference), 0.5) <= 1
    assert torch.equal(actual, actual.round()) and 0 <= actual.min() and actual.max() <= 255


def test_factors_of_one_change_nothing() -> None:
    jitter = BatchColorJitter(**JITTER, hue=0.1)
    images = batch(5, 12, 16).float()
    draws = jitter.draw(5, generator())._replace(values=torch.tensor([1.0, 1, 1, 0]).expand(5, 4))
    assert torch.equal(jitter(images, draws), images)


def test_hue_is_that_of_python() -> None:
    jitter = BatchColorJitter(hue=0.5)
    images = batch(6, 8, 5)
    images[:, :, 0] = images[:, :1, 0]  # grey
    turns = torch.tensor([-0.5, -0.21, 0.0, 0.07, 0.33, 0.5])
    actual = jitter(images.float(), JitterDraws(torch.zeros(6, 1, dtype=torch.long), turns[:, None]))
    for image, turned, turn in zip(images, actual, turns.tolist()):
        for source, target in zip(image.flatten(1).T.tolist(), turned.flatten(1).T.tolist()):
            blue, green, red = (value / 255 for value in source)
            hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)[::-1]
            assert target == pytest.approx([255 * level for level in expected], abs=0.51)


@pytest.mark.parametrize(('height', 'width'), [(32, 48), (31, 7), (1, 1)])
def test_rectangles_are_those_of_the_formulas_of_mmpretrain(height: int, width: int) -> None:
    erasing = BatchErasing(0.6, max_area_ratio=0.7, fill_color=(44, 7.9, 255))
    images = torch.full((200, 3, height, width), 90.0)
    draws = erasing.draw(200, generator())
    actual = erasing(images, draws, generator())
    assert 90 < draws.is_erased.sum() < 150
    for image, drawn in zip(actual, zip(*draws)):
        is_erased, ratio, area_ratio, *places = (value.item() for value in drawn)
        expected = torch.full((3, height, width), 90.0)
        if is_erased:
            area = height * width * area_ratio
            rows = min(int(round(np.sqrt(area * ratio))), height)
            columns = min(int(round(np.sqrt(area / ratio))), width)
            top, left = int(places[0] * (height - rows)), int(places[1] * (width - columns))
            expected[:, top : top + rows, left : left + columns] = torch.tensor([44, 7, 255.0])[:, None, None]
        assert torch.equal(image, expected)


def test_rectangles_have_the_distribution_of_the_loader() -> None:
    height, width, number = 40, 60, 1500
    erasing, single = BatchErasing(1.0), PlainErasing(1.0)
    masks = (
        erasing(torch.ones(number, 1, height, width), erasing.draw(number, generator()), generator()) == 128
    )
    np.random.seed(0)
    expected = np.array([single.random_patch(height, width) for _ in range(number)])
    rows, columns = masks[:, 0].any(2).int(), masks[:, 0].any(1).int()
    actual = torch.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], dim=1).numpy()
    for ours, theirs in zip(actual.T, expected.T):
        assert ks_2samp(ours, theirs).pvalue > 0.01
    assert ks_2samp(actual[:, 2] * actual[:, 3], expected[:, 2] * expected[:, 3]).pvalue > 0.01


@pytest.mark.parametrize('fill_std', [None, [57.375, 20.0, 58.395]])
def test_noise_has_the_distribution_of_the_loader(fill_std) -> None:
    settings = dict(erase_prob=1.0, mode='rand', fill_color=[20.5, 116.28, 230.0], fill_std=fill_std)
    erasing, single = BatchErasing(**settings), PlainErasing(**settings)
    noise = (
        erasing._filling(torch.empty(8, 3, 50, 50), generator()).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    )
    np.random.seed(1)
    expected = single._fill_pixels(np.empty((100, 200, 3), np.uint8), 0, 0, 100, 200).reshape(-1, 3)
    assert np.array_equal(noise, noise.astype(np.uint8))
    for ours, theirs in zip(noise.T, expected.T):
        counts = [np.bincount(values.astype(np.uint8), minlength=256) for values in (ours, theirs)]
        error = 5 * np.sqrt(counts[0] + counts[1] + 1)
        assert (np.abs(counts[0] - counts[1]) < error).all()
        assert ours.mean() == pytest.approx(theirs.mean(), abs=5 * theirs.std() / 100)


@QUIET
def test_jitter_has_the_distribution_of_the_loader() -> None:
    image = batch(1, 12, 12)
    jitter, single = BatchColorJitter(**JITTER), PillowJitter(**JITTER)
    number = 800
    actual = jitter(image.expand(number, -1, -1, -1).float(), jitter.draw(number, generator()))
    np.random.seed(0)
    pixels = image[0].permute(1, 2, 0).numpy()
    expected = np.stack([single(dict(img=pixels))['img'] for _ in range(number)]).transpose(0, 3, 1, 2)
    for statistic in (
        lambda images: images.mean((1, 2, 3)),
        lambda images: images.std((1, 2, 3)),
        lambda images: (images.max(1) - images.min(1)).mean((1, 2)),
    ):
        assert ks_2samp(statistic(actual.numpy()), statistic(expected)).pvalue > 0.01


def augment(**changes) -> BatchAugment:
    return BatchAugment(**{'color_jitter': JITTER, 'erasing': ERASING, **changes})


def test_images_and_copies_differ_in_their_draws_unless_shared() -> None:
    def levels(shared: bool) -> list[Tensor]:
        images = [torch.full((16, 3, size, size), 128, dtype=torch.uint8) for size in (20, 12, 12)]
        with preserved_states():
            copies = augment(erasing=None, shared=shared)(images)
        assert [copy.shape for copy in copies] == [image.shape for image in images]
        return [copy[:, 0, 0, 0] for copy in copies]

    for copy in levels(False) + levels(True):
        assert len(copy.unique()) > 8
    first, second, third = levels(False)
    assert not torch.equal(first, second) and not torch.equal(second, third)
    first, second, third = levels(True)
    assert torch.equal(first, second) and torch.equal(second, third)


def test_a_shared_rectangle_covers_the_same_part_of_every_copy() -> None:
    always = dict(ERASING, erase_prob=1.0, mode='const', fill_color=200)
    images = [torch.zeros(32, 3, size, size) for size in (96, 48)]
    large, small = ((copy[:, 0] == 200).float() for copy in augment(erasing=always, shared=True)(images))
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert (shrunk - small).abs().mean() < 0.05 < (shrunk.roll(1, 0) - small).abs().mean()


def test_draws_follow_the_state_of_pytorch_and_the_rank(monkeypatch) -> None:
    images = [batch(4, 16, 16)]
    with preserved_states():
        torch.manual_seed(5)
        first, second = augment()(images), augment()(images)
        state = capture_states()
        third = augment()(images)
        assert not torch.equal(first[0], second[0]) and not torch.equal(second[0], third[0])
        restore_states(state)
        assert torch.equal(augment()(images)[0], third[0])  # resumed
        torch.manual_seed(5)
        assert torch.equal(augment()(images)[0], first[0])
        monkeypatch.setattr(batch_augment, 'get_rank', lambda: 1)
        torch.manual_seed(5)
        assert not torch.equal(augment()(images)[0], first[0])


@pytest.mark.parametrize('settings', [dict(JITTER, hue=0.1), JITTER], ids=['with hue', 'without hue'])
def test_nothing_waits_for_the_device(settings: dict) -> None:
    """Reading a value of a fake tensor, which has none, is an error, like what waits for a GPU."""
    jitter, erasing = BatchColorJitter(**settings), BatchErasing(**ERASING)
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.empty(3, 3, 10, 14)
        images = jitter(images, jitter.draw(3, generator()))
        assert erasing(images, erasing.draw(3, generator()), generator()).shape == (3, 3, 10, 14)
        with pytest.raises(DataDependentOutputException):
            images.sum().item()


def test_autocast_changes_nothing() -> None:
    images = [batch(8, 14, 18)]
    with preserved_states():
        torch.manual_seed(1)
        expected = augment()(images)
        torch.manual_seed(1)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            actual = augment()(images)
    assert actual[0].dtype == torch.float32 and torch.equal(actual[0], expected[0])


def preprocessor(**settings):
    settings = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True, **settings)
    return MODELS.build(dict(type='resformer_mm.MultiResolutionDataPreprocessor', **settings))


@pytest.mark.parametrize('single', [False, True])
def test_the_preprocessor_augments_before_it_normalises_and_only_in_training(single: bool) -> None:
    inputs = batch(6, 20, 20) if single else [batch(6, 20, 20), list(batch(6, 12, 12))]
    plain, changed = preprocessor(), preprocessor(augment=dict(color_jitter=JITTER, erasing=ERASING))
    assert not changed.state_dict()
    expected = plain(dict(inputs=inputs))['inputs']
    for actual, image in zip(changed(dict(inputs=inputs))['inputs'], expected):
        assert torch.equal(actual, image)
    copies = [inputs] if single else [inputs[0], torch.stack(inputs[1])]
    with preserved_states():
        torch.manual_seed(2)
        expected = plain(dict(inputs=augment()(copies)))['inputs']
        torch.manual_seed(2)
        actual = changed(dict(inputs=inputs), training=True)['inputs']
    assert isinstance(actual, Tensor) == single
    for image, other in zip([actual] if single else actual, expected):
        assert torch.equal(image, other) and image.dtype == torch.float32


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r'augment needs `color_jitter` or `erasing`; .*None'):
        preprocessor(augment=dict(shared=True))
    with pytest.raises(ValueError, match='color_jitter changes nothing'):
        BatchColorJitter(brightness=0)
    with pytest.raises(ValueError, match='non negative'):
        BatchColorJitter(brightness=-1)
    with pytest.raises(AssertionError, match='mode'):
        BatchErasing(mode='noise')


def test_the_config_moves_what_the_loader_does() -> None:
    folder = Path(__file__).parents[3] / 'configs/classification/resformer-small_mr-224-160-128'
    loader = Config.fromfile(f'{folder}_8xb128-300e_in1k.py')
    device = Config.fromfile(f'{folder}_device-augment_8xb128-300e_in1k.py')
    *kept, jitter, erasing = loader.train_dataloader.dataset.pipeline[1].transforms
    moved = device.model.data_preprocessor.augment
    assert device.train_dataloader.dataset.pipeline[1].transforms == kept
    assert moved.color_jitter == {name: value for name, value in jitter.items() if name != 'type'}
    assert moved.erasing == {name: value for name, value in erasing.items() if name != 'type'}
    assert (jitter.type, erasing.type) == ('resformer_mm.ColorJitter', 'resformer_mm.RandomErasing')
