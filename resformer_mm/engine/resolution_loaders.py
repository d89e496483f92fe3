"""Data loaders of one data set at several resolutions, with the annotations read once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.dataset import Compose
from torch.utils.data import DataLoader

from resformer_mm.config.resolutions import check_resolutions, pipeline_at_resolution, pipeline_resolution

from .failures import NamingCompose


def loaders_at_resolutions(
    config: Mapping,
    resolutions: Sequence[int],
    build: Callable[[dict], DataLoader],
    batch_sizes: Mapping[int, int] | None = None,
) -> dict[int, DataLoader]:
    """Return one data loader per resolution.

    The data sets differ in their pipelines alone: they share the list of samples, so annotation files are
    read once and kept in memory once. Other kinds of data sets than MMEngine's are built for each resolution.

    Args:
        config: config of the data loader.
        resolutions: resolutions in pixels.
        build: function that builds a loader from a config, such as ``Runner.build_dataloader``. The first
            resolution is built first.
        batch_sizes: resolution -> batch size; by default that of the config.

    Raises:
        ValueError: a resolution is not positive, or nothing in the pipeline has a size.
    """
    settings = config['dataset']
    # All pipelines first, so that a mistake is found before any file is read.
    configs = {resolution: dataset_at_resolution(settings, resolution) for resolution in resolutions}
    loaders: dict[int, DataLoader] = {}
    for resolution, at_resolution in configs.items():
        dataset = None
        if loaders:
            dataset = with_pipelines([next(iter(loaders.values())).dataset], [at_resolution], _single)
        changes: dict[str, Any] = dict(dataset=at_resolution if dataset is None else returning(dataset))
        if batch_sizes and 'batch_size' in config:
            changes['batch_size'] = batch_sizes[resolution]
        loaders[resolution] = build(changed_loader(config, **changes))
    return loaders


def fitted_batch_sizes(
    config: Mapping, resolutions: Sequence[int], batch_resolution: int | None = None
) -> dict[int, int]:
    """Return the batch size of a data loader at every resolution.

    Up to ``batch_resolution`` it is that of the config. Above, it is the largest divisor of it with which a
    batch has at most as many pixels. It stays that of the config if batches are not formed by their size
    alone: with a ``batch_sampler``, ``drop_last`` or ``num_batch_per_epoch``.

    Args:
        config: config of the data loader.
        resolutions: resolutions in pixels.
        batch_resolution: resolution that the batch size of the config is for; by default that of its
            pipeline.

    Raises:
        ValueError: ``batch_resolution`` is not positive, or is missing, and nothing in the pipeline has a
            size.
    """
    if batch_resolution is None:
        batch_resolution = dataset_resolution(config['dataset'])
    else:
        check_resolutions([batch_resolution], 'batch_resolution')
    configured = config.get('batch_size', 1)
    if batch_resolution is None or any(
        config.get(field) for field in ('batch_sampler', 'drop_last', 'num_batch_per_epoch')
    ):
        return dict.fromkeys(resolutions, configured)
    divisors = [size for size in range(1, configured + 1) if configured % size == 0]
    return {
        resolution: max(
            [size for size in divisors if size * resolution**2 <= configured * batch_resolution**2],
            default=1,
        )
        for resolution in resolutions
    }


def dataset_at_resolution(settings: Any, resolution: int) -> Any:
    """Return a copy of the config of a data set, with the pipelines at a resolution.

    Wrappers that join or repeat data sets are entered, unless they have a pipeline themselves.

    Raises:
        ValueError: the resolution is not positive, or nothing in a pipeline has a size.
    """
    if isinstance(settings, (list, tuple)):
        return [dataset_at_resolution(entry, resolution) for entry in settings]
    changed = copy.deepcopy(settings)
    if 'pipeline' in settings:
        changed['pipeline'] = pipeline_at_resolution(settings['pipeline'], resolution)
    for key in ('dataset', 'datasets'):
        if key in settings and 'pipeline' not in settings:
            changed[key] = dataset_at_resolution(settings[key], resolution)
    return changed


def dataset_resolution(settings: Any) -> int | None:
    """Return the resolution of the pipeline of a data set, the largest of several; None without a pipeline.

    Raises:
        ValueError: nothing in a pipeline has a size.
    """
    if isinstance(settings, (list, tuple)):
        parts = settings
    elif 'pipeline' in settings:
        return pipeline_resolution(settings['pipeline'])
    else:
        parts = [settings[key] for key in ('dataset', 'datasets') if key in settings]
    return max((found for part in parts if (found := dataset_resolution(part)) is not None), default=None)


def with_pipelines(
    datasets: Sequence[Any], alternatives: Sequence[Mapping], make: Callable[[Sequence[Any], list[list]], Any]
) -> Any:
    """Return a shallow copy of the first data set with another pipeline; None if it cannot be copied so.

    Args:
        datasets: data sets that differ in their pipelines alone, in wrappers or not.
        alternatives: configs of data sets that differ in their pipelines alone.
        make: function of the innermost data sets and the pipelines of the alternatives that returns the new
            pipeline, or None if the data set cannot have it.
    """
    dataset, settings = datasets[0], alternatives[0]
    changed: Any = copy.copy(dataset)
    if 'pipeline' in settings:
        # Another subclass may do something between the transforms.
        is_plain = type(getattr(dataset, 'pipeline', None)) in (Compose, NamingCompose)
        if not is_plain or 'dataset' in settings:
            return None
        changed.pipeline = make(datasets, [alternative['pipeline'] for alternative in alternatives])
        return None if changed.pipeline is None else changed
    if 'dataset' in settings and hasattr(dataset, 'dataset'):
        inner = [each.dataset for each in datasets], [each['dataset'] for each in alternatives]
        changed.dataset = with_pipelines(*inner, make)
        return None if changed.dataset is None else changed
    parts = getattr(dataset, 'datasets', None)
    if 'datasets' in settings and isinstance(parts, list) and len(parts) == len(settings['datasets']):
        inner_datasets = zip(*(each.datasets for each in datasets))
        inner_settings = zip(*(each['datasets'] for each in alternatives))
        changed.datasets = [with_pipelines(*pair, make) for pair in zip(inner_datasets, inner_settings)]
        return None if any(part is None for part in changed.datasets) else changed
    return None


def changed_loader(config: Mapping, **changes: Any) -> dict:
    """Return a copy of the config of a data loader with other fields. Annotations in it are not copied."""
    return {**{key: copy.deepcopy(value) for key, value in config.items() if key not in changes}, **changes}


def returning(dataset: Any) -> dict:
    """Return a config of a data set that exists; MMEngine would copy the data set with its annotations."""

    def stored() -> Any:
        return dataset

    return dict(type=stored)


def _single(datasets: Sequence[Any], pipelines: list[list]) -> Compose:
    return Compose(pipelines[0])
