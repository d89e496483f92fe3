"""Checks shared by the data preprocessors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LabelError(ValueError):
    """A label that is not a class."""


def check_label(label: Tensor, num_classes: int, source: str, head: str) -> None:
    """Check that a label is one of the classes.

    Args:
        label: class indices, on the CPU, where reading them does not wait for a GPU.
        num_classes: number of classes.
        source: the file, for the message.
        head: config field of the head, for the message.

    Raises:
        LabelError: a class index is out of range.
    """
    if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
        raise LabelError(
            f'label {label.tolist()} of {source} is outside the {num_classes} classes '
            f'0..{num_classes - 1}: correct the annotation, or {head}.num_classes'
        )


def share_num_classes(preprocessor: nn.Module, head: nn.Module, field: str) -> None:
    """Copy the number of classes of the head to a data preprocessor that checks labels.

    Args:
        preprocessor: the data preprocessor; left unchanged if it has no ``num_classes``.
        head: the head; if it has no ``num_classes``, nothing changes.
        field: config field of the head, for the message.

    Raises:
        ValueError: both have a number of classes, and the two differ.
    """
    scored = getattr(head, 'num_classes', None)
    if scored is None or not hasattr(preprocessor, 'num_classes'):
        return
    checked = preprocessor.num_classes
    if checked not in (None, scored):
        raise ValueError(
            f'{field}.num_classes is {scored}, but the data preprocessor has {checked}: '
            'remove the latter, or set both to the number of classes of the data'
        )
    preprocessor.num_classes = scored


def stack_equal(samples: Sequence[Tensor], remedy: str) -> Tensor:
    """Stack images or clips into a batch.

    Args:
        samples: the images or clips.
        remedy: the transform that the pipeline should end with, for the message.

    Raises:
        ValueError: the samples differ in size.
    """
    sizes = {tuple(sample.shape) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(
            f'the samples of a batch differ in size {sorted(sizes)}: end the pipeline with a crop to one '
            f'size, e.g. {remedy}'
        )
    return torch.stack(list(samples))
