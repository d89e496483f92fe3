"""Decoding of JPEG files, at full or reduced size."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from .image_files import EXIF_ORIENTATION

DENOMINATORS = (8, 4, 2)
"""Height and width can be divided by these while decoding: the inverse transform of a block of 8 x 8
coefficients then has 1, 2 x 2 or 4 x 4 pixels, which takes less time and filters like a shrinking filter."""
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# What to do with a stored image by its EXIF orientation: those from 5 on are transposed, then flipped.
_TRANSPOSED = 5
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
_FLIPPED_AXES = {1: (1,), 0: (0,), -1: (0, 1), None: ()}
_END = b'\xff\xd9'
_SCAN = 0xDA


class JpegHeader(NamedTuple):
    """Size and orientation of a JPEG file.

    Attributes:
        height: in pixels, after the EXIF rotation.
        width: likewise.
        orientation: EXIF orientation, 1 to 8.
    """

    height: int
    width: int
    orientation: int

    def allows(self, denominator: int) -> bool:
        """Whether pixel ``i`` of the reduced image covers pixels ``i * denominator`` and on.

        Not so where an axis is flipped whose last reduced pixel covers fewer.
        """
        axes = _FLIPPED_AXES[_FLIPS.get(self.orientation)]
        return all((self.height, self.width)[axis] % denominator == 0 for axis in axes)


def read_jpeg_header(image: Image.Image, content: bytes) -> JpegHeader | None:
    """Return the header of a grayscale or colour JPEG file that is complete.

    Others need the colour conversion and the strictness of Pillow. A file is complete if its data reaches
    the marker of its end; what follows, as the videos of some phones, does not matter.

    Args:
        image: the file, opened by Pillow.
        content: the file.
    """
    if image.format not in ('JPEG', 'MPO') or image.mode not in ('L', 'RGB'):
        return None
    start = _start_of_scan(content)
    if start is None or content.rfind(_END, start) < 0:
        return None
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    width, height = image.size if orientation < _TRANSPOSED else image.size[::-1]
    return JpegHeader(height, width, orientation)


def decode_jpeg(content: bytes, header: JpegHeader, denominator: int = 1) -> np.ndarray | None:
    """Decode a JPEG file to BGR uint8 ``(H, W, 3)``, by OpenCV; the EXIF rotation is applied.

    Args:
        content: the file.
        header: its header.
        denominator: 1, or one of :data:`DENOMINATORS`, by which height and width are divided, rounded up.

    Returns:
        The image; None if OpenCV cannot decode it, as files of 12 bits.
    """
    flags = _FLAGS[denominator] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None
    if image is None:
        return None
    if header.orientation >= _TRANSPOSED:
        image = cv2.transpose(image)
    if header.orientation in _FLIPS:
        image = cv2.flip(image, _FLIPS[header.orientation])
    expected = -(-header.height // denominator), -(-header.width // denominator)
    return image if image.shape[:2] == expected else None


def _start_of_scan(content: bytes) -> int | None:
    """Return where the compressed pixels begin, behind embedded previews; None if the file is damaged."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == _SCAN:
            return position
        # A byte of filling, or a segment with its length.
        length = int.from_bytes(content[position + 2 : position + 4], 'big')
        position += 1 if marker == 0xFF else 2 + length
    return None
