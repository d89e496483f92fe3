"""Augmentations that images would receive twice, in the loader and on the device."""

from __future__ import annotations

from collections.abc import Iterator

from resformer_mm.config_types import type_names
from resformer_mm.datasets.checks.report import Finding

from .subject import Subject

KIND = 'augmentation in the loader and on the device'


def check_augmentation(subject: Subject) -> Iterator[Finding]:
    """Compare the augmentations of the data preprocessor with the transforms of the training pipeline."""
    device_augmentations = subject.known('device_augmentations')
    if device_augmentations is None:
        return
    transforms = type_names((subject.cfg.get('train_dataloader') or {}).get('dataset'))
    for option, transform in device_augmentations(subject.data_preprocessor):
        if transform in transforms:
            yield Finding(
                f'model.data_preprocessor.augment.{option}',
                KIND,
                f'the training pipeline has {transform}, too, so that images are augmented twice: remove '
                f'{transform} from the pipeline, or set {option}=None',
                is_fault=False,
            )
