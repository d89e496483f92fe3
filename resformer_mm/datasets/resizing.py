"""Resizing with antialiasing, by PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F


def resize(image: np.ndarray, size: Sequence[int], interpolation: str) -> np.ndarray:
    """Resize an image ``(H, W, C)`` with antialiasing.

    Args:
        image: the image; 8-bit values are rounded as Pillow rounds them.
        size: height and width in pixels.
        interpolation: 'bicubic' or 'bilinear'.
    """
    if not image.flags.writeable or min(image.strides) < 0:
        image = image.copy()  # PyTorch warns of the former, and does not take the latter, which are flipped
    batch = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0)
    batch = F.interpolate(batch, size=tuple(size), mode=interpolation, antialias=True)
    return np.ascontiguousarray(batch.squeeze(0).permute(1, 2, 0).numpy())
