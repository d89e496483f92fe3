"""Confidence of predictions from class scores."""

from __future__ import annotations

import torch
from torch import Tensor

from resformer_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def max_probability(scores: Tensor) -> Tensor:
    """Return the largest of the class probabilities ``(..., classes)``, in [0, 1]."""
    return scores.amax(-1)


@FUNCTIONS.register_module()
def margin(scores: Tensor) -> Tensor:
    """Return the difference of the two largest class probabilities ``(..., classes)``, in [0, 1]."""
    first, second = scores.topk(2, dim=-1).values.unbind(-1)
    return first - second


@FUNCTIONS.register_module()
def negative_entropy(scores: Tensor) -> Tensor:
    """Return one minus the normalised entropy of class probabilities ``(..., classes)``, in [0, 1]."""
    classes = scores.shape[-1]
    return 1 + torch.special.xlogy(scores, scores).sum(-1) / torch.log(torch.tensor(float(classes)))
