"""Which images and annotation files a config trains and evaluates on."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import DATASETS

from .configured import configured_sources
from .detection import AnnotatedImages


def configured_annotations(cfg: Config) -> list[AnnotatedImages]:
    """Return what the data sets of all data loaders of a detection config read, each once.

    The default scope must be that of the config.

    Raises:
        ValueError: a data set has no annotation file or no classes; or there is no data set.
    """
    return configured_sources(cfg, _annotations_of)


def _annotations_of(config: Mapping, loader: str) -> AnnotatedImages:
    dataset = DATASETS.build({**config, 'lazy_init': True, 'pipeline': []})
    if not dataset.ann_file:
        raise ValueError(
            f'{loader}.dataset has no ann_file: there is nothing to check, leave it out with '
            f'--cfg-options {loader}=None'
        )
    classes = dataset.metainfo.get('classes')
    if not classes:
        raise ValueError(f'{loader}.dataset names no classes: set its metainfo.classes')
    folder = dataset.data_prefix.get('img') or dataset.data_root
    return AnnotatedImages(folder, dataset.ann_file, tuple(classes))
