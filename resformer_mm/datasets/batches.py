"""What every data preprocessor makes sure of, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def check_label(label: Tensor, num_classes: int, source: str, head: str) -> None:
    """Make sure that a label lies within the classes.

    Args:
        label: class indices, on the CPU: reading them there costs no synchronisation.
        num_classes: number of classes.
        source: the file, for the message.
        head: config field of the head, for the message.

    Raises:
        ValueError: it does not.
    """
    if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
        raise ValueError(
            f'label {label.tolist()} of {source} lies outside the {num_classes} classes '
            f'0..{num_classes - 1}: correct the annotation, or {head}.num_classes'
        )


def share_num_classes(preprocessor: nn.Module, head: nn.Module, field: str) -> None:
    """Give a data preprocessor that checks labels the number of classes of the head.

    Args:
        preprocessor: the data preprocessor; one without ``num_classes`` stays as it is.
        head: the head; one without ``num_classes`` changes nothing.
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
            f'{field}.num_classes is {scored}, but that of the data preprocessor {checked}: '
            'leave the latter out, or set both to the number of classes of the data'
        )
    preprocessor.num_classes = scored


def stack_equal(samples: Sequence[Tensor], remedy: str) -> Tensor:
    """Stack images or clips to a batch.

    Args:
        samples: what is stacked.
        remedy: the transform to end the pipeline with, for the message.

    Raises:
        ValueError: they disagree in size.
    """
    sizes = {tuple(sample.shape) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(
            f'samples of one batch disagree in size {sorted(sizes)}: end the pipeline with a crop to one '
            f'size, e.g. {remedy}'
        )
    return torch.stack(list(samples))
