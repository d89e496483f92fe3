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
    """Predict at the first resolution, and at the next one as long as the confidence is below the threshold.

    Attributes:
        resolutions: in pixels, low to high.
        thresholds: minimum confidence of each resolution except the last.
        confidence: name of a registered function from class scores to a confidence, e.g. 'max_probability',
            'margin', 'negative_entropy'.

    Raises:
        ValueError: the resolutions are not low to high, the number of thresholds is not one less, or the
            confidence is not registered.
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
                f'{list(self.thresholds)}: the last resolution has no threshold'
            )
        object.__setattr__(self, 'resolutions', tuple(resolutions))
        object.__setattr__(self, 'thresholds', tuple(float(value) for value in self.thresholds))
        confidence_function(self.confidence)

    def is_sure(self, stage: int, scores: Tensor) -> Tensor:
        """Return which predictions of a stage (from 0) are kept, ``(N,)``; scores are ``(N, classes)``."""
        if stage == len(self.thresholds):
            return torch.ones(scores.shape[0], dtype=torch.bool, device=scores.device)
        return confidence_function(self.confidence)(scores) >= self.thresholds[stage]

    def as_config(self) -> dict:
        """Return the value of the field ``cascade`` of a config."""
        return dict(
            resolutions=list(self.resolutions),
            thresholds=[round(value, 6) for value in self.thresholds],
            confidence=self.confidence,
        )


def confidence_function(name: str) -> Callable[[Tensor], Tensor]:
    """Return the registered confidence function of a name.

    Raises:
        ValueError: the name is not registered.
    """
    function = FUNCTIONS.get(name if '.' in name else f'resformer_mm.{name}')
    if function is None:
        package = __name__.rpartition('.')[0]
        own = [key for key, item in FUNCTIONS.module_dict.items() if item.__module__.startswith(package)]
        raise ValueError(
            f'cascade.confidence={name!r} is not a registered function: choose from {sorted(own)}, or '
            'register it'
        )
    return function
