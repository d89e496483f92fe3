"""Which resolution a batch has, for the strategies that train on one at a time (paper, Table 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dist import sync_random_seed
from torch.utils.data import BatchSampler, Sampler

from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.registry import DATA_SAMPLERS

SCHEDULES = ('iteration', 'epoch')


class ResolutionIndex(int):
    """Index of a sample that also says at which resolution the sample is wanted."""

    def __new__(cls, index: int, resolution: int) -> ResolutionIndex:
        """Make an index for a resolution in pixels."""
        self = super().__new__(cls, index)
        self.resolution = resolution
        return self

    def __getnewargs__(self) -> tuple[int, int]:
        """Return what pickle rebuilds it from, on the way to worker processes."""
        return int(self), self.resolution


@DATA_SAMPLERS.register_module()
class ResolutionBatchSampler(BatchSampler):
    """Draw one resolution for every batch, or for every epoch, the same on all ranks.

    The draw is uniform and depends on the seed, the epoch and the place of the batch alone, so that all
    ranks agree without communication and a resumed run goes on with the same sequence.

    Args:
        sampler: sampler of the dataset; give a config as ``train_dataloader.sampler``.
        batch_size: number of samples of a batch on this rank.
        resolutions: resolutions to draw from, those of the ``MultiResolution`` transform.
        schedule: 'iteration' draws for every batch, 'epoch' for every epoch.
        drop_last: whether an incomplete last batch is dropped.
        seed: seed of the draw; None takes one that all ranks share.

    Raises:
        ValueError: the schedule is unknown or does not go with the sampler.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        resolutions: Sequence[int],
        schedule: str = 'iteration',
        drop_last: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        if schedule not in SCHEDULES:
            raise ValueError(f'batch_sampler.schedule={schedule!r} is unknown: choose from {SCHEDULES}')
        if schedule == 'epoch' and not hasattr(sampler, 'set_epoch'):
            raise ValueError(
                f"batch_sampler.schedule='epoch' needs a sampler with epochs, not {type(sampler).__name__}"
            )
        self.resolutions = check_resolutions(resolutions, 'batch_sampler.resolutions')
        self.schedule = schedule
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self) -> Iterator[list[ResolutionIndex]]:
        """Yield batches of indices that carry the resolution."""
        rng = np.random.default_rng([self.seed, getattr(self.sampler, 'epoch', 0)])
        resolution = self._draw(rng)
        for batch in super().__iter__():
            yield [ResolutionIndex(index, resolution) for index in batch]
            if self.schedule == 'iteration':
                resolution = self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> int:
        return self.resolutions[rng.integers(len(self.resolutions))]


class KeepResolution:
    """A mixin before a data set of MMEngine, which draws another sample where the pipeline skipped one."""

    def __getitem__(self, index: int) -> dict:
        """Return a sample; its stand-in, should it be skipped, keeps the resolution of the batch."""
        self._wanted = index
        return super().__getitem__(index)

    def _rand_another(self) -> int:
        index = super()._rand_another()
        if isinstance(self._wanted, ResolutionIndex):
            return ResolutionIndex(index, self._wanted.resolution)
        return index
