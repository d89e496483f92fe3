"""One resolution per batch or per epoch, by weight or by a schedule of the user, the same on all ranks."""

from __future__ import annotations

import pickle
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, RepeatDataset
from mmpretrain.datasets import RepeatAugSampler
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from resformer_mm.datasets.samplers import (
    EpochResolutionBatchSampler,
    ResolutionBatchSampler,
    ResolutionIndex,
)
from resformer_mm.registry import DATA_SAMPLERS

RESOLUTIONS = (64, 48, 32)
BOTH = pytest.mark.parametrize('kind', [ResolutionBatchSampler, EpochResolutionBatchSampler])


class Numbers(Dataset):
    """Index and wanted resolution of every sample, as a worker process sees them."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, getattr(index, 'resolution', 0)])


def sampler(
    length: int = 40, batch_size: int = 4, seed: int | None = 0, kind: type = ResolutionBatchSampler, **kwargs
) -> ResolutionBatchSampler:
    inner = kwargs.pop('inner', None) or DefaultSampler(Numbers(length), shuffle=True, seed=0)
    return kind(inner, batch_size, RESOLUTIONS, seed=seed, **kwargs)


def resolutions(batches: ResolutionBatchSampler, epoch: int = 0) -> list[int]:
    """Return the resolution of every batch of an epoch, which each of its samples must carry."""
    if hasattr(batches.sampler, 'set_epoch'):
        batches.sampler.set_epoch(epoch)
    drawn = []
    for batch in batches:
        assert len({index.resolution for index in batch}) == 1
        drawn.append(batch[0].resolution)
    return drawn


def test_every_iteration_has_a_resolution_of_its_own() -> None:
    drawn = resolutions(sampler(length=400))
    assert len(drawn) == 100 and set(drawn) == set(RESOLUTIONS)
    assert sum(one != other for one, other in zip(drawn, drawn[1:])) > 40
    assert drawn != resolutions(sampler(length=400), epoch=1)


def test_every_epoch_has_a_resolution_of_its_own() -> None:
    batches = sampler(kind=EpochResolutionBatchSampler)
    epochs = [resolutions(batches, epoch) for epoch in range(30)]
    assert all(len(set(drawn)) == 1 for drawn in epochs)
    assert {drawn[0] for drawn in epochs} == set(RESOLUTIONS)


@BOTH
def test_draws_are_uniform(kind: type) -> None:
    batches = sampler(length=120, kind=kind, inner=DefaultSampler(Numbers(120), seed=0))
    counts = Counter()
    for epoch in range(50 if kind is ResolutionBatchSampler else 1500):
        if kind is ResolutionBatchSampler:
            counts.update(resolutions(batches, epoch))
        else:
            batches.sampler.set_epoch(epoch)
            counts[next(iter(batches))[0].resolution] += 1
    assert sum(counts.values()) == 1500
    assert all(abs(count - 500) < 75 for count in counts.values())  # four standard deviations


def on_rank(monkeypatch: pytest.MonkeyPatch, module: str, rank: int) -> None:
    monkeypatch.setattr(f'{module}.get_dist_info', lambda: (rank, 2))


@BOTH
def test_all_ranks_draw_the_same(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    ranks, indices = [], []
    for rank in range(2):
        on_rank(monkeypatch, 'mmengine.dataset.sampler', rank)
        # Whatever else the process drew at random does not matter.
        torch.manual_seed(rank)
        batches = sampler(kind=kind)
        ranks.append([resolutions(batches, epoch) for epoch in range(5)])
        indices.append([int(index) for batch in batches for index in batch])
    assert ranks[0] == ranks[1]
    assert len(indices[0]) == 20 and not set(indices[0]) & set(indices[1])


@BOTH
def test_a_resumed_run_goes_on_with_the_same_sequence(kind: type) -> None:
    through = sampler(kind=kind)
    expected = [resolutions(through, epoch) for epoch in range(6)]
    resumed = sampler(kind=kind)
    assert [resolutions(resumed, epoch) for epoch in range(3, 6)] == expected[3:]
    assert resolutions(through, 2) == expected[2]


def test_the_seed_decides() -> None:
    assert resolutions(sampler(seed=1)) == resolutions(sampler(seed=1))
    assert resolutions(sampler(seed=1)) != resolutions(sampler(seed=2))


def test_without_a_seed_all_ranks_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('resformer_mm.datasets.samplers.sync_random_seed', lambda: 1)
    assert resolutions(sampler(seed=None)) == resolutions(sampler(seed=1))


def test_samples_are_those_of_the_inner_sampler() -> None:
    inner = DefaultSampler(Numbers(10), shuffle=True, seed=3)
    batches = sampler(inner=inner)
    assert [int(index) for batch in batches for index in batch] == list(inner)
    assert [len(batch) for batch in batches] == [4, 4, 2] and len(batches) == 3
    dropped = sampler(inner=inner, drop_last=True)
    assert [len(batch) for batch in dropped] == [4, 4] and len(dropped) == 2


def test_an_index_keeps_its_resolution_on_the_way_to_a_worker() -> None:
    index = pickle.loads(pickle.dumps(ResolutionIndex(7, 48)))
    assert index == 7 and index.resolution == 48 and list(range(10))[index] == 7


@pytest.mark.slow
def test_workers_see_the_resolution() -> None:
    loader = DataLoader(Numbers(40), batch_sampler=sampler(), num_workers=2)
    loaded = [batch[:, 1].tolist() for batch in loader]
    assert loaded == [[resolution] * 4 for resolution in resolutions(sampler())]


def test_with_repeated_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = []
    for rank in range(2):
        on_rank(monkeypatch, 'mmpretrain.datasets.samplers.repeat_aug', rank)
        inner = RepeatAugSampler(Numbers(48), num_repeats=3, seed=0)
        ranks.append([resolutions(sampler(inner=inner), epoch) for epoch in range(3)])
    assert ranks[0] == ranks[1]
    assert [len(drawn) for drawn in ranks[0]] == [6, 6, 6]


def test_builds_from_a_config() -> None:
    config = dict(
        type='resformer_mm.ResolutionBatchSampler',
        sampler=DefaultSampler(Numbers(8), seed=0),
        batch_size=4,
        resolutions=[48, 32],
    )
    assert len(list(DATA_SAMPLERS.build(config))) == 2


def test_an_epoch_schedule_needs_epochs() -> None:
    with pytest.raises(ValueError, match='SequentialSampler'):
        sampler(kind=EpochResolutionBatchSampler, inner=SequentialSampler(Numbers(8)))
    assert resolutions(sampler(inner=SequentialSampler(Numbers(8))))


@pytest.mark.parametrize('bad', [[], [0], [32, 64], [64, 64], '64'], ids=str)
def test_bad_resolutions(bad) -> None:
    with pytest.raises(ValueError, match='batch_sampler.resolutions'):
        ResolutionBatchSampler(SequentialSampler(Numbers(8)), 4, bad)


# The sequences of a seed


def test_draws_are_those_of_numpys_generator() -> None:
    """One for every batch, from a generator of the seed and the epoch; an epoch has the first of them."""
    for epoch in range(4):
        rng = np.random.default_rng([5, epoch])
        expected = [RESOLUTIONS[rng.integers(3)] for _ in range(10)]
        assert resolutions(sampler(seed=5), epoch) == expected
        assert resolutions(sampler(seed=5, kind=EpochResolutionBatchSampler), epoch) == expected[:1] * 10


@BOTH
def test_two_loaders_over_one_sampler_do_not_disturb_each_other(kind: type) -> None:
    batches = sampler(kind=kind)
    expected = resolutions(batches)
    pairs = list(zip(batches, batches))
    assert [[one[0].resolution for one in pair] for pair in pairs] == [[value] * 2 for value in expected]


# Weights


@pytest.mark.slow
@BOTH
def test_draws_follow_the_weights(kind: type) -> None:
    batches = sampler(length=8, batch_size=4, weights=[1, 0, 3], kind=kind)
    counts = Counter(resolutions(batches, epoch)[0] for epoch in range(2000))
    assert counts[48] == 0 and abs(counts[64] - 500) < 80  # four standard deviations
    assert sum(counts.values()) == 2000


@pytest.mark.parametrize('bad', [[1, 1], [1, -1, 1], [1, float('nan'), 1], [1, float('inf'), 1], 2], ids=str)
def test_bad_weights(bad) -> None:
    with pytest.raises(ValueError, match=r'batch_sampler\.weights = .*\[64, 48, 32\]'):
        sampler(weights=bad)
    with pytest.raises(ValueError, match=r'batch_sampler\.weights are all zero'):
        sampler(weights=[0, 0, 0])


# A schedule of the user


class Growing(ResolutionBatchSampler):
    """Small images in the first epochs, and in the first batch of every other."""

    def draw(self, rng: np.random.Generator, epoch: int, batch: int) -> int:
        return self.resolutions[-1] if epoch < 2 or batch == 0 else super().draw(rng, epoch, batch)


def test_a_schedule_is_one_method() -> None:
    batches = sampler(kind=Growing)
    assert resolutions(batches, 0) == resolutions(batches, 1) == [32] * 10
    later = [resolutions(batches, epoch) for epoch in range(2, 12)]
    assert {drawn[0] for drawn in later} == {32} and {drawn[1] for drawn in later} == set(RESOLUTIONS)
    assert resolutions(sampler(kind=Growing), 7) == later[5]


def test_a_schedule_must_draw_from_the_list() -> None:
    class Wrong(ResolutionBatchSampler):
        def draw(self, rng: np.random.Generator, epoch: int, batch: int) -> int:
            return 40 if batch == 1 else 32

    batches = iter(sampler(kind=Wrong))
    assert next(batches)[0].resolution == 32
    with pytest.raises(ValueError, match=r'Wrong\.draw returned 40 for batch 1 of epoch 0.*\[64, 48, 32\]'):
        next(batches)


# The list of resolutions is that of the transform


class Images(Numbers):
    """A data set with the pipeline of MMEngine's data sets."""

    def __init__(self, drawn: list[int] | None) -> None:
        super().__init__(8)
        transforms = [SimpleNamespace()]
        if drawn is not None:
            transforms.append(SimpleNamespace(resolutions=drawn))
        self.pipeline = SimpleNamespace(transforms=transforms)


@pytest.mark.parametrize('inner', [DefaultSampler, RepeatAugSampler])
@pytest.mark.parametrize('drawn', [[64, 32], [64, 64, 32]], ids=str)
def test_the_list_is_taken_from_the_transform(inner: type, drawn: list[int]) -> None:
    batches = ResolutionBatchSampler(inner(Images(drawn), seed=0), 4)
    assert batches.resolutions == [64, 32]
    assert ResolutionBatchSampler(inner(Images(drawn), seed=0), 4, [64, 32]).resolutions == [64, 32]


@pytest.mark.parametrize('wrong', [[64, 48], [64], [64, 48, 32]], ids=str)
def test_two_lists_that_differ_are_refused_before_the_first_step(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match=r'batch_sampler\.resolutions = .*SimpleNamespace\.resolutions'):
        ResolutionBatchSampler(DefaultSampler(Images([64, 32])), 4, wrong)


def test_without_any_list() -> None:
    for dataset in (Images(None), Numbers(8)):
        with pytest.raises(ValueError, match=r'batch_sampler\.resolutions is missing.*MultiResolution'):
            ResolutionBatchSampler(DefaultSampler(dataset), 4)


class Listed(BaseDataset):
    """A data set of MMEngine with four samples."""

    def load_data_list(self) -> list[dict]:
        return [{} for _ in range(4)]


def test_a_wrapped_data_set_is_refused_since_it_loses_the_resolution() -> None:
    dataset = Listed(pipeline=[lambda sample: getattr(sample['sample_idx'], 'resolution', 'lost')])
    wrapped = RepeatDataset(dataset, 2)
    assert dataset[ResolutionIndex(3, 32)] == 32 and wrapped[ResolutionIndex(3, 32)] == 'lost'
    with pytest.raises(ValueError, match='RepeatDataset does not pass on'):
        ResolutionBatchSampler(DefaultSampler(wrapped), 4)
