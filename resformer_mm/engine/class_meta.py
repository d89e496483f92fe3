"""What a checkpoint and the data set of a config say of the classes of a model."""

from __future__ import annotations

from mmengine.model import BaseModel
from mmengine.registry import DATASETS

from resformer_mm.config.resolutions import test_dataset
from resformer_mm.config_types import find_type

from .classes import class_heads


def class_meta(model: BaseModel, scope: str) -> dict:
    """Return ``classes``, ``palette`` and the like from the checkpoint, else from the config's data set.

    The names of the config are taken where they are as many as the classes of the model, and those of the
    checkpoint are not.

    Args:
        model: model from :func:`resformer_mm.apis.load_model`.
        scope: scope in which the type of the data set is looked up.

    Raises:
        ValueError: the config has no test data set.
    """
    dataset = test_dataset(model.cfg)
    kind = find_type(dataset['type'], DATASETS, scope)
    own = {key.lower(): value for key, value in model.dataset_meta.items()}
    configured = dataset.get('metainfo') or {}
    if names_fit(model, configured.get('classes')) and not names_fit(model, own.get('classes')):
        own = {key: value for key, value in own.items() if key not in configured and key != 'palette'}
    return {**getattr(kind, 'METAINFO', {}), **configured, **own}


def names_fit(model: BaseModel, names: object) -> bool:
    """Return whether names are as many as the classes of a head."""
    numbers = {number for _, number in class_heads(model)}
    return isinstance(names, (list, tuple)) and len(names) in numbers
