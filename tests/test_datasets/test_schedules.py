"""Schedules that give large copies to a part of the images, or of the steps; the same on all ranks."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader, Dataset

from resformer_mm.datasets.collate import multi_resolution_collate
from resformer_mm.datasets.samplers import (
    MultiResolutionBatchSampler,
    ResolutionBatchSampler,
    ResolutionIndex,
)
from resformer_mm.datasets.schedules import ImageResolutionBatchSampler, StagedResolutionBatchSampler
from resformer_mm.engine import PartialCopy
from resformer_mm.registry import DATA_SAMPLERS
from resformer_mm.resuming.numbered_batches import number_batches

SIZES = [64, 48, 32]
Copies = list[list[tuple[int, ...]]]  # by batch, by image


class Indices(Dataset):
    """Samples as an image data set gives them: each copy is filled with the number of its image."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        inputs = [torch.full((3, size, size), int(index), dtype=torch.uint8) for size in index.resolutions]
        return dict(inputs=inputs, data_samples=DataSample(metainfo=dict(sample_idx=index)))


def sampler(kind: type, length: int = 80, batch_size: int = 8, **kwargs) -> ResolutionBatchSampler:
    inner = DefaultSampler(Indices(length), shuffle=True, seed=0)
    return kind(inner, batch_size, resolutions=SIZES, seed=kwargs.pop('seed', 0), **kwargs)


def copies(batches: ResolutionBatchSampler, epoch: int = 0) -> Copies:
    batches.sampler.set_epoch(epoch)
    return [[index.resolutions for index in batch] for batch in batches]


class All(ResolutionBatchSampler):
    """All resolutions in every batch."""

    def draw(self, rng: np.random.Generator, epoch: int, batch: int) -> list[int]:
        return self.resolutions


KINDS = {
    'part': (MultiResolutionBatchSampler, dict(batch_sizes=[2, 4, 8])),
    'image': (ImageResolutionBatchSampler, dict(keep=[32], weights=[1, 2, 0])),
    'stages': (StagedResolutionBatchSampler, dict(max_epochs=6, mix=0.3)),
}
ALL = pytest.mark.parametrize(('kind', 'options'), KINDS.values(), ids=KINDS)


@ALL
def test_all_ranks_draw_the_same(monkeypatch: pytest.MonkeyPatch, kind: type, options: dict) -> None:
    found = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        np.random.seed(rank)
        batches = sampler(kind, **options)
        found.append([copies(batches, epoch) for epoch in range(3)])
    assert found[0] == found[1]


@ALL
def test_a_resumed_pass_goes_on_with_the_same_draws(kind: type, options: dict) -> None:
    def loader() -> DataLoader:
        batches = sampler(kind, **options)
        return DataLoader(batches.sampler.dataset, batch_sampler=batches, collate_fn=list)

    def drawn(batches: DataLoader) -> list:
        return [[one['data_samples'].sample_idx.resolutions for one in batch] for batch in batches]

    expected = drawn(loader())
    late = loader()
    numbered = number_batches(late, 7, 0, 1)
    numbered.is_open, numbered.first = True, 6
    assert drawn(late) == expected[6:] and len(expected) == 10


@ALL
def test_builds_from_a_config(kind: type, options: dict) -> None:
    inner = DefaultSampler(Indices(8), seed=0)
    config = dict(type=f'resformer_mm.{kind.__name__}', sampler=inner, batch_size=8, resolutions=SIZES)
    assert len(list(DATA_SAMPLERS.build({**config, **options}))) == 1


# A part of the images


def test_a_resolution_has_some_of_the_images() -> None:
    for batch in copies(sampler(All, batch_sizes=[2, 4, 8])):
        assert Counter(size for own in batch for size in own) == {64: 2, 48: 4, 32: 8}
        assert set(batch) == {(64, 48, 32), (48, 32), (32,)}  # those at a small number have all larger ones
        assert batch == batch[::-1]  # pairs that mixup mixes


@pytest.mark.parametrize('length', [1, 3, 4, 5, 7])
def test_the_last_batch_has_smaller_parts(length: int) -> None:
    """In proportion, rounded up to what keeps pairs together."""
    (batch,) = copies(sampler(All, length=length, batch_sizes=[3, 4, 8]))
    counts = Counter(size for own in batch for size in own)
    assert counts[32] == length and batch == batch[::-1]
    for size, share in ((64, 3 / 8), (48, 1 / 2)):
        assert share * length <= counts[size] < share * length + 2


def test_images_without_a_copy_are_not_read() -> None:
    batches = sampler(ResolutionBatchSampler, length=800, batch_sizes=[2, 4, 8])
    numbers = {64: 2, 48: 4, 32: 8}
    found = copies(batches)
    assert {own for batch in found for own in batch} == {(64,), (48,), (32,)}
    assert all(len(batch) == numbers[batch[0][0]] for batch in found) and len(found) == 100


def test_a_draw_may_say_how_many() -> None:
    class Own(ResolutionBatchSampler):
        def draw(self, rng: np.random.Generator, epoch: int, batch: int) -> dict[int, int]:
            return {32: 8, 64: 2 + 2 * batch}

    found = [Counter(size for own in batch for size in own) for batch in copies(sampler(Own, length=16))]
    assert found == [{64: 2, 32: 8}, {64: 4, 32: 8}]
    with pytest.raises(ValueError, match=r'Own\.draw returned \{32: 8, 64: 10\} .* 1 to batch_size = 8'):
        copies(sampler(Own))


@pytest.mark.parametrize('bad', [[2, 4], [0, 4, 8], [2.0, 4, 8], [True, 4, 8], '248', 8], ids=str)
def test_bad_batch_sizes(bad) -> None:
    with pytest.raises(ValueError, match=r'batch_sampler\.batch_sizes = .* each of the resolutions \[64'):
        sampler(All, batch_sizes=bad)
    with pytest.raises(ValueError, match='at most train_dataloader.batch_size = 8 images'):
        sampler(All, batch_sizes=[9, 8, 8])


# A resolution for every image


def test_every_image_has_what_is_kept_and_one_more() -> None:
    found = copies(sampler(ImageResolutionBatchSampler, keep=[32]))
    assert all(Counter(batch) == {(64, 32): 4, (48, 32): 4} for batch in found)
    assert all(batch == batch[::-1] for batch in found) and len({tuple(batch) for batch in found}) > 3


def test_the_numbers_of_images_are_the_expected_ones() -> None:
    """Up to one pair in a batch, and without bias over many batches."""
    batches = sampler(ImageResolutionBatchSampler, length=40_000, weights=[5, 2, 1], batch_size=20)
    found = [Counter(size for (size,) in batch) for batch in copies(batches)]
    for size, share in zip(SIZES, (5 / 8, 2 / 8, 1 / 8)):
        numbers = np.array([counts[size] for counts in found])
        assert abs(numbers - 20 * share).max() <= 2
        assert numbers.mean() == pytest.approx(20 * share, abs=0.1)


@pytest.mark.parametrize('length', [1, 2, 5])
def test_small_batches(length: int) -> None:
    (batch,) = copies(sampler(ImageResolutionBatchSampler, length=length, keep=[64], weights=[1, 1, 0]))
    assert batch == [(64, 48)] * length


def test_bad_settings_of_image_resolutions() -> None:
    with pytest.raises(ValueError, match=r'batch_sampler\.keep = \[32\] leaves no resolution'):
        sampler(ImageResolutionBatchSampler, keep=[32], weights=[0, 0, 1])
    with pytest.raises(ValueError, match=r'batch_sampler\.keep contains 40'):
        sampler(ImageResolutionBatchSampler, keep=[40])
    with pytest.raises(ValueError, match=r'batch_sampler\.batch_sizes: .*set weights'):
        sampler(ImageResolutionBatchSampler, batch_sizes=[2, 4, 8])


def test_weights_may_change_between_passes() -> None:
    for kind, options in ((ImageResolutionBatchSampler, {}), (MultiResolutionBatchSampler, dict(number=1))):
        batches = sampler(kind, **options)
        batches.set_weights([0, 0, 1])
        assert {own for batch in copies(batches) for own in batch} == {(32,)}
        batches.set_weights(None)
        assert {own for batch in copies(batches) for own in batch} == {(64,), (48,), (32,)}


# Stages


def test_small_to_large() -> None:
    batches = sampler(StagedResolutionBatchSampler, length=16, max_epochs=3)
    assert [copies(batches, epoch)[0][0] for epoch in range(3)] == [(32,), (48,), (64,)]


def test_stages_end_within_an_epoch() -> None:
    stages = [[32], [48, 32], [64, 48, 32]]
    batches = sampler(
        StagedResolutionBatchSampler, length=80, stages=stages, ends=[0.25, 0.7, 1], max_epochs=2
    )
    found = [batch[0] for epoch in range(2) for batch in copies(batches, epoch)]  # of 20 steps
    assert found == [(32,)] * 5 + [(48, 32)] * 9 + [(64, 48, 32)] * 6


def test_some_batches_are_of_another_stage() -> None:
    batches = sampler(StagedResolutionBatchSampler, length=16_000, max_epochs=1, ends=[0.5, 0.75, 1], mix=0.2)
    found = Counter(batch[0] for batch in copies(batches)[:1000])
    assert abs(found[(32,)] - 800) < 55  # four standard deviations
    assert abs(found[(48,)] - 100) < 40 and abs(found[(64,)] - 100) < 40


def test_the_length_is_that_of_the_training() -> None:
    hub = MessageHub.get_instance('schedule_of_a_training')
    batches = sampler(StagedResolutionBatchSampler, length=8)
    with pytest.raises(ValueError, match=r'batch_sampler\.max_epochs: .* is not known'):
        copies(batches)
    hub.update_info('max_epochs', 6)
    assert [copies(batches, epoch)[0][0] for epoch in (0, 2, 5)] == [(32,), (48,), (64,)]
    with pytest.raises(ValueError, match='is 6, and this is epoch 7'):
        copies(batches, 6)


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (dict(stages=[[40]]), r'stages\[0\] contains 40'),
        (dict(stages=[[32, 64]]), r'stages\[0\].*high to low'),
        (dict(stages=[]), r'stages = \[\] must be'),
        (dict(stages='64'), "stages = '64' must be"),
        (dict(ends=[0.5, 1]), r'ends = \[0\.5, 1\] must be 3 increasing'),
        (dict(ends=[0.5, 0.4, 1]), 'ends = .* must be 3 increasing'),
        (dict(ends=[0.0, 0.4, 1]), 'ends = .* must be 3 increasing'),
        (dict(ends=[0.1, 0.4, 0.9]), 'ends = .* last is 1'),
        (dict(mix=1.0), r'mix = 1\.0 must be'),
        (dict(mix=0.1, stages=[[64]]), r'mix = 0\.1 must be .* 0 with a single stage'),
        (dict(max_epochs=0), 'max_epochs = 0 must be'),
        (dict(weights=[1, 1, 1]), 'weights: .* set stages'),
    ],
    ids=str,
)
def test_bad_stages(bad: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf'batch_sampler\.{message}'):
        sampler(StagedResolutionBatchSampler, **bad)


# Batches


def test_copies_of_a_part_of_a_batch_say_whose_they_are() -> None:
    batches = sampler(All, length=8, batch_sizes=[2, 4, 8])
    indices = list(itertools.chain(*batches))
    (batch,) = DataLoader(Indices(8), batch_sampler=batches, collate_fn=multi_resolution_collate)
    large, middle, small = batch['inputs']
    assert isinstance(large, PartialCopy) and large.rows == (3, 4) and large.inputs.shape == (2, 3, 64, 64)
    assert isinstance(middle, PartialCopy) and middle.rows == (2, 3, 4, 5)
    assert isinstance(small, torch.Tensor) and small.shape == (8, 3, 32, 32)
    for copy, rows in ((large.inputs, large.rows), (middle.inputs, middle.rows), (small, range(8))):
        assert copy[:, 0, 0, 0].tolist() == [indices[row] for row in rows]
    assert [one.sample_idx for one in batch['data_samples']] == indices


def test_samples_without_the_index_of_the_sampler_are_refused() -> None:
    """If the pipeline does not pack it, nothing says which copies an image has."""
    data = Indices(2)
    batch = [data[ResolutionIndex(0, 64, 32)], data[ResolutionIndex(1, 32)]]
    for sample in batch:
        sample['data_samples'] = DataSample(metainfo=dict(img_path='a.jpg'))
    with pytest.raises(ValueError, match='differ in size'):
        multi_resolution_collate(batch)
