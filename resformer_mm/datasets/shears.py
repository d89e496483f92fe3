"""Shears and translations of 8-bit images with bicubic interpolation.

Both move every row, or every column, by a distance of its own. OpenCV's ``warpAffine`` weights 4 x 4 pixels
for every result, three times as many as needed: along a row, 4 are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from .pixel_operations import contiguous

_STEPS = 32  # positions between two pixels that OpenCV distinguishes


def shear(image: np.ndarray, magnitude: float, direction: str, fill: Sequence[int]) -> np.ndarray:
    """Move row ``y`` to the left by ``magnitude * y`` pixels, or column ``x`` up by ``magnitude * x``.

    The result is that of ``mmcv.imshear(..., interpolation='bicubic')``, to one grey level.

    Args:
        image: ``(H, W, 3)``, uint8.
        magnitude: pixels per row or column.
        direction: 'horizontal' or 'vertical'.
        fill: the colour outside the image, BGR.
    """
    length = image.shape[0 if direction == 'horizontal' else 1]
    # mmcv's matrix has 32 bits.
    return _move(image, float(np.float32(-magnitude)) * np.arange(length), direction, fill)


def translate(image: np.ndarray, offset: float, direction: str, fill: Sequence[int]) -> np.ndarray:
    """Move the image to the right by ``offset`` pixels, or down.

    The result is that of ``mmcv.imtranslate(..., interpolation='bicubic')``, to one grey level.

    Args:
        image: ``(H, W, 3)``, uint8.
        offset: pixels.
        direction: 'horizontal' or 'vertical'.
        fill: the colour outside the image, BGR.
    """
    length = image.shape[0 if direction == 'horizontal' else 1]
    return _move(image, np.full(length, float(np.float32(-offset))), direction, fill)


def _move(image: np.ndarray, distances: np.ndarray, direction: str, fill: Sequence[int]) -> np.ndarray:
    """Return the image whose row or column ``i`` is read ``distances[i]`` pixels further on."""
    image = contiguous(image)
    if direction == 'vertical':
        return cv2.transpose(_move_rows(cv2.transpose(image), distances, fill))
    return _move_rows(image, distances, fill)


def _move_rows(image: np.ndarray, distances: np.ndarray, fill: Sequence[int]) -> np.ndarray:
    height, width, channels = image.shape
    # As OpenCV rounds: to 1/1024 of a pixel, then to 1/32.
    positions = (np.rint(distances * 1024).astype(np.int64) + 16) >> 5
    starts, steps = positions // _STEPS, positions % _STEPS
    rows = torch.from_numpy(_integer_moves(image, starts - 1, width + 3, fill)).view(height, -1).float()
    weights = torch.from_numpy(_WEIGHTS[steps])
    result = rows.new_full((height, width * channels), 0.5)  # so that the conversion below rounds
    for tap in range(4):
        first = tap * channels
        result.addcmul_(rows[:, first : first + width * channels], weights[:, tap, None])
    return result.clamp_(0, 255).to(torch.uint8).view(height, width, channels).numpy()


def _integer_moves(image: np.ndarray, starts: np.ndarray, length: int, fill: Sequence[int]) -> np.ndarray:
    """Return ``length`` pixels of every row from its start on, filled up outside the image."""
    height, width, channels = image.shape
    moved = np.empty((height, length, channels), np.uint8)
    moved.reshape(height, -1)[:] = np.tile(np.asarray(fill, np.uint8), length)
    # Neighbouring rows of the same start are copied together.
    tops = np.flatnonzero(np.diff(starts, prepend=starts[0] - 1)).tolist()
    for top, bottom in zip(tops, [*tops[1:], height]):
        start = int(starts[top])
        left, right = max(-start, 0), min(width - start, length)
        if left < right:
            moved[top:bottom, left:right] = image[top:bottom, left + start : right + start]
    return moved


def _bicubic_weights() -> np.ndarray:
    """Return the weights ``(steps, 4)`` of the pixels around a position, OpenCV's cubic of a = -0.75."""
    distance = np.abs(np.arange(-1, 3) - np.arange(_STEPS)[:, np.newaxis] / _STEPS)
    near = (1.25 * distance - 2.25) * distance**2 + 1
    far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far).astype(np.float32)


_WEIGHTS = _bicubic_weights()
