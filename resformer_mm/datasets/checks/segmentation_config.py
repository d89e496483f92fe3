"""Which folders of images and masks a config trains and evaluates on."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine import fileio
from mmengine.config import Config
from mmengine.registry import DATASETS

from resformer_mm.datasets.label_maps import LabelValues

from .configured import configured_sources
from .segmentation import PairFolders


def configured_folders(cfg: Config) -> list[PairFolders]:
    """Return the folders of the data sets of all data loaders of a segmentation config, each once.

    The default scope must be that of the config.

    Raises:
        ValueError: a data set has no folders of images and masks, or no classes; or there is no data set.
    """
    return configured_sources(cfg, _folders_of)


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
