"""Makes mmsegmentation's ``class_weight`` work with ignored pixels.

The cross-entropy of mmsegmentation averages over the weights of the labels if ``class_weight`` is set.
Version 1.2.2 looks up the weight of ignored pixels too, and ends with ``index 255 is out of bounds``. The
fork 1.4.2 leaves them out, but then fails with ``avg_non_ignore=True``. Both compute the divisor only if none
is given. :func:`mend_class_weight` gives it: the sum of the weights of all labels that are not ignored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ['mend_class_weight']


def mend_class_weight() -> bool:
    """Replace the function of mmsegmentation if it fails with ignored pixels, once.

    Imports ``mmseg.models``. Losses that are built afterwards use the replacement.

    Returns:
        Whether the function was replaced by this call.
    """
    from mmseg.models import losses
    from mmseg.models.losses import cross_entropy_loss

    original = cross_entropy_loss.cross_entropy
    if not _fails(original):
        return False

    @functools.wraps(original)
    def cross_entropy(
        pred: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        class_weight: Tensor | None = None,
        reduction: str = 'mean',
        avg_factor: Tensor | float | None = None,
        ignore_index: int = -100,
        **kwargs: Any,
    ) -> Tensor:
        if class_weight is not None and avg_factor is None and reduction == 'mean':
            avg_factor = class_weight[label[label != ignore_index]].sum()
        return original(pred, label, weight, class_weight, reduction, avg_factor, ignore_index, **kwargs)

    cross_entropy_loss.cross_entropy = losses.cross_entropy = cross_entropy
    return True


def _fails(cross_entropy: Callable) -> bool:
    """Whether one ignored pixel beside another one is too much, with either divisor."""
    try:
        with torch.device('cpu'):  # a model may be built on the meta device, where nothing is computed
            logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]])
            for avg_non_ignore in (False, True):
                cross_entropy(
                    logits, labels, None, torch.ones(2), ignore_index=255, avg_non_ignore=avg_non_ignore
                )
    except IndexError:
        return True
    return False
