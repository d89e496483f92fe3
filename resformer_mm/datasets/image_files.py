"""Opening of image files that strangers may have made: of known formats, and not larger than a limit."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image, UnidentifiedImageError

FORMATS = tuple('JPEG PNG BMP TIFF WEBP GIF PPM MPO JPEG2000 AVIF DIB PCX SGI TGA'.split())
"""Formats that are read. Pillow knows more: EPS starts Ghostscript, and ICO files can hide their size."""
EXIF_ORIENTATION = 0x0112
TIFF_MARKS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_LIMIT = 'OPENCV_IO_MAX_IMAGE_PIXELS'
_DEFAULT_LIMIT = 2**30

# No file of these formats has more pixels per byte: zlib shortens by at most 1032, to 8 pixels of one bit.
_PIXELS_PER_BYTE = 10_000
_BOUNDED = ('BMP', 'DIB', 'GIF', 'JPEG', 'MPO', 'PCX', 'PNG', 'PPM', 'SGI', 'TGA')

_limit_lock = threading.Lock()
_unlimited_calls = 0
_pillow_limit: int | None = None


def lift_pixel_limit() -> None:
    """Lift Pillow's limit of the image size for this process and the loader workers that are forked from it.

    For runs on one's own data, whose pipelines may load images and masks by Pillow.
    """
    Image.MAX_IMAGE_PIXELS = None


@contextmanager
def without_pixel_limit() -> Iterator[None]:
    """Lift Pillow's limit of the image size, which is global and lower than that of :func:`opened_image`.

    Threads may be inside at the same time. The limit returns when the last one has left.
    """
    global _unlimited_calls, _pillow_limit
    with _limit_lock:
        if _unlimited_calls == 0:
            _pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _unlimited_calls += 1
    try:
        yield
    finally:
        with _limit_lock:
            _unlimited_calls -= 1
            if _unlimited_calls == 0:
                Image.MAX_IMAGE_PIXELS = _pillow_limit


@contextmanager
def opened_image(content: bytes, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """Open an image file, of which only the header is read.

    Args:
        content: the file.
        max_pixels: largest accepted number of pixels; by default that of OpenCV, 2^30 or the value of the
            environment variable ``OPENCV_IO_MAX_IMAGE_PIXELS``.

    Raises:
        OSError: the content is not an image, or too short for its size.
        ValueError: the image has too many pixels.
    """
    with without_pixel_limit(), _open(content) as image:
        check_size(image.width, image.height, max_pixels)
        if image.format in _BOUNDED and image.width * image.height > _PIXELS_PER_BYTE * len(content):
            raise OSError(f'{len(content)} bytes cannot hold {image.width} x {image.height} pixels')
        yield image


def _open(content: bytes) -> Image.Image:
    """Return an image; Pillow's own message would name an object in memory."""
    try:
        return Image.open(io.BytesIO(content), formats=_known_formats())
    except UnidentifiedImageError as error:
        what = f'cannot identify image file of {len(content)} bytes' if content else 'the file is empty'
        raise UnidentifiedImageError(what) from error


@cache
def _known_formats() -> tuple[str, ...]:
    """Return the formats that this version of Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def check_size(width: int, height: int, max_pixels: int | None = None) -> None:
    """Check the number of pixels; see :func:`opened_image`.

    Raises:
        ValueError: there are too many.
    """
    if max_pixels is not None and width * height > max_pixels:
        raise ValueError(f'{width} x {height} pixels are more than the limit of {max_pixels}')
    own = int(os.environ.get(_LIMIT) or _DEFAULT_LIMIT)
    if width * height > own:
        raise ValueError(
            f'{width} x {height} pixels are more than the limit of {own}: if you trust the file, set the '
            f'environment variable {_LIMIT} to read it'
        )


def tiff_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height in the header of a TIFF file, also of one that Pillow cannot read.

    None means that the file is not TIFF, or damaged.
    """
    if content[:4] not in TIFF_MARKS:
        return None
    order, is_big = '<' if content[:1] == b'I' else '>', content[2:4].strip(b'\0') == b'+'
    # Offset of the first directory, number of its entries, size of an entry, place of the value in it.
    where, offset, number, size, value = (8, 'Q', 'Q', 20, 12) if is_big else (4, 'I', 'H', 12, 8)
    found: dict[int, int] = {}
    try:
        (start,) = struct.unpack_from(order + offset, content, where)
        (count,) = struct.unpack_from(order + number, content, start)
        start += struct.calcsize(number)
        for entry in range(start, start + min(count, 2**16) * size, size):
            tag, kind = struct.unpack_from(f'{order}HH', content, entry)
            if tag in (256, 257):
                code = {3: 'H', 4: 'I', 16: 'Q'}[kind]
                (found[tag],) = struct.unpack_from(order + code, content, entry + value)
    except (struct.error, KeyError):
        return None
    return (found[256], found[257]) if len(found) == 2 else None
