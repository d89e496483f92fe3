"""Sizes of images in the checks, as the training reads them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from resformer_mm.datasets.loading import EXIF_ORIENTATION, decode_image

IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp')

MISSING_FOLDER = 'missing folder'
MISSING_IMAGE = 'missing image'
BAD_IMAGE = 'unreadable image'
SIZES_DIFFER = 'sizes differ'


def read_size(path: str | Path) -> tuple[tuple[int, int], int]:
    """Return height and width of an image after any EXIF rotation, and its EXIF orientation, 1 to 8.

    The whole image is decoded. Errors are those of :func:`~resformer_mm.datasets.loading.decode_image`.
    """
    content = Path(path).read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    return decode_image(content).shape[:2], orientation if orientation in range(1, 9) else 1


def size_text(shape: Sequence[int], orientation: int = 1) -> str:
    """Return ``HEIGHT x WIDTH``, and the EXIF orientation if the image was rotated."""
    turned = f', turned by its EXIF orientation {orientation}' if orientation != 1 else ''
    return f'{shape[0]} x {shape[1]}{turned}'


def is_ambiguous(shape: Sequence[int], orientation: int) -> bool:
    """Whether the size of a rotated image does not show if its annotations were rotated, too."""
    return orientation != 1 and (orientation <= 4 or shape[0] == shape[1])
