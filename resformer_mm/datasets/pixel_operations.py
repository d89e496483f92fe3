"""Colour operations on 8-bit images, by OpenCV, whose loops are vectorised.

All take a BGR image ``(H, W, 3)`` of uint8 and return a new contiguous one, equal to that of mmcv to one grey
level, except for :func:`adjust_hue`. Where mmcv cuts off the fraction of a result, so do they.
"""

from __future__ import annotations

import cv2
import numpy as np

# OpenCV rounds. With a little less than a half subtracted, it cuts off fractions and keeps whole numbers.
_CUT_OFF = -0.4999


def contiguous(image: np.ndarray) -> np.ndarray:
    """Return a contiguous image of the same pixels, the image itself if it is one.

    Raises:
        TypeError: the image is not ``(H, W, 3)`` of uint8.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(
            f'colour operations need an image (H, W, 3) of uint8, not {image.shape} of {image.dtype}: read '
            'images by resformer_mm.LoadImage, or take transforms of mmpretrain, not of resformer_mm'
        )
    if image.strides[1] < 0 < image.strides[0]:
        return cv2.flip(image[:, ::-1], 1)  # a mirrored view, which NumPy copies ten times as slowly
    return np.ascontiguousarray(image)


def _blend(image: np.ndarray, other: np.ndarray, factor: float, offset: float = _CUT_OFF) -> np.ndarray:
    return cv2.addWeighted(image, factor, other, 1 - factor, offset)


def _scale(image: np.ndarray, factor: float, offset: float = 0) -> np.ndarray:
    return cv2.addWeighted(image, factor, image, 0, offset + _CUT_OFF)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend the image with black; 1 gives the image, 0 black."""
    return _scale(contiguous(image), factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend the image with its mean grey; 1 gives the image, 0 the grey."""
    image = contiguous(image)
    mean, *_ = cv2.mean(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))  # type: ignore[misc]
    return _scale(image, factor, (1 - factor) * round(mean))


def adjust_saturation(image: np.ndarray, factor: float, cut_off: bool = True) -> np.ndarray:
    """Blend the image with the grey image; 1 gives the image, 0 the grey image.

    Args:
        image: ``(H, W, 3)``, uint8.
        factor: weight of the image.
        cut_off: whether fractions are cut off, as mmcv's Pillow backend does, or rounded, as its OpenCV
            backend does.
    """
    image = contiguous(image)
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return _blend(image, cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), factor, _CUT_OFF if cut_off else 0)


def adjust_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn the hue by a part of the circle, from -0.5 to 0.5, in the 8-bit HSV values of OpenCV.

    Those of Pillow are rounded otherwise: the results differ by 0.4 to 1.1 levels on average, and by up to 13
    at single saturated values.
    """
    hsv = cv2.cvtColor(contiguous(image), cv2.COLOR_BGR2HSV_FULL)
    # 8-bit sums wrap around, as the circle does.
    np.add(hsv[..., 0], np.uint8(int(turn * 255) % 256), out=hsv[..., 0])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)


def adjust_sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend the image with a smoothed one; 1 gives the image, 0 the smoothed one, 2 a sharper one."""
    image = contiguous(image)
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # that of Pillow's ``SMOOTH``
    return _blend(image, cv2.filter2D(image, -1, kernel), factor)


def invert(image: np.ndarray) -> np.ndarray:
    """Return 255 minus the image."""
    return cv2.bitwise_not(contiguous(image))


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keep the highest ``bits`` of the 8 bits of every value."""
    return contiguous(image) & np.uint8(256 - (1 << (8 - bits)))


def solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    """Invert the values from a threshold on."""
    image = contiguous(image)
    _, from_threshold = cv2.threshold(image, np.ceil(threshold) - 1, 255, cv2.THRESH_BINARY)
    return cv2.bitwise_xor(image, from_threshold)


def solarize_add(image: np.ndarray, addend: float, threshold: float) -> np.ndarray:
    """Add a number, at least 0, to the values below a threshold."""
    levels = np.arange(256)
    table = np.where(levels < threshold, np.minimum(levels + addend, 255), levels)
    return cv2.LUT(contiguous(image), table.astype(np.uint8))


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretch the values of every channel to 0 to 255; a channel of one value stays."""
    image = contiguous(image)
    levels, tables = np.arange(256), []
    for counts in _histograms(image):
        low, high = np.flatnonzero(counts)[[0, -1]]
        scale = 255 / max(high - low, 1)
        tables.append(np.clip(levels * scale - low * scale, 0, 255) if high > low else levels)
    return _look_up(image, tables)


def equalize(image: np.ndarray) -> np.ndarray:
    """Equalise the histogram of every channel, as ``equalize`` of Pillow's ImageOps."""
    image = contiguous(image)
    levels, tables = np.arange(256), []
    for counts in _histograms(image):
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        below = counts.cumsum() - counts
        tables.append(np.minimum((below + step // 2) // step, 255) if step else levels)
    return _look_up(image, tables)


def _histograms(image: np.ndarray) -> list[np.ndarray]:
    counts = [cv2.calcHist([image], [channel], None, [256], [0, 256]) for channel in range(3)]
    return [count.ravel().astype(np.int64) for count in counts]


def _look_up(image: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
    return cv2.LUT(image, np.stack(tables, axis=-1).astype(np.uint8)[np.newaxis])
