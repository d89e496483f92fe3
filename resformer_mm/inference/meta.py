"""What a config says of the data that its model is tested on."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS

from resformer_mm.config.resolutions import test_dataset


def class_meta(cfg: Config) -> dict:
    """Return ``classes``, ``palette`` and the like of the test data set: of its class, and of the config."""
    dataset = test_dataset(cfg)
    kind = dataset['type']
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
            kind = registry.get(kind)
    return {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}


def check_names(names: Sequence[str] | None, num_classes: int) -> None:
    """Check that the names are those of the model's classes.

    Raises:
        ValueError: there are more or fewer names than classes.
    """
    if names is not None and len(names) != num_classes:
        raise ValueError(
            f'the model has {num_classes} classes, but the checkpoint or the data set of the config names '
            f'{len(names)}: set test_dataloader.dataset.metainfo.classes to the names of the model'
        )
