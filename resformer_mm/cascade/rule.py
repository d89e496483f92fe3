"""Rule of a cascade: resolutions and confidence thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.registry import FUNCTIONS


@dataclass(frozen=True)
class CascadeRule:
    """Try an image at the first resolution, and at the next one as long as the model is not sure enough.

    Attributes:
        resolutions: in pixels, low to high.
        thresholds: the confidence from which the prediction of each resolution but the last is kept.
        confidence: name of a registered function from class scores to a confidence, e.g. 'max_probability',
            'margin', 'negative_entropy'.

    Raises:
        ValueError: resolutions not low to high, or not one threshold fewer than resolutions.
        KeyError: the confidence is not registered.
    """

    resolutions: Sequence[int]
    thresholds: Sequence[float]
    confidence: str = 'max_probability'

    def __post_init__(self) -> None:
        resolutions = check_resolutions(self.resolutions, 'cascade.resolutions', descending=False)
        if resolutions != sorted(resolutions):
            raise ValueError(f'cascade.resolutions must be listed low to high, got {resolutions}')
        if len(self.thresholds) != len(resolutions) - 1:
            raise ValueError(
                f'cascade.thresholds needs one value fewer than cascade.resolutions {resolutions}, got '
                f'{list(self.thresholds)}: the last resolution takes what is left'
            )
        object.__setattr__(self, 'resolutions', tuple(resolutions))
        object.__setattr__(self, 'thresholds', tuple(float(value) for value in self.thresholds))
        confidence_function(self.confidence)

    def is_sure(self, stage: int, scores: Tensor) -> Tensor:
        """Return ``(N,)`` which predictions of a stage, from 0 on, are kept; scores are ``(N, classes)``."""
        if stage == len(self.thresholds):
            return torch.ones(scores.shape[0], dtype=torch.bool, device=scores.device)
        return confidence_function(self.confidence)(scores) >= self.thresholds[stage]

    def as_config(self) -> dict:
        """Return what the field ``cascade`` of a config holds."""
        return dict(
            resolutions=list(self.resolutions),
            thresholds=[round(value, 6) for value in self.thresholds],
            confidence=self.confidence,
        )


def confidence_function(name: str) -> Callable[[Tensor], Tensor]:
    """Return the registered confidence function of a name.

    Raises:
        KeyError: there is none.
    """
    function = FUNCTIONS.get(name if '.' in name else f'resformer_mm.{name}')
    if function is None:
        raise KeyError(f'cascade.confidence={name!r} is not a registered function')
    return function
