"""Random erasing for training."""

from __future__ import annotations

import cv2
import numpy as np
from mmpretrain.datasets.transforms import RandomErasing as Erasing

from resformer_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomErasing(Erasing):
    """mmpretrain's random erasing with noise from OpenCV.

    The rectangles are the same for the same random draws. With ``mode='rand'`` and ``fill_std``, the pixels
    have the same distribution, but OpenCV draws them, several times as fast as NumPy. Its generator is seeded
    by NumPy's for every image, so NumPy's alone decides the result.

    Args:
        *args: as of :class:`mmpretrain.datasets.transforms.RandomErasing`.
        **kwargs: likewise.
    """

    def _fill_pixels(self, img: np.ndarray, top: int, left: int, h: int, w: int) -> np.ndarray:
        if self.mode == 'const' or self.fill_std is None:
            return super()._fill_pixels(img, top, left, h, w)
        patch = np.empty((h, w, 3), np.uint8)
        cv2.setRNGSeed(int(np.random.randint(2**31)))
        # OpenCV rounds where mmpretrain cuts off.
        cv2.randn(patch, np.subtract(self.fill_color, 0.5), np.asarray(self.fill_std, np.float64))
        img[top : top + h, left : left + w] = patch
        return img
