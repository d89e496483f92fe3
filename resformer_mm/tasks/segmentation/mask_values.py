"""Pixel values of the masks of a data set that belong to the labels of a model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import numpy as np
from mmengine.registry import DATASETS

from resformer_mm.config_types import find_type, type_name


def mask_values(number: int, label_map: Mapping[int, int] | None, reduces_zero_label: bool) -> np.ndarray:
    """Return the pixel value of each class in the masks of the data set, ``(number,)``, uint8 or uint16.

    Args:
        number: number of classes.
        label_map: label of the data set -> label of the model, where the classes are a choice of its classes.
        reduces_zero_label: whether labels are pixel values less one.
    """
    values = np.arange(number)
    for value, label in reversed(sorted((label_map or {}).items())):
        if 0 <= label < number:  # others are excluded classes
            values[label] = value
    values = values + bool(reduces_zero_label)
    return values.astype(np.uint8 if values.max() <= np.iinfo(np.uint8).max else np.uint16)


def reduces_zero_label(dataset: Mapping, scope: str) -> bool:
    """Return whether the labels of a data set are its pixel values less one."""
    loaders = [step for step in dataset['pipeline'] if type_name(step['type']).startswith('Load')]
    for settings in (dataset, *loaders):
        if settings.get('reduce_zero_label') is not None:
            return bool(settings['reduce_zero_label'])
    for kind in getattr(find_type(dataset['type'], DATASETS, scope), '__mro__', ()):
        parameters = inspect.signature(kind.__init__).parameters if '__init__' in vars(kind) else {}
        if 'reduce_zero_label' in parameters:
            return bool(parameters['reduce_zero_label'].default)
    return False


def label_map(dataset: Mapping, scope: str, classes: list[str]) -> dict[int, int] | None:
    """Return label of the data set -> label of the model, if the classes are a choice of the data set's."""
    kind = find_type(dataset['type'], DATASETS, scope)
    try:
        return kind.get_label_map(classes)
    except (AttributeError, ValueError):  # another kind of data set, or classes that it does not have
        return None
