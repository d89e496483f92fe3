"""Images that evaluation would end at: after the resize of the pipeline, they are narrower than a patch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from resformer_mm.datasets.checks.report import Finding
from resformer_mm.datasets.image_files import opened_image
from resformer_mm.datasets.regular_files import read_file
from resformer_mm.engine.classes import innermost
from resformer_mm.engine.failures import add_names, path_of
from resformer_mm.models.layers import PatchEmbed

from .samples import images_of
from .subject import BuildError, Subject

NARROW = 'image that the model cannot take'
SECONDS = 2.0


def check_narrow_images(subject: Subject) -> Iterator[Finding]:
    """Predict on the narrowest image of the validation and of the test, if it is narrower than a patch.

    An evaluation leaves no image out, so it would end there, after hours of training.
    """
    patches = [module.smallest_size for module in subject.model.modules() if isinstance(module, PatchEmbed)]
    if not patches:
        return
    for split, samples in subject.each('samples', [split for split in subject.splits if split != 'train']):
        if _is_of_one_size(samples):
            continue
        for dataset in innermost(subject.dataset(split)):
            index = _narrowest(dataset)
            if index is None:
                continue
            field = f'{split}_dataloader.dataset'
            sample = dataset[index]
            sides = [min(image.shape[-2:]) for image in images_of(sample)]
            if sides and min(sides) < max(patches) and (error := _error(subject, split, sample)) is not None:
                add_names(error, [path_of(dataset.get_data_info(index))])
                reason = BuildError(field, error).reason
                detail = f'{reason}. The validation would end here: cut the image, or leave it out'
                yield Finding(field, NARROW, detail, subject.is_used(field))


def _is_of_one_size(samples: list) -> bool:
    """Whether the pipeline makes images of one size, as far as samples of several shapes show it."""
    shapes = {tuple(image.shape[-2:]) for image in images_of(samples)}
    originals = {
        getattr(sample.get('data_samples'), 'ori_shape', None)
        for sample in samples
        if isinstance(sample, dict)
    }
    return len(shapes) == 1 and len(originals) > 1


def _narrowest(dataset: Any) -> int | None:
    """Return the index of the image with the largest ratio of its sides, as far as it is found in time."""
    if not hasattr(dataset, 'get_data_info'):
        return None
    end, found, largest = time.monotonic() + SECONDS, None, 0.0
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        size = info.get('height'), info.get('width')
        if not all(size):
            size = _size_in_header(info.get('img_path'))
        if all(size) and max(size) / min(size) > largest:
            found, largest = index, max(size) / min(size)
        if time.monotonic() > end:
            break
    return found


def _size_in_header(path: str | None) -> tuple[int, int]:
    try:
        with opened_image(read_file(path or '')) as image:
            return image.height, image.width
    except Exception:  # files that cannot be read are another check
        return 0, 0


def _error(subject: Subject, split: str, sample: Any) -> ValueError | None:
    """Return the error that the size raises in the model."""
    batch = subject.loader(split).collate_fn([sample])
    model: Any = subject.model
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval().test_step(batch)
    except ValueError as error:
        return error if 'smaller than one patch' in str(error) else None
    finally:
        model.train(was_training)
    return None
