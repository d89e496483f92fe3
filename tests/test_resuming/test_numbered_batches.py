"""Batches depend on their number alone, and those that are skipped are not read."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, IterableDataset

from resformer_mm.datasets.samplers import ResolutionBatchSampler, ResolutionIndex
from resformer_mm.resuming import numbered_batches
from resformer_mm.resuming.numbered_batches import EndlessBatches, NumberedBatches, number_batches
from resformer_mm.resuming.random_states import (
    capture_states,
    preserved_states,
    restore_states,
    seed_generators,
)


class Draws:
    """Samples that hold their index and draws of all generators."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple:
        self.read.append(int(index))
        resolution = getattr(index, 'resolution', 0)
        return int(index), resolution, random.random(), np.random.rand(), torch.rand(()).item()


def make(
    sampler: type = DefaultSampler, workers: int = 0, size: int = 10, **kwargs
) -> tuple[DataLoader, NumberedBatches]:
    dataset = Draws(size)
    loader = DataLoader(
        dataset,
        batch_size=3,
        sampler=sampler(dataset, shuffle=True, seed=5),
        num_workers=workers,
        collate_fn=list,
        **kwargs,
    )
    batches = number_batches(loader, seed=7, rank=0, world_size=1)
    assert batches is not None
    batches.is_open = True
    return loader, batches


def test_states_are_restored_exactly():
    seed_generators(1, 2)
    states = capture_states()
    first = random.random(), np.random.randn(), torch.rand(3)
    restore_states(states)
    assert (random.random(), np.random.randn()) == first[:2]
    assert torch.equal(torch.rand(3), first[2])


def test_states_survive_a_file_that_holds_tensors_and_plain_types_alone(tmp_path):
    np.random.randn()  # leaves a second number that the state must hold
    torch.save(capture_states(), tmp_path / 'states.pth')
    expected = random.random(), np.random.randn(), np.random.rand(), torch.rand(1).item()
    restore_states(torch.load(tmp_path / 'states.pth', weights_only=True))
    assert (random.random(), np.random.randn(), np.random.rand(), torch.rand(1).item()) == expected


def test_keys_give_unrelated_seeds():
    draws = set()
    for key in [(1, 2, 3), (1, 3, 2), (2, 1, 3), (1, 2, 4)]:
        seed_generators(*key)
        draws.add((random.random(), np.random.rand(), torch.rand(()).item()))
    assert len({value for draw in draws for value in draw}) == 12


@pytest.mark.parametrize('workers', [0, 2])
def test_a_late_start_gives_the_rest_of_the_pass(workers):
    whole = list(make()[0])
    loader, batches = make(workers=workers)
    batches.first = 2
    assert list(loader) == whole[2:]
    assert len(loader) == len(whole) == 4
    loader.dataset.read.clear()
    next_pass = list(loader)
    assert [[sample[0] for sample in batch] for batch in next_pass] == [
        [sample[0] for sample in batch] for batch in whole
    ]
    assert next_pass != whole  # another pass has other random numbers


def test_skipped_batches_are_not_read():
    loader, batches = make()
    batches.first = 3
    (last,) = loader
    assert loader.dataset.read == [sample[0] for sample in last]
    assert len(last) == 1


def test_reading_leaves_the_generators_of_the_process_alone():
    loader, _ = make()
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    expected = capture_states()
    list(loader)
    with preserved_states():
        torch.rand(1)
    assert torch.equal(capture_states()['torch'], expected['torch'])
    assert capture_states()['python'] == expected['python']
    assert torch.equal(capture_states()['numpy'][1], expected['numpy'][1])


def test_the_seed_of_a_sample_does_not_depend_on_the_number_of_processes():
    def samples(rank: int, world_size: int, batch_size: int) -> dict[int, tuple]:
        dataset = Draws(8)
        sampler = DefaultSampler(dataset, shuffle=True, seed=5)
        sampler.rank, sampler.world_size, sampler.num_samples = rank, world_size, 8 // world_size
        loader = DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=list)
        number_batches(loader, 7, rank, world_size).is_open = True
        return {sample[0]: sample for batch in loader for sample in batch}

    alone = samples(0, 1, 4)
    assert {**samples(0, 2, 2), **samples(1, 2, 2)} == alone


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
@pytest.mark.parametrize('done', [0, 3, 4, 9])
def test_endless_batches_continue(sampler, done):
    loader, batches = make(sampler)
    whole = list(islice(EndlessBatches(loader, batches, 0), 12))
    loader, batches = make(sampler)
    late = EndlessBatches(loader, batches, done)
    assert [next(late) for _ in range(done)] == [None] * done  # what a loop asks for to get there
    assert [next(late) for _ in range(12 - done)] == whole[done:]
    loader, batches = make(sampler)
    late = EndlessBatches(loader, batches, done)
    late.skip_iter(done)
    assert next(late) == whole[done]
    assert len(loader.dataset.read) == len(whole[done])


def test_a_sampler_without_batches_is_an_error():
    loader, batches = make(size=2, drop_last=True)
    with pytest.raises(ValueError, match='no batches'):
        next(EndlessBatches(loader, batches, 0))
    with pytest.raises(ValueError, match='no batches'):
        EndlessBatches(loader, batches, 1)


def test_resolutions_of_a_batch_sampler_are_kept():
    dataset = Draws(10)
    sampler = DefaultSampler(dataset, shuffle=True, seed=5)

    def loader() -> DataLoader:
        batch_sampler = ResolutionBatchSampler(sampler, 3, resolutions=[64, 48, 32], seed=1)
        return DataLoader(dataset, batch_sampler=batch_sampler, collate_fn=list)

    expected = [[sample[:2] for sample in batch] for batch in loader()]
    numbered = loader()
    batches = number_batches(numbered, 7, 0, 1)
    batches.is_open, batches.first = True, 1
    assert [[sample[:2] for sample in batch] for batch in numbered] == expected[1:]
    assert all(type(index) is ResolutionIndex for batch in batches for index in batch)
    assert batches.sampler is sampler


def test_nothing_is_read_before_it_is_known_where_to_start():
    loader, batches = make(workers=2)
    batches.is_open = False
    assert list(loader) == []


def test_streams_stay_as_they_are():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    assert number_batches(DataLoader(Stream()), 0, 0, 1) is None


@pytest.mark.parametrize('fewest', [2, 3, 0])
def test_all_processes_have_as_many_batches(monkeypatch, fewest):
    monkeypatch.setattr(numbered_batches, 'all_gather_object', lambda number: [number, fewest])
    monkeypatch.setattr(numbered_batches, 'get_world_size', lambda: 2)
    told = []
    monkeypatch.setattr(numbered_batches, 'remark', lambda *words: told.append(' '.join(words)))
    _, alone = make()
    expected = list(alone)  # 4 batches
    loader, batches = make()
    if fewest == 0:
        with pytest.raises(ValueError, match=r'numbers of batches in the processes are \[4, 0\]'):
            batches.agree()
        return
    batches.agree()
    assert len(loader) == fewest and list(batches) == expected[:fewest]
    assert told[0] == f'train_dataloader {fewest} batches are used of each process, which have up to 4'
    for skipped in (1, fewest):  # after the last step of an epoch, nothing is left of it
        assert batches.skip(skipped) == skipped
        assert list(batches) == expected[skipped:fewest]
