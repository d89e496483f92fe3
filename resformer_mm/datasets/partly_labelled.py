"""A sampler for data sets of which a part has labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from resformer_mm.registry import DATA_SAMPLERS

FIELD = 'train_dataloader.sampler'


@DATA_SAMPLERS.register_module()
class PartlyLabelledSampler(Sampler):
    """Every batch has the same number of labelled samples, which come first, and of unlabelled ones.

    An epoch is one pass over the unlabelled samples, without those that do not fill a last batch. Labelled
    ones are repeated as often as it takes, each as often as the others. The order depends on seed and epoch
    alone, and processes share it, so a resumed run continues with the same batches. Batch samplers that draw
    resolutions can be used on top of it.

    Args:
        dataset: has ``num_labelled``, such as
            :class:`~resformer_mm.tasks.classification.few_labels.PartlyLabelledFolder`: its first samples.
        batch_size: number of samples of a batch of one process, that of the loader.
        labelled: how many of them have labels.
        seed: seed of the order; by default one that all processes share.

    Raises:
        ValueError: the data set has no ``num_labelled``; it has too few samples for a batch; or ``labelled``
            is not between 1 and ``batch_size`` - 1.
    """

    def __init__(self, dataset: Any, batch_size: int, labelled: int, seed: int | None = None) -> None:
        number = getattr(dataset, 'num_labelled', None)
        if number is None:
            raise ValueError(
                f'{FIELD} of type {type(self).__name__} needs a data set that is partly labelled, not '
                f'{type(dataset).__name__}: set train_dataloader.dataset to e.g. '
                'resformer_mm.PartlyLabelledFolder'
            )
        if not 0 < labelled < batch_size:
            raise ValueError(
                f'{FIELD}.labelled = {labelled} must be at least 1 and less than batch_size = {batch_size}'
            )
        self.rank, self.world_size = get_dist_info()
        self.num_labelled: int = number
        self.batch_size = batch_size
        self.labelled = labelled
        self.num_unlabelled = len(dataset) - self.num_labelled
        self.epoch = 0
        self.seed = sync_random_seed() if seed is None else seed
        self.num_batches = self.num_unlabelled // ((batch_size - labelled) * self.world_size)
        if not self.num_batches:
            raise ValueError(
                f'{FIELD}: {self.num_unlabelled} unlabelled samples do not fill a batch of '
                f'{batch_size - labelled} in each of {self.world_size} processes: lower batch_size'
            )

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch, which the order depends on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process, one batch after another."""
        rng = np.random.default_rng([self.seed, self.epoch])
        unlabelled = self.num_labelled + self._own(self.num_unlabelled, self.batch_size - self.labelled, rng)
        labelled = self._own(self.num_labelled, self.labelled, rng)
        yield from np.concatenate((labelled, unlabelled), axis=1).flatten().tolist()

    def _own(self, number: int, per_batch: int, rng: np.random.Generator) -> np.ndarray:
        """Return what this process takes of shuffled passes over samples, ``(batches, per_batch)``."""
        length = self.num_batches * per_batch * self.world_size
        passes = [rng.permutation(number) for _ in range(-(-length // number))]
        dealt = np.concatenate(passes)[:length].reshape(self.num_batches, per_batch, self.world_size)
        return dealt[:, :, self.rank]

    def __len__(self) -> int:
        """Return the number of indices of this process in an epoch."""
        return self.num_batches * self.batch_size
