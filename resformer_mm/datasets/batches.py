"""What every data preprocessor makes sure of, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
            f'0..{num_classes - 1}: correct the annotation, or num_classes in model.data_preprocessor and '
            f'{head}'
        )


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
