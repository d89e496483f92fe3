"""One resolution per batch or per epoch, the same on all ranks."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import RepeatAugSampler
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from resformer_mm.datasets.samplers import ResolutionBatchSampler, ResolutionIndex
from resformer_mm.registry import DATA_SAMPLERS

RESOLUTIONS = (64, 48, 32)


class Numbers(Dataset):
    """Index and wanted resolution of every sample, as a worker process sees them."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, getattr(index, 'resolution', 0)])


def sampler(length: int = 40, batch_size: int = 4, seed: int | None = 0, **kwargs) -> ResolutionBatchSampler:
    inner = kwargs.pop('inner', None) or DefaultSampler(Numbers(length), shuffle=True, seed=0)
    return ResolutionBatchSampler(inner, batch_size, RESOLUTIONS, seed=seed, **kwargs)


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
    batches = sampler(schedule='epoch')
    epochs = [resolutions(batches, epoch) for epoch in range(30)]
    assert all(len(set(drawn)) == 1 for drawn in epochs)
    assert {drawn[0] for drawn in epochs} == set(RESOLUTIONS)


@pytest.mark.parametrize('schedule', ['iteration', 'epoch'])
def test_draws_are_uniform(schedule: str) -> None:
    batches = sampler(length=120, schedule=schedule, inner=DefaultSampler(Numbers(120), seed=0))
    counts = Counter()
    for epoch in range(50 if schedule == 'iteration' else 1500):
        if schedule == 'iteration':
            counts.update(resolutions(batches, epoch))
        else:
            batches.sampler.set_epoch(epoch)
            counts[next(iter(batches))[0].resolution] += 1
    assert sum(counts.values()) == 1500
    assert all(abs(count - 500) < 75 for count in counts.values())  # four standard deviations


def on_rank(monkeypatch: pytest.MonkeyPatch, module: str, rank: int) -> None:
    monkeypatch.setattr(f'{module}.get_dist_info', lambda: (rank, 2))


@pytest.mark.parametrize('schedule', ['iteration', 'epoch'])
def test_all_ranks_draw_the_same(monkeypatch: pytest.MonkeyPatch, schedule: str) -> None:
    ranks, indices = [], []
    for rank in range(2):
        on_rank(monkeypatch, 'mmengine.dataset.sampler', rank)
        # Whatever else the process drew at random does not matter.
        torch.manual_seed(rank)
        batches = sampler(schedule=schedule)
        ranks.append([resolutions(batches, epoch) for epoch in range(5)])
        indices.append([int(index) for batch in batches for index in batch])
    assert ranks[0] == ranks[1]
    assert len(indices[0]) == 20 and not set(indices[0]) & set(indices[1])


@pytest.mark.parametrize('schedule', ['iteration', 'epoch'])
def test_a_resumed_run_goes_on_with_the_same_sequence(schedule: str) -> None:
    through = sampler(schedule=schedule)
    expected = [resolutions(through, epoch) for epoch in range(6)]
    resumed = sampler(schedule=schedule)
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


@pytest.mark.parametrize('schedule', ['step', None, ''])
def test_unknown_schedule(schedule) -> None:
    with pytest.raises(ValueError, match='batch_sampler.schedule=.*iteration.*epoch'):
        sampler(schedule=schedule)


def test_an_epoch_schedule_needs_epochs() -> None:
    with pytest.raises(ValueError, match='SequentialSampler'):
        sampler(schedule='epoch', inner=SequentialSampler(Numbers(8)))
    assert resolutions(sampler(inner=SequentialSampler(Numbers(8))))


@pytest.mark.parametrize('bad', [[], [0], [32, 64], [64, 64], '64'], ids=str)
def test_bad_resolutions(bad) -> None:
    with pytest.raises(ValueError, match='batch_sampler.resolutions'):
        ResolutionBatchSampler(SequentialSampler(Numbers(8)), 4, bad)
