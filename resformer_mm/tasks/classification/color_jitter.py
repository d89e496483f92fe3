"""Colour jitter for training, by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.datasets.transforms import ColorJitter as PillowJitter

from resformer_mm.datasets.pixel_operations import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
)
from resformer_mm.registry import TRANSFORMS

# Numbered as mmpretrain numbers them when it shuffles.
_OPERATIONS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


@TRANSFORMS.register_module()
class ColorJitter(PillowJitter):
    """mmpretrain's random brightness, contrast, saturation and hue, in random order, by OpenCV.

    The random draws are the same. Every operation gives the values of Pillow, mmpretrain's
    ``backend='pillow'``, to one grey level, the hue excepted
    (:func:`~resformer_mm.datasets.pixel_operations.adjust_hue`), in less than a tenth of the time.

    Required key: ``img``, BGR ``(H, W, 3)`` of uint8.

    Args:
        brightness: a factor is drawn from 1 - brightness to 1 + brightness, or from this range.
        contrast: likewise.
        saturation: likewise.
        hue: a part of the circle is drawn from -hue to hue, or from this range, within -0.5 to 0.5.

    Raises:
        ValueError: a number is negative.
        TypeError: an argument is neither a number nor a pair, or an image is of another kind.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__(brightness, contrast, saturation, hue)

    def transform(self, results: dict) -> dict:
        """Return the results with the new ``img``."""
        order, *values = self._rand_params()
        for number in order:
            if values[number] is not None:
                results['img'] = _OPERATIONS[number](results['img'], values[number])
        return results
