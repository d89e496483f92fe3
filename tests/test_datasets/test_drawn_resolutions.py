"""Several resolutions that are drawn for every batch, out of a list or a range."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from scipy import stats
from torch.utils.data import DataLoader, Dataset

from resformer_mm.config.resolutions import list_resolutions, trained_resolutions
from resformer_mm.datasets.collate import multi_resolution_collate
from resformer_mm.datasets.downscaled_copies import DownscaledCopies
from resformer_mm.datasets.multi_resolution import MultiResolution
from resformer_mm.datasets.samplers import (
    MultiResolutionBatchSampler,
    ResolutionBatchSampler,
    ResolutionIndex,
)
from resformer_mm.resuming.numbered_batches import number_batches
from resformer_mm.tasks.classification.folders import ImageFolder

ROOT = Path(__file__).parents[2]
RANGE = dict(low=32, high=96, step=8)
SIZES = [96, 88, 80, 72, 64, 56, 48, 40, 32]
RESIZE = dict(type='mmpretrain.Resize', scale='{resolution}')


class Samples(Dataset):
    """Index and wanted resolutions of every sample, as a worker process sees them."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, *index.resolutions])


def sampler(
    length: int = 400, seed: int | None = 0, resolutions=SIZES, **kwargs
) -> MultiResolutionBatchSampler:
    inner = kwargs.pop('inner', None) or DefaultSampler(Samples(length), shuffle=True, seed=0)
    return MultiResolutionBatchSampler(inner, 4, resolutions=resolutions, seed=seed, **kwargs)


def drawn(batches: MultiResolutionBatchSampler, epoch: int = 0) -> list[tuple[int, ...]]:
    """The resolutions of every batch of an epoch, which all of its samples must carry."""
    batches.sampler.set_epoch(epoch)
    found = []
    for batch in batches:
        assert len({index.resolutions for index in batch}) == 1
        found.append(batch[0].resolutions)
    return found


# Draws


def test_every_batch_has_different_sizes_high_to_low() -> None:
    found = drawn(sampler(number=3))
    assert len(found) == 100 and len(set(found)) > 50
    for sizes in found:
        assert len(set(sizes)) == 3 and list(sizes) == sorted(sizes, reverse=True)
        assert set(sizes) <= set(SIZES) and all(type(size) is int and size % 8 == 0 for size in sizes)
    assert drawn(sampler(number=3), 1) != found == drawn(sampler(number=3)) != drawn(sampler(seed=1))


def test_kept_sizes_are_in_every_batch() -> None:
    for sizes in drawn(sampler(number=4, keep=[32, 96])):
        assert len(sizes) == 4 and sizes[0] == 96 and sizes[-1] == 32


@pytest.mark.parametrize('kept', [(), (96,)])
def test_uniform_draws(kept: tuple[int, ...]) -> None:
    """Every subset of the sizes that are not kept is drawn equally often."""
    found = Counter(drawn(sampler(40_000, number=3, keep=kept)))
    free = [size for size in SIZES if size not in kept]
    subsets = [(*kept, *rest) for rest in itertools.combinations(free, 3 - len(kept))]
    assert set(found) == set(subsets)
    assert stats.chisquare([found[subset] for subset in subsets]).pvalue > 0.01


def test_weighted_draws() -> None:
    """The first size is drawn by weight, the second by weight among those that are left."""
    weights = {64: 5.0, 48: 0.0, 32: 3.0, 16: 2.0}
    batches = sampler(40_000, number=2, resolutions=list(weights), weights=list(weights.values()))
    total = sum(weights.values())
    expected: Counter = Counter()
    for first, second in itertools.permutations([64, 32, 16], 2):
        share = weights[first] / total * weights[second] / (total - weights[first])
        expected[tuple(sorted((first, second), reverse=True))] += 10_000 * share
    found = Counter(drawn(batches))
    assert set(found) == set(expected)
    assert stats.chisquare([found[pair] for pair in expected], list(expected.values())).pvalue > 0.01


@pytest.mark.parametrize(('mean', 'std'), [(-0.5, 1.0), (0.3, 0.4)])
def test_a_normal_distribution_over_the_sizes(mean: float, std: float) -> None:
    """That of the truncated normal distribution with as many places, from -1 to 1."""
    inner = DefaultSampler(Samples(40_000), seed=0)
    batches = ResolutionBatchSampler(inner, 4, SIZES, weights=dict(mean=mean, std=std), seed=0)
    truncated = stats.truncnorm((-1 - mean) / std, (1 - mean) / std, mean, std)
    density = truncated.pdf([(size - 64) / 32 for size in SIZES])
    found = Counter(batch[0].resolution for batch in batches)
    expected = 10_000 * density / density.sum()
    assert stats.chisquare([found[size] for size in SIZES], expected).pvalue > 0.01
    assert (found[40] > 1.5 * found[88]) == (mean < 0)


def test_one_size_is_that_of_the_sampler_of_one() -> None:
    one = ResolutionBatchSampler(DefaultSampler(Samples(40), seed=0), 4, SIZES, weights=[1] * 9, seed=3)
    several = MultiResolutionBatchSampler(
        DefaultSampler(Samples(40), seed=0), 4, number=1, resolutions=SIZES, weights=[1] * 9, seed=3
    )
    assert [batch[0].resolution for batch in several] == [batch[0].resolution for batch in one]


def test_all_ranks_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found, indices = [], []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        np.random.seed(rank)
        batches = sampler(number=3, keep=[96])
        found.append([drawn(batches, epoch) for epoch in range(3)])
        indices.append({int(index) for batch in batches for index in batch})
    assert found[0] == found[1] and not indices[0] & indices[1]


@pytest.mark.parametrize('kind', [DefaultSampler, InfiniteSampler])
def test_a_resumed_pass_goes_on_with_the_same_draws(kind: type) -> None:
    def loader() -> DataLoader:
        batches = sampler(inner=kind(Samples(40), shuffle=True, seed=5), number=2)
        return DataLoader(batches.sampler.dataset, batch_sampler=batches)

    expected = [batch.tolist() for batch in itertools.islice(loader(), 8)]
    late = loader()
    numbered = number_batches(late, 7, 0, 1)
    numbered.is_open, numbered.first = True, 5
    assert [batch.tolist() for batch in itertools.islice(late, 3)] == expected[5:]


@pytest.mark.slow
def test_workers_see_the_sizes() -> None:
    loader = DataLoader(Samples(40), batch_sampler=sampler(40, number=2), num_workers=2)
    assert [batch[0, 1:].tolist() for batch in loader] == [
        list(sizes) for sizes in drawn(sampler(40, number=2))
    ]


class Ladder(MultiResolutionBatchSampler):
    """Neighbours, which rise by one step per epoch."""

    def draw(self, rng: np.random.Generator, epoch: int, batch: int) -> list[int]:
        low_to_high = self.resolutions[::-1]
        return low_to_high[epoch : epoch + 2]


def test_a_schedule_of_several_sizes_is_one_method() -> None:
    batches = Ladder(DefaultSampler(Samples(8), seed=0), 4, resolutions=[64, 48, 32], number=2)
    assert [drawn(batches, epoch) for epoch in range(2)] == [[(48, 32)] * 2, [(64, 48)] * 2]
    with pytest.raises(ValueError, match=r'Ladder\.draw returned no resolution for batch 0 of epoch 3'):
        drawn(batches, 3)


# Copies


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ('a', 'b'):
        (tmp_path / label).mkdir()
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (70, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f'{number}.png')
    return tmp_path


@pytest.mark.parametrize('kind', ['MultiResolution', 'DownscaledCopies'])
def test_batches_of_a_loader(kind: str, folder: Path) -> None:
    pipeline = [
        dict(type='resformer_mm.LoadImage'),
        dict(type=f'resformer_mm.{kind}', resolutions=RANGE, transforms=[RESIZE]),
        dict(type='mmpretrain.PackInputs'),
    ]
    data = ImageFolder(data_root=str(folder), pipeline=[TRANSFORMS.build(step) for step in pipeline])
    inner = DefaultSampler(data, shuffle=True, seed=0)
    batches = MultiResolutionBatchSampler(inner, 4, number=3, keep=[96], seed=0)
    assert batches.resolutions == SIZES
    for batch, sizes in zip(
        DataLoader(data, batch_sampler=batches, collate_fn=multi_resolution_collate), batches
    ):
        assert [tuple(copy.shape) for copy in batch['inputs']] == [
            (4, 3, size, size) for size in sizes[0].resolutions
        ]
    # Without a sampler, a range is the list of its sizes.
    assert [copy.shape[1] for copy in data[0]['inputs']] == SIZES


def test_a_drawn_copy_is_that_of_the_fixed_list() -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    transform = MultiResolution(RANGE, [RESIZE])
    copies = transform(dict(img=image.copy(), sample_idx=ResolutionIndex(0, 88, 40)))['img']
    for size, copy in zip((88, 40), copies, strict=True):
        assert np.array_equal(copy, TRANSFORMS.build(dict(RESIZE, scale=size))(dict(img=image))['img'])
    with pytest.raises(ValueError, match=r'drew resolution 44, which is not among the \[96, 88'):
        transform(dict(img=image, sample_idx=ResolutionIndex(0, 88, 44)))


def test_a_skipped_sample_is_replaced_at_the_same_sizes(folder: Path) -> None:
    data = ImageFolder(data_root=str(folder), pipeline=[lambda sample: sample['sample_idx']])
    data._wanted = ResolutionIndex(1, 88, 40)
    assert data._rand_another().resolutions == (88, 40)


def test_the_config() -> None:
    name = 'resformer-mini_mr-drawn-96-32_1xb64-30e_mini.py'
    cfg = Config.fromfile(ROOT / 'configs' / 'classification' / name)
    inner = DefaultSampler(Samples(80), seed=0)
    settings = cfg.train_dataloader.batch_sampler.to_dict()
    assert settings.pop('type') == 'resformer_mm.MultiResolutionBatchSampler'
    batches = MultiResolutionBatchSampler(inner, 4, resolutions=cfg.resolutions, **settings)
    assert batches.resolutions == SIZES == trained_resolutions(cfg)
    for sizes in drawn(batches):
        assert len(sizes) == 3 and sizes[0] == 96


# Ranges and messages


def test_ranges() -> None:
    assert list_resolutions(RANGE, 'x') == SIZES
    assert list_resolutions(dict(low=64, high=64, step=16), 'x') == [64]
    assert list_resolutions((64, 32), 'x') == (64, 32)
    assert trained_resolutions(dict(resolutions=RANGE)) == SIZES
    assert trained_resolutions({}) == [] == trained_resolutions(dict(resolutions=None))


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (dict(low=32, high=96), 'has the fields low, high and step'),
        (dict(RANGE, draw=3), 'has the fields low, high and step'),
        (dict(RANGE, step=0), r'resolutions\.step = 0 must be a positive integer'),
        (dict(RANGE, low=32.0), r'resolutions\.low = 32\.0 must be a positive integer'),
        (dict(RANGE, high=True), r'resolutions\.high = True must be'),
        (dict(RANGE, low=128), r'low = 128 is larger than .*high = 96'),
        (dict(RANGE, high=100), 'steps of 8 from low = 32 do not reach high = 100: set high to 96 or 104'),
    ],
    ids=str,
)
@pytest.mark.parametrize('kind', [MultiResolution, DownscaledCopies])
def test_bad_ranges(kind: type, bad: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f'{kind.__name__}.resolutions.*{message}|{message}'):
        kind(bad, [RESIZE])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(number=0), r'batch_sampler\.number = 0 must be an integer from 1 to 9'),
        (dict(number=10), 'from 1 to 9'),
        (dict(number=2.0), r'number = 2\.0'),
        (dict(number=True), 'number = True'),
        (dict(number=2, keep=[96, 64]), r'from 3 to 9: 2 resolutions are kept, and 7 of'),
        (dict(keep=[100]), r'batch_sampler\.keep contains 100, which is not among \[96'),
        (dict(keep=96), r'batch_sampler\.keep must be a list'),
        (dict(keep=[96, 96]), 'names a resolution twice'),
        (dict(number=4, weights=[1, 1, 1, 0, 0, 0, 0, 0, 0]), 'from 1 to 3'),
        (dict(number=4, keep=[32], weights=[1, 1, 0, 0, 0, 0, 0, 0, 0]), 'from 2 to 3'),
        (dict(weights=dict(mean=0)), 'has the fields mean and std'),
        (dict(weights=dict(mean='low', std=1)), 'has the fields mean and std'),
        (dict(weights=dict(mean=0, std=0)), 'std positive'),
        (dict(weights=dict(mean=float('nan'), std=1)), 'must be finite'),
        (dict(resolutions=dict(low=32, high=90, step=8)), r'batch_sampler\.resolutions: steps of 8'),
    ],
    ids=str,
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(**settings)
