"""Decoding of image files of any colour mode, depth and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .image_files import check_size, opened_image, tiff_size
from .jpeg import decode_jpeg, read_jpeg_header

DARK_SHARE = 16
"""An image is reported as dark if no value exceeds this part of what its depth allows, as 12 bits in 16."""

_SAMPLED = 16
"""Distance of the rows and columns that are tried first."""


class Pixels(NamedTuple):
    """The values in an image file before they are scaled to 8 bits.

    Attributes:
        values: BGR ``(H, W, 3)``: uint8, uint16, int32 or floating point.
        depth: bits per channel in the file, 1 to 32.
    """

    values: np.ndarray
    depth: int


def decode_image(
    content: bytes, value_range: Sequence[float] | None = None, max_pixels: int | None = None
) -> np.ndarray:
    """Decode an image file to a contiguous BGR uint8 array ``(H, W, 3)``.

    Args:
        content: the file.
        value_range: see :func:`to_8_bits`.
        max_pixels: largest accepted number of pixels; by default that of
            :func:`~resformer_mm.datasets.image_files.opened_image`.

    Raises:
        OSError: the content is not an image or is truncated.
        ValueError: the image has too many pixels, or its values have no known range.
    """
    return to_8_bits(decode_pixels(content, max_pixels), value_range)


def decode_pixels(content: bytes, max_pixels: int | None = None) -> Pixels:
    """Decode an image file to BGR with the values in the file; the EXIF rotation is applied.

    Palette and CMYK images are converted, and transparency is dropped.

    Raises:
        OSError: the content is not an image or is truncated.
        ValueError: the image has too many pixels.
    """
    try:
        with opened_image(content, max_pixels) as image:
            return _decode(image, content)
    except UnidentifiedImageError:
        size = tiff_size(content)  # Pillow does not know all kinds of TIFF
        if size is None:
            raise
        check_size(*size, max_pixels)
        values = _read_with_opencv(content)
        if values is None:
            raise
        return Pixels(values, 8 * values.itemsize)


def to_8_bits(pixels: Pixels, value_range: Sequence[float] | None = None) -> np.ndarray:
    """Return the values of an image as uint8.

    Args:
        pixels: the image.
        value_range: the values of black and white, such as ``(0, 4095)`` for cameras of 12 bits. They apply
            to images of more than 8 bits, and if white is at most 255 to all. Without it, the full range of
            16 bits is mapped to 0..255.

    Raises:
        ValueError: the values are floating-point numbers or wider than 16 bits, and there is no range.
    """
    values = pixels.values
    is_integer = np.issubdtype(values.dtype, np.integer)
    if value_range is not None and (pixels.depth > 8 or value_range[1] <= 255):
        low, high = value_range
        scaled = (values.astype(np.float32) - low) * (255 / (high - low))
        return np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8)
    if values.dtype == np.uint8:
        return values
    lowest, highest = values.min(), values.max()
    if not is_integer or lowest < 0 or highest > 0xFFFF:
        kind = 'integers of 32 bits' if is_integer else 'floating-point numbers'
        raise ValueError(
            f'the pixels are {kind} from {lowest:g} to {highest:g}, which have no known range: set '
            f'value_range of resformer_mm.LoadImage, such as (0, {_round_range(float(highest)):g}), or '
            'convert the image to 8 or 16 bits'
        )
    return (values.astype(np.uint16, copy=False) >> 8).astype(np.uint8)


def darkness(pixels: Pixels) -> str | None:
    """Return why an image is nearly black although its values are not, or None.

    That is the case for values of 10 or 12 bits in a file of 16, and for 0 and 1 in a file of 8 bits.
    """
    if pixels.values.dtype not in (np.uint8, np.uint16, np.int32) or pixels.depth not in (8, 16):
        return None
    full = 2**pixels.depth - 1
    limit = 1 if pixels.depth == 8 else full // DARK_SHARE
    if pixels.values[::_SAMPLED, ::_SAMPLED].max() > limit:
        return None  # as nearly all images; the rest of the pixels takes milliseconds
    highest = int(pixels.values.max())
    if highest == 0 or highest > limit:
        return None
    return (
        f'no value exceeds {highest} of {full}, so it is read as nearly black; if that is not intended, set '
        f'value_range=(0, {_round_range(highest):g}) in resformer_mm.LoadImage'
    )


def _decode(image: Image.Image, content: bytes) -> Pixels:
    if header := read_jpeg_header(image, content):
        values = decode_jpeg(content, header)  # the pixels of Pillow in two thirds of the time
        if values is not None:
            return Pixels(values, 8)
    if ';16' in _raw_mode(image) and not image.mode.startswith('I'):
        # Pillow would drop the lower 8 bits of colours.
        values = _read_with_opencv(content)
        if values is not None and values.dtype == np.uint16:
            return Pixels(values, 16)
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(('I', 'F')):
        gray = np.asarray(image)
        depth = 16 if image.mode.startswith('I;16') or _raw_mode(image).startswith('I;16') else 32
        if image.mode == 'I' and 0 <= gray.min() and gray.max() <= 0xFFFF:
            depth = 16  # older versions of Pillow read 16 bits as 32
        return Pixels(np.repeat(gray[..., None], 3, axis=2), depth)
    depth = 1 if image.mode == '1' else 8
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    rgb = np.asarray(image if image.mode == 'RGB' else image.convert('RGB'))
    return Pixels(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), depth)  # NumPy would take many times as long


def _round_range(highest: float) -> float:
    """Return the end of the usual range, 2^n - 1 or 1, that includes the value."""
    return 1.0 if highest <= 1 else float(2 ** max(1, int(np.ceil(np.log2(highest + 1)))) - 1)


def _raw_mode(image: Image.Image) -> str:
    """Return the layout of the pixels in the file, such as 'RGB;16B'; '' if it is not known."""
    tiles = getattr(image, 'tile', None)
    arguments = tiles[0][3] if tiles else ''
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _read_with_opencv(content: bytes) -> np.ndarray | None:
    """Return BGR ``(H, W, 3)`` of any depth; None if OpenCV cannot read it."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    except cv2.error:
        return None
