"""Photometric distortion for training, by tables of 256 values."""

from __future__ import annotations

import cv2
import numpy as np
from mmseg.datasets.transforms import PhotoMetricDistortion as Distortion

from resformer_mm.datasets.pixel_operations import contiguous
from resformer_mm.registry import TRANSFORMS

_LEVELS = np.arange(256, dtype=np.uint8)


@TRANSFORMS.register_module()
class PhotoMetricDistortion(Distortion):
    """mmseg's random brightness, contrast, saturation and hue, with the same draws and the same pixels.

    Each is a table of 256 values, computed by mmseg's formula and looked up by OpenCV, instead of arithmetic
    with floating-point numbers on all pixels.

    Required key: ``img``, BGR ``(H, W, 3)`` of uint8.

    Args:
        brightness_delta: largest number that is added or subtracted.
        contrast_range: smallest and largest factor.
        saturation_range: smallest and largest factor of the saturation of HSV.
        hue_delta: largest turn of the hue, in units of 2 degrees.

    Raises:
        TypeError: an image is of another kind.
    """

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Return ``alpha * img + beta``, clipped to 0 to 255 and without its fraction."""
        return cv2.LUT(contiguous(img), super().convert(_LEVELS, alpha, beta))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Multiply the saturation of HSV by a random factor, in half of the cases."""
        if not np.random.randint(2):
            return img
        factor = np.random.uniform(self.saturation_lower, self.saturation_upper)
        return _change_hsv(img, 1, super().convert(_LEVELS, factor))

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Turn the hue by a random angle, in half of the cases."""
        if not np.random.randint(2):
            return img
        delta = np.random.randint(-self.hue_delta, self.hue_delta)
        return _change_hsv(img, 0, ((_LEVELS.astype(int) + delta) % 180).astype(np.uint8))


def _change_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    """Look up one channel of HSV in a table."""
    hsv = cv2.cvtColor(contiguous(image), cv2.COLOR_BGR2HSV)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, channel), table), hsv, channel)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
