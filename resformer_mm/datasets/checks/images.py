"""Sizes of images in the checks, as the training reads them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from PIL import UnidentifiedImageError

from resformer_mm.datasets.decoding import darkness, decode_pixels, to_8_bits
from resformer_mm.datasets.image_files import EXIF_ORIENTATION, opened_image
from resformer_mm.datasets.regular_files import read_file

IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp')

MISSING_FOLDER = 'missing folder'
MISSING_IMAGE = 'missing image'
BAD_IMAGE = 'unreadable image'
SIZES_DIFFER = 'sizes differ'
DARK_IMAGE = 'values that need a range'


class ImageFacts(NamedTuple):
    """Properties of an image that was decoded completely.

    Attributes:
        shape: height and width after any EXIF rotation.
        orientation: EXIF orientation, 1 to 8.
        darkness: why its values need a range to be read as intended, as 12 bits in 16 or floating-point
            numbers; None if they do not.
    """

    shape: tuple[int, int]
    orientation: int
    darkness: str | None


def read_facts(path: str | Path) -> ImageFacts:
    """Decode an image as the training does, and return its properties.

    Errors are those of :func:`~resformer_mm.datasets.decoding.decode_image`.
    """
    content = read_file(path)
    pixels = decode_pixels(content)
    height, width = pixels.values.shape[:2]
    try:
        to_8_bits(pixels)
        dark = darkness(pixels)
    except ValueError as error:  # no known range, unless the config gives it
        dark = str(error)
    orientation = 1
    with suppress(UnidentifiedImageError), opened_image(content) as image:
        orientation = image.getexif().get(
            EXIF_ORIENTATION, 1
        )  # TIFF files that Pillow does not know have none
    return ImageFacts((height, width), orientation if orientation in range(1, 9) else 1, dark)


def read_size(path: str | Path) -> tuple[tuple[int, int], int]:
    """Return height and width of an image after any EXIF rotation, and its EXIF orientation, 1 to 8.

    The whole image is decoded. Errors are those of :func:`~resformer_mm.datasets.decoding.decode_image`.
    """
    return read_facts(path)[:2]


def size_text(shape: Sequence[int], orientation: int = 1) -> str:
    """Return ``HEIGHT x WIDTH``, and the EXIF orientation if the image was rotated."""
    turned = f', turned by its EXIF orientation {orientation}' if orientation != 1 else ''
    return f'{shape[0]} x {shape[1]}{turned}'


def is_ambiguous(shape: Sequence[int], orientation: int) -> bool:
    """Whether the size of a rotated image does not show if its annotations were rotated, too."""
    return orientation != 1 and (orientation <= 4 or shape[0] == shape[1])
