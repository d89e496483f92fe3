"""Batch samplers that draw one resolution per batch or epoch (paper, Table 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from mmengine.dist import sync_random_seed
from torch.utils.data import BatchSampler, Sampler

from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.registry import DATA_SAMPLERS

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset as Data
else:
    Data = object

FIELD = 'batch_sampler.resolutions'


class ResolutionIndex(int):
    """Index of a sample, with the resolution in pixels at which to load it."""

    resolution: int

    def __new__(cls, index: int, resolution: int) -> ResolutionIndex:
        """Return an index with a resolution."""
        self = super().__new__(cls, index)
        self.resolution = resolution
        return self

    def __reduce__(self) -> tuple[type[ResolutionIndex], tuple[int, int]]:
        """Return what pickle rebuilds the index from in worker processes."""
        return type(self), (int(self), self.resolution)


@DATA_SAMPLERS.register_module()
class ResolutionBatchSampler(BatchSampler):
    """Draw one resolution for every batch, the same on all ranks.

    The draw depends on the seed, the epoch and the number of the batch only, so all ranks agree without
    communication, and a resumed run continues with the same sequence. For another schedule, override
    :meth:`draw` in a subclass.

    Args:
        sampler: sampler of the data set, configured as ``train_dataloader.sampler``.
        batch_size: number of samples of a batch on this rank.
        resolutions: resolutions to draw from, in pixels, high to low; by default those of the
            ``MultiResolution`` transform of the data set. Both must be the same.
        weights: relative frequency of each resolution; by default all are drawn equally often.
        drop_last: whether an incomplete last batch is dropped.
        seed: seed of the draw; by default one that all ranks share.

    Raises:
        ValueError: resolutions or weights are missing, malformed or disagree with the transform; or the data
            set is inside a wrapper, which passes on plain indices without the resolution.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        resolutions: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
        drop_last: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.resolutions = _agreed_resolutions(resolutions, getattr(sampler, 'dataset', None))
        self.probabilities = None if weights is None else _normalised(weights, self.resolutions)
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of indices, each a :class:`ResolutionIndex`.

        Raises:
            ValueError: :meth:`draw` returns something that is not among the resolutions.
        """
        epoch = getattr(self.sampler, 'epoch', 0)
        rng = np.random.default_rng([self.seed, epoch])
        for number, batch in enumerate(super().__iter__()):
            resolution = self.draw(rng, epoch, number)
            if resolution not in self.resolutions:
                raise ValueError(
                    f'{type(self).__name__}.draw returned {resolution!r} for batch {number} of epoch '
                    f'{epoch}, which is not among {FIELD} = {self.resolutions}'
                )
            yield [ResolutionIndex(index, resolution) for index in batch]

    def draw(self, rng: np.random.Generator, epoch: int, batch: int) -> int:
        """Return the resolution of a batch, one of ``self.resolutions``.

        A subclass may use any of the arguments. Ranks agree as long as it uses nothing else.

        Args:
            rng: random generator of this epoch, in the same state on all ranks.
            epoch: number of the epoch, from 0.
            batch: number of the batch in the epoch, from 0.
        """
        if self.probabilities is None:
            return self.resolutions[rng.integers(len(self.resolutions))]
        return self.resolutions[rng.choice(len(self.resolutions), p=self.probabilities)]


@DATA_SAMPLERS.register_module()
class EpochResolutionBatchSampler(ResolutionBatchSampler):
    """Draw one resolution for every epoch, the same on all ranks.

    Args:
        sampler: sampler of the data set, which must have ``set_epoch``.
        *args: see :class:`ResolutionBatchSampler`.
        **kwargs: see :class:`ResolutionBatchSampler`.

    Raises:
        ValueError: the sampler does not have it.
    """

    def __init__(self, sampler: Sampler, *args, **kwargs) -> None:
        if not hasattr(sampler, 'set_epoch'):
            raise ValueError(
                f'{type(self).__name__} needs a sampler with epochs, not {type(sampler).__name__}: set e.g. '
                "train_dataloader.sampler=dict(type='DefaultSampler', shuffle=True)"
            )
        super().__init__(sampler, *args, **kwargs)

    def draw(self, rng: np.random.Generator, epoch: int, batch: int) -> int:
        """Return the resolution of the epoch: every batch repeats the same draw."""
        return super().draw(np.random.default_rng([self.seed, epoch]), epoch, 0)


def _agreed_resolutions(resolutions: Sequence[int] | None, dataset: object) -> list[int]:
    """Return the resolutions of the sampler, checked against the transform of the data set."""
    if getattr(dataset, 'dataset', None) is not None or getattr(dataset, 'datasets', None) is not None:
        raise ValueError(
            f'train_dataloader.batch_sampler draws resolutions, which {type(dataset).__name__} does not pass '
            'on to the data set inside it: set train_dataloader.dataset to that data set itself'
        )
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    transform = next((item for item in transforms if hasattr(item, 'resolutions')), None)
    if resolutions is None:
        if transform is None:
            raise ValueError(
                f'{FIELD} is missing, and train_dataloader.dataset.pipeline has no MultiResolution transform '
                'to take it from: add the transform, or give the list if the resolutions are used elsewhere'
            )
        return list(dict.fromkeys(transform.resolutions))
    resolutions = check_resolutions(resolutions, FIELD)
    if transform is not None and set(resolutions) != set(transform.resolutions):
        raise ValueError(
            f'train_dataloader.{FIELD} = {resolutions}, but {type(transform).__name__}.resolutions of '
            f'train_dataloader.dataset.pipeline = {list(transform.resolutions)}: leave the former out'
        )
    return resolutions


def _normalised(weights: Sequence[float], resolutions: Sequence[int]) -> np.ndarray:
    """Return the weights as probabilities."""
    values = np.asarray(weights, dtype=float)
    if values.shape != (len(resolutions),) or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            f'batch_sampler.weights = {weights!r} must be a list of numbers that are not negative, one for '
            f'each of the resolutions {resolutions}'
        )
    if not values.any():
        raise ValueError('batch_sampler.weights are all zero: give a positive one to at least one resolution')
    return values / values.sum()


class KeepResolution(Data):
    """Keeps the resolution of the batch when a skipped sample is replaced; a mixin before a data set.

    Data sets of MMEngine draw another sample if the pipeline returns None.
    """

    def __getitem__(self, index: int) -> dict:
        """Return a sample, or another one at the same resolution if it is skipped."""
        self._wanted = index
        return super().__getitem__(index)

    def _rand_another(self) -> int:
        index = super()._rand_another()
        if isinstance(self._wanted, ResolutionIndex):
            return ResolutionIndex(index, self._wanted.resolution)
        return index
