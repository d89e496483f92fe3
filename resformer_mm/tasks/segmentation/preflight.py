"""What a check before training has to know about mmsegmentation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.evaluation import IoUMetric
from mmseg.models.decode_heads import SideAdapterCLIPHead
from torch import nn

from resformer_mm.text import shorten_list

OWN_DATASETS = {'BaseSegDataset': 'resformer_mm.SegmentationFolder'}
UNREADABLE = 'mask that cannot be read'
OUT_OF_RANGE = 'label out of range'
IGNORED = 'ignored pixels'
NO_PIXELS = 'classes without pixels'
MOST_MASKS = 100
ENOUGH = 32
SECONDS = 3.0
MUCH = 0.5
RESIZED = 'label map that is resized'


def class_weights(loss: nn.Module, name: str, head: nn.Module, num_classes: int) -> tuple[int, ...]:
    """Return the numbers of class weights that a loss of a head accepts."""
    classifies_masks = name == 'loss_cls' or isinstance(head, SideAdapterCLIPHead)
    if classifies_masks and not getattr(loss, 'use_sigmoid', False):
        return (num_classes + 1,)  # a mask may show none of the classes
    channels = getattr(head, 'out_channels', num_classes)  # one for two classes, with a threshold
    return num_classes, int(channels)


def metric_names(metric: BaseMetric, num_classes: int, model: nn.Module) -> list[str] | None:
    """Return the names of the values of a metric, without prefix; None if they are not known."""
    if type(metric) is not IoUMetric:
        return None
    if metric.format_only:
        return []
    areas = torch.ones(num_classes)
    metric.dataset_meta = {**(metric.dataset_meta or {}), 'classes': tuple(map(str, range(num_classes)))}
    return list(metric.compute_metrics([(areas, areas, areas, areas)]))


def annotation_problems(
    dataset: Any, head: nn.Module, num_classes: int, is_training: bool
) -> Iterator[tuple[str, str, bool]]:
    """Yield kind, problem and whether it is a fault, for some masks of a data set.

    The masks are read by the loading transform of its pipeline, so the values are those of the training.

    Args:
        dataset: a data set without wrappers.
        head: the head that predicts its classes.
        num_classes: number of its classes.
        is_training: whether it is the training set, whose classes should all occur.
    """
    if not is_training and (resized := _resized(dataset)) is not None:
        yield RESIZED, resized, False
    pixels, number, error = _count(dataset)
    if error is not None:
        yield UNREADABLE, f'{type(error).__name__}: {error}', True
    if not number:
        return
    ignore = getattr(head, 'ignore_index', 255)
    wrong = [value for value in np.flatnonzero(pixels) if value >= num_classes and value != ignore]
    if wrong:
        yield (
            OUT_OF_RANGE,
            f'the masks have the values {shorten_list(list(map(str, wrong)))} after loading, but the classes '
            f'are 0 to {num_classes - 1}, and {ignore} is ignored: correct the masks, the classes, '
            'reduce_zero_label or ignore_index',
            True,
        )
    share = float(pixels[ignore] / pixels.sum()) if ignore < len(pixels) else 0.0
    if share > MUCH:
        yield IGNORED, f'{100 * share:.1f} % of the pixels in {number} masks are ignored', False
    absent = [label for label in range(num_classes) if not pixels[label]]
    if is_training and absent and (number == len(dataset) or (number >= ENOUGH and num_classes <= 20)):
        names = (dataset.metainfo or {}).get('classes') or tuple(map(str, range(num_classes)))
        yield (
            NO_PIXELS,
            f'{len(absent)} of {num_classes} in {number} masks: '
            f'{shorten_list([str(names[label]) for label in absent if label < len(names)])}. '
            f'{100 * share:.1f} % of the pixels are ignored. If masks were exported as 0 and 255, or '
            'reduce_zero_label does not fit them, tools/dataset_converters/check_segmentation.py tells',
            False,
        )


def _resized(dataset: Any) -> str | None:
    """Return what an evaluation gets whose pipeline resizes the label map with the image, else None."""
    try:
        sample = dataset[0]['data_samples']
        size, original = tuple(sample.gt_sem_seg.shape[-2:]), tuple(sample.ori_shape[:2])
    except Exception:  # without annotations, of several views, or unreadable, which is another check
        return None
    if size == original:
        return None
    return (
        f'the pipeline makes the label map {size[0]} x {size[1]}, but predictions have the size of the file, '
        f'{original[0]} x {original[1]}, and IoUMetric cannot compare them: put the loading of the '
        'annotations after the resize'
    )


def _check_flat(info: dict) -> None:
    """Raise a ValueError if a loaded mask has several values per pixel."""
    shape = info['gt_seg_map'].shape
    if len(shape) != 2:
        raise ValueError(
            f'the mask {info["seg_map_path"]} is loaded as {" x ".join(map(str, shape))} values: '
            "type='resformer_mm.LoadSegMap' reads masks of equal channels, and names others"
        )


def _count(dataset: Any) -> tuple[np.ndarray, int, Exception | None]:
    """Return the number of pixels of every value, ``(256,)``, that of the masks, and the first error."""
    pixels = np.zeros(256, np.int64)
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    last = next((index for index, step in enumerate(transforms) if isinstance(step, LoadAnnotations)), None)
    if last is None or not len(dataset):
        return pixels, 0, None
    # The image is loaded before its mask, which has to have its size.
    steps = [step for step in transforms[: last + 1] if type(step).__name__.startswith('Load')]
    end, number, first_error = time.monotonic() + SECONDS, 0, None
    most = min(len(dataset), MOST_MASKS)
    for index in np.linspace(0, len(dataset) - 1, most).round().astype(int).tolist():
        info = dataset.get_data_info(index)
        if not info.get('seg_map_path'):
            continue
        try:
            for step in steps:
                info = step(info)
            _check_flat(info)
        except Exception as error:  # as the loading transforms raise it
            first_error = first_error or error
            continue
        mask = info['gt_seg_map']
        pixels += np.bincount(np.clip(mask, 0, 255).ravel().astype(np.int64), minlength=256)
        number += 1
        if time.monotonic() > end:
            break
    return pixels, number, first_error
