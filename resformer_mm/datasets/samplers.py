"""Batch samplers that draw one resolution per batch or epoch (paper, Table 7), or several per batch.

A schedule of resolutions is a :class:`ResolutionBatchSampler` with a :meth:`~ResolutionBatchSampler.draw` of
its own. Weights and the number of images at each resolution are arguments of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from mmengine.dist import sync_random_seed
from torch.utils.data import BatchSampler, Sampler

from resformer_mm.config.resolutions import check_resolutions, list_resolutions
from resformer_mm.registry import DATA_SAMPLERS

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset as Data
else:
    Data = object

NAME = 'train_dataloader.batch_sampler'
FIELD = 'batch_sampler.resolutions'


class ResolutionIndex(int):
    """Index of a sample, with the resolutions in pixels at which to load it.

    Attributes:
        resolutions: one or several, high to low.
    """

    resolutions: tuple[int, ...]

    def __new__(cls, index: int, *resolutions: int) -> ResolutionIndex:
        """Return an index with resolutions."""
        self = super().__new__(cls, index)
        self.resolutions = resolutions
        return self

    @property
    def resolution(self) -> int:
        """The resolution, if there is one alone.

        Raises:
            ValueError: there are several.
        """
        (resolution,) = self.resolutions
        return resolution

    def __reduce__(self) -> tuple[type[ResolutionIndex], tuple[int, ...]]:
        """Return what pickle rebuilds the index from in worker processes."""
        return type(self), (int(self), *self.resolutions)


@DATA_SAMPLERS.register_module()
class ResolutionBatchSampler(BatchSampler):
    """Draw one resolution for every batch, the same on all ranks.

    The draw depends on the seed, the epoch and the number of the batch only, so all ranks agree without
    communication, and a resumed run continues with the same sequence. For another schedule, override
    :meth:`draw` in a subclass.

    Args:
        sampler: sampler of the data set, configured as ``train_dataloader.sampler``.
        batch_size: number of samples of a batch on this rank.
        resolutions: resolutions to draw from, in pixels, high to low, or a range
            ``dict(low=..., high=..., step=...)``; by default those of the ``MultiResolution`` transform of
            the data set. Both must be the same.
        weights: relative frequency of each resolution, or ``dict(mean=..., std=...)`` for a normal
            distribution over the resolutions, of which the smallest is at -1 and the largest at 1; by default
            all are drawn equally often. A mean of -0.5 and a standard deviation of 1 prefer small images, as
            in NaViT (Dehghani et al., 2023).
        drop_last: whether an incomplete last batch is dropped.
        seed: seed of the draw; by default one that all ranks share.
        batch_sizes: number of images of a batch that have a copy at each resolution, 1 to ``batch_size``; by
            default all. Those at a resolution with fewer images also have the copies at all drawn ones with
            more. Images of a batch that have no copy at all are not read; they have their turn in another
            epoch.

    Raises:
        ValueError: resolutions, weights or batch sizes are missing, malformed or disagree with the transform;
            or the data set is inside a wrapper, which passes on plain indices without the resolution.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        resolutions: Sequence[int] | Mapping[str, int] | None = None,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        drop_last: bool = False,
        seed: int | None = None,
        batch_sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.resolutions = _agreed_resolutions(resolutions, getattr(sampler, 'dataset', None))
        self.batch_sizes = _checked_sizes(batch_sizes, self.resolutions, batch_size)
        self.probabilities: np.ndarray | None = None
        self.set_weights(weights)
        self.seed = sync_random_seed() if seed is None else seed

    def set_weights(self, weights: Sequence[float] | Mapping[str, float] | None) -> None:
        """Set the weights of the following passes; see the argument of this name.

        Call it between two passes over the data, and with the same weights in all processes: a loader draws
        the batches of a pass before the model needs them.
        """
        self.probabilities = None if weights is None else _normalised(weights, self.resolutions)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of indices, each a :class:`ResolutionIndex`.

        Raises:
            ValueError: :meth:`draw` returns nothing, or something that is not among the resolutions.
        """
        epoch = getattr(self.sampler, 'epoch', 0)
        rng = np.random.default_rng([self.seed, epoch])
        for number, batch in enumerate(super().__iter__()):
            copies = self.draw_copies(rng, epoch, number, len(batch))
            yield [ResolutionIndex(index, *own) for index, own in zip(batch, copies) if own]

    def draw_copies(
        self, rng: np.random.Generator, epoch: int, batch: int, length: int
    ) -> Sequence[tuple[int, ...]]:
        """Return the resolutions of the copies of every image of a batch, high to low; () for none.

        If images have different copies, the first has those of the last, the second those of the last but
        one, and so on, because mixup and CutMix mix these pairs.

        Args:
            rng: see :meth:`draw`.
            epoch: see :meth:`draw`.
            batch: see :meth:`draw`.
            length: number of images of the batch.

        Raises:
            ValueError: :meth:`draw` returns nothing, or something that is not among the resolutions.
        """
        numbers = self._numbers(self.draw(rng, epoch, batch), f'batch {batch} of epoch {epoch}')
        if length < self.batch_size:  # the last batch, in which all parts are smaller
            numbers = {size: -(-number * length // self.batch_size) for size, number in numbers.items()}
        most = max(numbers.values())
        numbers = {size: number + (most - number) % 2 for size, number in numbers.items()}
        return [
            tuple(size for size, number in numbers.items() if _is_central(place, number, most, length))
            for place in range(length)
        ]

    def _numbers(self, drawn: int | Sequence[int] | Mapping[int, int], where: str) -> dict[int, int]:
        """Return resolution -> number of images of a whole batch, resolutions high to low."""
        name = f'{type(self).__name__}.draw'
        sizes = [drawn] if isinstance(drawn, (int, np.integer)) else list(drawn)
        if not set(sizes) <= set(self.resolutions) or len(set(sizes)) < len(sizes):
            raise ValueError(
                f'{name} returned {drawn!r} for {where}, which is not among {FIELD} = {self.resolutions}'
            )
        if not sizes:
            raise ValueError(f'{name} returned no resolution for {where}')
        numbers = (
            dict(drawn) if isinstance(drawn, Mapping) else {size: self._own_size(size) for size in sizes}
        )
        for number in numbers.values():
            if not 1 <= number <= self.batch_size:
                raise ValueError(
                    f'{name} returned {drawn!r} for {where}: numbers of images are 1 to batch_size = '
                    f'{self.batch_size}'
                )
        return {int(size): int(numbers[size]) for size in sorted(sizes, reverse=True)}

    def _own_size(self, resolution: int) -> int:
        if self.batch_sizes is None:
            return self.batch_size
        return self.batch_sizes[self.resolutions.index(resolution)]

    def draw(
        self, rng: np.random.Generator, epoch: int, batch: int
    ) -> int | Sequence[int] | Mapping[int, int]:
        """Return the resolution of a batch, or several, out of ``self.resolutions``.

        A mapping of resolution -> number of images replaces ``batch_sizes`` for this batch. A subclass may
        use any of the arguments. Ranks agree as long as it uses nothing else.

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

    def draw(
        self, rng: np.random.Generator, epoch: int, batch: int
    ) -> int | Sequence[int] | Mapping[int, int]:
        """Return the resolution of the epoch: every batch repeats the same draw."""
        return super().draw(np.random.default_rng([self.seed, epoch]), epoch, 0)


@DATA_SAMPLERS.register_module()
class MultiResolutionBatchSampler(ResolutionBatchSampler):
    """Draw several different resolutions for every batch, the same on all ranks.

    A batch has a copy of every image at each of them, high to low, as with a fixed list of resolutions. They
    are drawn one after the other, each among those that are left, with probabilities in proportion to the
    weights.

    Args:
        sampler: see :class:`ResolutionBatchSampler`.
        batch_size: see :class:`ResolutionBatchSampler`.
        number: number of resolutions of a batch, those of ``keep`` included.
        keep: resolutions that every batch has, such as the largest, as the teacher of the others.
        **kwargs: see :class:`ResolutionBatchSampler`.

    Raises:
        ValueError: see :class:`ResolutionBatchSampler`; or ``number`` or ``keep`` does not fit the
            resolutions and the weights.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, number: int = 3, keep: Sequence[int] = (), **kwargs
    ) -> None:
        self.number = number
        self._requested = keep
        super().__init__(sampler, batch_size, **kwargs)

    def set_weights(self, weights: Sequence[float] | Mapping[str, float] | None) -> None:
        """Set the weights of the following passes; see the base class."""
        super().set_weights(weights)
        self.keep = check_kept(self._requested, self.resolutions)
        drawn = [resolution not in self.keep for resolution in self.resolutions]
        self._free = np.asarray(self.resolutions)[drawn]
        self._free_probabilities = None
        possible = len(self._free)
        if self.probabilities is not None:
            free = self.probabilities[drawn]
            possible = np.count_nonzero(free)
            self._free_probabilities = free / free.sum() if possible else None
        number, most = self.number, len(self.keep) + possible
        if isinstance(number, bool) or not isinstance(number, int) or not len(self.keep) < number <= most:
            raise ValueError(
                f'{NAME}.number = {number!r} must be an integer from {len(self.keep) + 1} to {most}: '
                f'{len(self.keep)} resolutions are kept, and {possible} of {self.resolutions} can be drawn'
            )

    def draw(
        self, rng: np.random.Generator, epoch: int, batch: int
    ) -> int | Sequence[int] | Mapping[int, int]:
        """Return the resolutions of a batch."""
        number = self.number - len(self.keep)
        drawn = rng.choice(self._free, number, replace=False, p=self._free_probabilities)
        return [*self.keep, *drawn.tolist()]


def check_kept(keep: Sequence[int], resolutions: Sequence[int]) -> list[int]:
    """Return the resolutions that every batch or image has.

    Raises:
        ValueError: they are not among the resolutions, or malformed.
    """
    kept = check_resolutions(keep, f'{NAME}.keep', descending=False) if keep not in ((), []) else []
    if wrong := [resolution for resolution in kept if resolution not in resolutions]:
        raise ValueError(f'{NAME}.keep contains {wrong[0]}, which is not among {resolutions}')
    return kept


def _is_central(place: int, number: int, most: int, length: int) -> bool:
    """Return whether an image is one of a number in the middle of those that have a copy.

    Args:
        place: place of the image in the batch.
        number: number of images in the middle.
        most: number of images that have a copy, which are in the middle of the batch.
        length: number of images of the batch.
    """
    first = (length - most) // 2 + (most - number) // 2
    return first <= place < first + number


def _checked_sizes(
    batch_sizes: Sequence[int] | None, resolutions: Sequence[int], batch_size: int
) -> list[int] | None:
    """Return the numbers of images at the resolutions, checked."""
    if batch_sizes is None:
        return None
    is_list = isinstance(batch_sizes, Sequence) and not isinstance(batch_sizes, str)
    sizes = list(batch_sizes) if is_list else []
    is_valid = all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in sizes)
    if len(sizes) != len(resolutions) or not is_valid:
        raise ValueError(
            f'{NAME}.batch_sizes = {batch_sizes!r} must be a list of positive integers, one for each of the '
            f'resolutions {list(resolutions)}'
        )
    if max(sizes) > batch_size:
        raise ValueError(
            f'{NAME}.batch_sizes = {sizes}: a copy has at most train_dataloader.batch_size = {batch_size} '
            'images'
        )
    return sizes


def _agreed_resolutions(resolutions: Sequence[int] | Mapping[str, int] | None, dataset: object) -> list[int]:
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
                'to take it from: add the transform, or give the list if the resolutions are used elsewhere. '
                'Segmentation and detection make their copies later, where they cannot be drawn'
            )
        return list(dict.fromkeys(transform.resolutions))
    resolutions = check_resolutions(list_resolutions(resolutions, FIELD), FIELD)
    if transform is not None and set(resolutions) != set(transform.resolutions):
        raise ValueError(
            f'train_dataloader.{FIELD} = {resolutions}, but {type(transform).__name__}.resolutions of '
            f'train_dataloader.dataset.pipeline = {list(transform.resolutions)}: leave the former out'
        )
    return resolutions


def _normalised(weights: Sequence[float] | Mapping[str, float], resolutions: Sequence[int]) -> np.ndarray:
    """Return the weights as probabilities."""
    if isinstance(weights, Mapping):
        return _normal_distribution(weights, resolutions)
    values = np.asarray(weights, dtype=float)
    if values.shape != (len(resolutions),) or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            f'batch_sampler.weights = {weights!r} must be a list of numbers that are not negative, one for '
            f'each of the resolutions {resolutions}'
        )
    if not values.any():
        raise ValueError('batch_sampler.weights are all zero: give a positive one to at least one resolution')
    return values / values.sum()


def _normal_distribution(settings: Mapping[str, float], resolutions: Sequence[int]) -> np.ndarray:
    """Return the probabilities of a normal distribution over places from -1, the smallest, to 1."""
    numbers = [settings.get(name) for name in ('mean', 'std')]
    if set(settings) != {'mean', 'std'} or not all(isinstance(value, (int, float)) for value in numbers):
        raise ValueError(
            f'batch_sampler.weights = {dict(settings)}: a normal distribution has the fields mean and std, '
            'e.g. dict(mean=-0.5, std=1.0)'
        )
    mean, std = settings['mean'], settings['std']
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        raise ValueError(
            f'batch_sampler.weights: mean = {mean} and std = {std} must be finite, and std positive'
        )
    low, high = min(resolutions), max(resolutions)
    places = 2 * (np.asarray(resolutions) - low) / max(high - low, 1) - 1
    exponents = -0.5 * ((places - mean) / std) ** 2
    densities = np.exp(exponents - exponents.max())
    return densities / densities.sum()


class KeepResolution(Data):
    """Keeps the resolutions of the batch when a skipped sample is replaced; a mixin before a data set.

    Data sets of MMEngine draw another sample if the pipeline returns None.
    """

    def __getitem__(self, index: int) -> dict:
        """Return a sample, or another one at the same resolutions if it is skipped."""
        self._wanted = index
        return super().__getitem__(index)

    def _rand_another(self) -> int:
        index = super()._rand_another()
        if isinstance(self._wanted, ResolutionIndex):
            return ResolutionIndex(index, *self._wanted.resolutions)
        return index
