"""A data loader that decodes every image once for several resolutions."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from torch import Tensor
from torch.utils.data import DataLoader

from .failures import add_names, path_of
from .resolution_loaders import changed_loader, dataset_at_resolution, returning, with_pipelines

SMALL = 1 << 14
"""Tensors of fewer bytes are passed between processes by value."""
# Packages whose data sets pass on what the pipeline returns.
_KNOWN = ('mmengine', __name__.partition('.')[0])


class ForkedPipeline:
    """The pipelines of data sets that begin alike: the common transforms run once per sample.

    Transforms that are removed from the data sets are left out here, too. Errors name the file of the sample.

    Args:
        datasets: data sets of MMEngine that differ in their pipelines alone.
        pipelines: configs of their pipelines.
    """

    def __init__(self, datasets: Sequence[Any], pipelines: Sequence[list]) -> None:
        number = 0
        while number < min(map(len, pipelines)) and all(
            pipeline[number] == pipelines[0][number] for pipeline in pipelines
        ):
            number += 1
        self.datasets = list(datasets)
        self._common = [transform for dataset in datasets for transform in _transforms(dataset)[:number]]

    def __call__(self, data: dict) -> list | None:
        """Return what every pipeline makes of a sample; None if a transform skipped it."""
        path = path_of(data)
        try:
            return self._made(data)
        except Exception as error:
            add_names(error, [path])
            raise

    def _made(self, data: dict) -> list | None:
        common = [transform for transform in _transforms(self.datasets[0]) if self._is_common(transform)]
        results = _applied(common, data)
        if results is None:
            return None
        made = []
        for dataset in self.datasets:
            separate = [transform for transform in _transforms(dataset) if not self._is_common(transform)]
            # Transforms change pixels and annotations in place; the last ones may have the original.
            own = results if dataset is self.datasets[-1] else copy.deepcopy(results)
            made.append(_applied(separate, own))
        return None if any(sample is None for sample in made) else made

    def _is_common(self, transform: Callable) -> bool:
        return any(transform is other for other in self._common)


def _transforms(dataset: Any) -> list[Callable]:
    return list(dataset.pipeline.transforms)


def _applied(transforms: Sequence[Callable], results: Any) -> Any:
    for transform in transforms:
        results = transform(results)
        if results is None:
            return None
    return results


class ForkedCollate:
    """Collates the samples of a :class:`ForkedPipeline` to batches of every pipeline.

    Args:
        collates: collate function of every pipeline.
        batch_sizes: batch size of every pipeline.
    """

    def __init__(self, collates: Sequence[Callable], batch_sizes: Sequence[int]) -> None:
        self.collates, self.batch_sizes = list(collates), list(batch_sizes)

    def __call__(self, samples: Sequence[list]) -> Batches:
        """Return the list of batches of every pipeline."""
        return Batches(
            [
                [collate(list(made[start : start + size])) for start in range(0, len(made), size)]
                for made, collate, size in zip(zip(*samples), self.collates, self.batch_sizes)
            ]
        )


class Batches(list):
    """Batches of every pipeline, which pass to another process with few open files.

    PyTorch opens a file for every tensor. The labels of 128 samples at ten resolutions would be more than a
    process may open, so small tensors are passed by value.
    """

    def __reduce__(self) -> tuple:
        """Return how to restore the batches from a text and the large tensors."""
        stream = io.BytesIO()
        pickler = _Pickler(stream)
        pickler.dump(list(self))
        return _restored, (stream.getvalue(), pickler.large)

    def __copy__(self) -> Batches:
        """Return a shallow copy, as PyTorch makes it before it pins memory."""
        return Batches(self)


class _Pickler(pickle.Pickler):
    """Pickles small tensors as arrays, and refers to large ones by their number."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.large: list[Tensor] = []

    def persistent_id(self, value: Any) -> int | None:
        if type(value) is not Tensor or (value.nbytes < SMALL and value.dtype != torch.bfloat16):
            return None
        self.large.append(value)
        return len(self.large) - 1

    def reducer_override(self, value: Any) -> Any:
        if type(value) is Tensor:
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, large: list[Tensor]) -> None:
        super().__init__(io.BytesIO(content))
        self.large = large

    def persistent_load(self, number: int) -> Tensor:
        return self.large[number]


def _restored(content: bytes, large: list[Tensor]) -> Batches:
    return Batches(_Unpickler(content, large).load())


def shared_loader(
    config: Mapping, loaders: Mapping[int, DataLoader], build: Callable[[dict], DataLoader]
) -> DataLoader | None:
    """Return a loader whose samples are decoded once, and that yields :class:`Batches` of every resolution.

    The batches are those of the loaders of single resolutions. Workers hold the batches of all resolutions at
    once, so they prepare one list of them ahead instead of PyTorch's two.

    Args:
        config: config of the data loader; its batch size is a multiple of those of the loaders.
        loaders: resolution -> loader, from
            :func:`~resformer_mm.engine.resolution_loaders.loaders_at_resolutions`.
        build: function that builds a loader from a config.

    Returns:
        The loader; None if a data set does more with its samples than the pipeline, so it cannot be shared.
    """
    alternatives = [dataset_at_resolution(config['dataset'], resolution) for resolution in loaders]
    dataset = with_pipelines([loader.dataset for loader in loaders.values()], alternatives, _forked)
    if dataset is None:
        return None
    collate = ForkedCollate(
        [loader.collate_fn for loader in loaders.values()],
        # Without a size, a batch sampler forms the batches.
        [loader.batch_size or sys.maxsize for loader in loaders.values()],
    )
    changes = dict(dataset=returning(dataset), collate_fn=collate)
    if config.get('num_workers'):
        changes['prefetch_factor'] = 1
    return build(changed_loader(config, **changes))


def _forked(datasets: Sequence[Any], pipelines: list[list]) -> ForkedPipeline | None:
    kind = type(datasets[0])
    is_known = issubclass(kind, BaseDataset) and all(
        method.__module__.partition('.')[0] in _KNOWN for method in (kind.prepare_data, kind.__getitem__)
    )
    return ForkedPipeline(datasets, pipelines) if is_known else None
