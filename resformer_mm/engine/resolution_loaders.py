"""Data loaders of one data set at several resolutions, with the annotations read once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.dataset import Compose
from torch.utils.data import DataLoader

from resformer_mm.config.resolutions import pipeline_at_resolution


def loaders_at_resolutions(
    config: Mapping, resolutions: Sequence[int], build: Callable[[dict], DataLoader]
) -> dict[int, DataLoader]:
    """Return one data loader per resolution.

    The data sets differ in their pipelines alone: they share the list of samples, so annotation files are
    read once and kept in memory once. Other kinds of data sets than MMEngine's are built for each resolution.

    Args:
        config: config of the data loader.
        resolutions: resolutions in pixels.
        build: function that builds a loader from a config, such as ``Runner.build_dataloader``. The first
            resolution is built first.

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
            dataset = _with_pipelines(next(iter(loaders.values())).dataset, at_resolution)
        loader_config = {key: copy.deepcopy(value) for key, value in config.items() if key != 'dataset'}
        # As a function, because MMEngine would copy an object with all its annotations.
        loader_config['dataset'] = at_resolution if dataset is None else dict(type=_returning(dataset))
        loaders[resolution] = build(loader_config)
    return loaders


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


def _with_pipelines(dataset: Any, settings: Mapping) -> Any:
    """Return a shallow copy of a data set with the pipelines of a config; None if it cannot be copied so."""
    changed: Any = copy.copy(dataset)
    if 'pipeline' in settings:
        # A subclass may do something between the transforms.
        is_plain = type(getattr(dataset, 'pipeline', None)) is Compose
        if not is_plain or 'dataset' in settings:
            return None
        changed.pipeline = Compose(settings['pipeline'])
        return changed
    if 'dataset' in settings and hasattr(dataset, 'dataset'):
        changed.dataset = _with_pipelines(dataset.dataset, settings['dataset'])
        return None if changed.dataset is None else changed
    parts = getattr(dataset, 'datasets', None)
    if 'datasets' in settings and isinstance(parts, list) and len(parts) == len(settings['datasets']):
        changed.datasets = [_with_pipelines(*pair) for pair in zip(parts, settings['datasets'])]
        return None if any(part is None for part in changed.datasets) else changed
    return None


def _returning(value: Any) -> Callable[[], Any]:
    def stored() -> Any:
        return value

    return stored
