"""Which folders of images and masks a config trains and evaluates on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine import fileio
from mmengine.config import Config
from mmengine.registry import DATASETS

from resformer_mm.datasets.label_maps import LabelValues

from .segmentation import PairFolders

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def configured_folders(cfg: Config) -> list[PairFolders]:
    """Return the folders of the data sets of all data loaders of a segmentation config, each once.

    The default scope must be that of the config.

    Raises:
        ValueError: a data set has no folders of images and masks, or no classes; or there is no data set.
    """
    found = []
    for loader in LOADERS:
        for config in _innermost((cfg.get(loader) or {}).get('dataset')):
            folders = _folders_of(config, loader)
            if folders not in found:
                found.append(folders)
    if not found:
        raise ValueError(f'the config has no data set in {", ".join(LOADERS)}')
    return found


def _innermost(config: Any) -> Iterator[Mapping]:
    """Yield the configs of the data sets inside wrappers that repeat, join or mix them."""
    if isinstance(config, (list, tuple)):
        for entry in config:
            yield from _innermost(entry)
    elif isinstance(config, Mapping):
        inner = config.get('dataset', config.get('datasets'))
        if inner is None:
            yield config
        else:
            yield from _innermost(inner)


def _folders_of(config: Mapping, loader: str) -> PairFolders:
    dataset = DATASETS.build({**config, 'lazy_init': True, 'pipeline': []})
    prefix = getattr(dataset, 'data_prefix', {})
    if not prefix.get('img_path') or not prefix.get('seg_map_path'):
        raise ValueError(
            f'{loader}.dataset has no data_prefix with both img_path and seg_map_path: without masks there '
            f'is nothing to check, leave it out with --cfg-options {loader}=None'
        )
    classes = dataset.metainfo.get('classes')
    if not classes:
        raise ValueError(f'{loader}.dataset names no classes: set its metainfo.classes')
    names = None
    if dataset.ann_file:
        names = tuple(line.strip() for line in fileio.list_from_file(dataset.ann_file))
    return PairFolders(
        prefix['img_path'],
        prefix['seg_map_path'],
        LabelValues(len(classes), dataset.reduce_zero_label, dataset.ignore_index, dataset.label_map),
        dataset.img_suffix,
        dataset.seg_map_suffix,
        names,
    )
