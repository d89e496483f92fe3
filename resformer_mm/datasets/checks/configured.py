"""Data sets in the data loaders of a config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from mmengine.config import Config

Source = TypeVar('Source')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def configured_sources(cfg: Config, source_of: Callable[[Mapping, str], Source]) -> list[Source]:
    """Return the sources of the data sets in all data loaders of a config, without duplicates.

    Args:
        cfg: the config.
        source_of: function from the config of a data set and the name of its data loader to its source.

    Raises:
        ValueError: the config has no data set.
    """
    found = []
    for loader in LOADERS:
        for config in innermost_configs((cfg.get(loader) or {}).get('dataset')):
            source = source_of(config, loader)
            if source not in found:
                found.append(source)
    if not found:
        name = cfg.filename or 'the config'
        raise ValueError(f'{name} has no data set in {", ".join(LOADERS)}: give it at least one')
    return found


def innermost_configs(config: Any) -> Iterator[Mapping]:
    """Yield the configs of the data sets inside wrappers that repeat, join or mix them."""
    if isinstance(config, (list, tuple)):
        for entry in config:
            yield from innermost_configs(entry)
    elif isinstance(config, Mapping):
        inner = config.get('dataset', config.get('datasets'))
        if inner is None:
            yield config
        else:
            yield from innermost_configs(inner)
