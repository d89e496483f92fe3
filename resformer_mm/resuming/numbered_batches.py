"""Batches whose contents depend on their number alone, so that a run can start at any of them.

MMEngine draws the augmentation of a sample from generators that go on from sample to sample, in the main
process or in each worker. Their states in the middle of an epoch are not known outside of a worker. Here,
they are seeded for every sample, by the seed of the run, the epoch and the position of the sample in it. So
batches depend neither on what was loaded before nor on the number of workers, and those of the first part of
an epoch are skipped without being read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_world_size
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from resformer_mm.repairs import remark

from .random_states import preserved_states, seed_generators

_NO_BATCHES = (
    'train_dataloader: the sampler yields no batches: lower its batch_size, or set drop_last=False where the '
    'data set has fewer samples'
)


class NumberedBatch(list):
    """Indices of a batch.

    Attributes:
        epoch: number of the pass over the data.
        start: number of samples of this process in the batches before it.
    """

    epoch: int
    start: int


class NumberedBatches(BatchSampler):
    """The batches of another sampler, numbered, from any of them on.

    Args:
        batch_sampler: sampler of batches.

    Attributes:
        epoch: number of the next pass over the data.
        first: number of the batch that the next pass starts with; those before it are drawn, but not read.
        is_open: whether batches are given out. Some versions of MMEngine start loading in the constructor of
            a loop, when it is not known yet where a resumed run starts.
    """

    def __init__(self, batch_sampler: Any) -> None:
        self.batch_sampler = batch_sampler
        self.epoch = 0
        self.first = 0
        self.is_open = False
        self._length: int | None = None
        self._started: Iterator[list[int]] | None = None
        self._start = 0
        self._skipped = 0

    def agree(self) -> None:
        """Let all processes have as many batches in a pass as the one with the fewest.

        Otherwise, the others would wait for that one in the step after its last, and their schedules would
        differ. Call it in all processes; the sampler must end.

        Raises:
            ValueError: a process has none.
        """
        self._length = _fewest(all_gather_object(len(self.batch_sampler)))

    def skip(self, number: int) -> int:
        """Draw the first batches of the next pass, but do not give them out.

        Returns their number, which is less than ``number`` if there are no more.
        """
        self._started = iter(self.batch_sampler)
        sizes = [len(batch) for batch in islice(self._started, number)]
        self._start, self._skipped = sum(sizes), len(sizes)
        return len(sizes)

    def __iter__(self) -> Iterator[NumberedBatch]:
        """Yield the batches of one pass, or what is left of it."""
        if not self.is_open:
            return
        if self._started is None:
            self.skip(self.first)
        batches, start, epoch = self._started, self._start, self.epoch
        assert batches is not None
        self._started, self.first, self.epoch = None, 0, epoch + 1
        if self._length is not None and get_world_size() > 1:
            batches = iter(_as_many_everywhere(list(batches), self._skipped))
        for indices in batches:
            batch = NumberedBatch(indices)
            batch.epoch, batch.start = epoch, start
            start += len(batch)
            yield batch

    def __len__(self) -> int:
        """Return the number of batches of a whole pass."""
        return len(self.batch_sampler) if self._length is None else self._length

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the sampler, such as ``sampler`` or ``batch_size``."""
        if name == 'batch_sampler':  # while it is copied
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)


def _as_many_everywhere(rest: list, skipped: int) -> list:
    """Return the first of the batches that are left in a pass, as many as every process has."""
    numbers = all_gather_object(skipped + len(rest))
    return rest[: _fewest(numbers) - skipped]


def _fewest(numbers: list[int]) -> int:
    """Return the smallest number of batches, and tell if some processes have more.

    Raises:
        ValueError: it is zero.
    """
    fewest, most = min(numbers), max(numbers)
    if fewest == 0:
        raise ValueError(
            f'train_dataloader: the numbers of batches in the processes are {numbers}, so there is none to '
            'train on: lower batch_size or the number of processes, or set drop_last=False'
        )
    if fewest < most:
        remark('train_dataloader', f'{fewest} batches are used of each process, which have up to {most}')
    return fewest


class SeededReads:
    """Reads the samples of a :class:`NumberedBatch`, each with its own seed.

    Args:
        dataset: the data set.
        seed: seed of the run.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, dataset: Any, seed: int, rank: int, world_size: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    def __call__(self, batch: list) -> list:
        """Return the samples; the generators of the process stay as they were."""
        if not isinstance(batch, NumberedBatch):
            return [self.dataset[index] for index in batch]
        samples = []
        with preserved_states():
            for place, index in enumerate(batch):
                # Samplers deal out indices like cards. So this is the place in the order of all processes,
                # which does not depend on their number.
                position = (batch.start + place) * self.world_size + self.rank
                seed_generators(self.seed, batch.epoch, position)
                samples.append(self.dataset[index])
        return samples


def number_batches(loader: DataLoader, seed: int, rank: int, world_size: int) -> NumberedBatches | None:
    """Make a loader read :class:`NumberedBatches`, in place; return them.

    Returns None, and changes nothing, if the data set has no indices, or fetches whole batches by itself.
    """
    dataset: Any = loader.dataset
    if loader.batch_sampler is None or isinstance(dataset, IterableDataset):
        return None
    if hasattr(type(dataset), '__getitems__'):
        return None
    batches = NumberedBatches(loader.batch_sampler)
    # A loader refuses to be changed. A new one with this sampler would not know the size of its batches,
    # which MMEngine scales the learning rate by.
    object.__setattr__(loader, 'batch_sampler', batches)
    dataset.__getitems__ = SeededReads(dataset, seed, rank, world_size)
    # The seed that a loader draws for its workers does not come from the generator of the model.
    loader.generator = torch.Generator().manual_seed(seed)
    return batches


class EndlessBatches:
    """Batches of one pass after another, for a loop that counts iterations; replaces MMEngine's iterator.

    MMEngine takes all batches before the iteration of a resumed run. Here, they are only counted.

    Args:
        loader: the loader.
        batches: its batches.
        done: number of batches that the run has trained on.
    """

    def __init__(self, loader: DataLoader, batches: NumberedBatches, done: int) -> None:
        self._loader = loader
        self._batches = batches
        self._to_skip = done
        self._iterator: Iterator = iter(())
        batches.epoch = 0
        while done:
            self._set_epoch()
            skipped = batches.skip(done)
            if skipped == done:
                break
            if skipped == 0:
                raise ValueError(_NO_BATCHES)
            done -= skipped
            batches.epoch += 1

    def __iter__(self) -> EndlessBatches:
        """Return itself."""
        return self

    def skip_iter(self, number: int) -> None:
        """Skip batches, as a resumed loop asks for: the first batch is already the right one."""
        self._to_skip = 0

    def __next__(self) -> Any:
        """Return the next batch, or nothing for a batch that is skipped.

        Raises:
            ValueError: there are no batches.
        """
        if self._to_skip:
            self._to_skip -= 1
            return None
        for _ in range(3):  # what is left of a pass may be empty, but not a whole one
            for batch in self._iterator:
                return batch
            self._set_epoch()
            self._iterator = iter(self._loader)
        raise ValueError(_NO_BATCHES)

    def _set_epoch(self) -> None:
        set_epoch = getattr(self._batches.sampler, 'set_epoch', None)
        if set_epoch is not None:
            set_epoch(self._batches.epoch)
