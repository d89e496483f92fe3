"""Opening of images that are decoded once their crops are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

import numpy as np

from resformer_mm.registry import TRANSFORMS

from .crops import Crop
from .decoding import Pixels, decode_pixels
from .image_files import opened_image
from .jpeg import DENOMINATORS, JpegHeader, decode_jpeg, read_jpeg_header
from .loading import LoadImage
from .regular_files import read_file

_JPEG = b'\xff\xd8'


class EncodedImage:
    """An image that is not decoded yet.

    Args:
        size: height and width in pixels.
        decode: returns the image, given crops; see :meth:`OpenImage.decode`.
    """

    def __init__(self, size: tuple[int, int], decode: Callable) -> None:
        self.size = size
        self.decode = decode

    def __getattr__(self, name: str) -> NoReturn:
        """Say what to do to a transform that takes it for an array."""
        if name.startswith('__'):
            raise AttributeError(name)
        raise TypeError(
            'the image is not decoded yet: put resformer_mm.MultiResolution directly behind '
            'resformer_mm.OpenImage, or load the image by resformer_mm.LoadImage'
        )

    def __getitem__(self, index: object) -> NoReturn:
        """Say what to do to a transform that takes it for an array."""
        self.__getattr__('item')


@TRANSFORMS.register_module()
class OpenImage(LoadImage):
    """Open an image for :class:`MultiResolution`, which draws the crops before the image is decoded.

    JPEG files are decoded at 1/2, 1/4 or 1/8 of their height and width where every crop then still has
    ``oversampling`` pixels per pixel of its copy. The edges of the crops are rounded to pixels of the reduced
    image: by default, they move by at most a quarter of a pixel of the copy. All other files are decoded as
    :class:`LoadImage` does.

    Required key: ``img_path``. Sets ``img``, ``img_shape`` and ``ori_shape``; a JPEG file is an
    :class:`EncodedImage` until ``MultiResolution`` decodes it.

    Args:
        oversampling: smallest number of decoded pixels per pixel of a copy, in each direction, at least 1.
        **kwargs: see :class:`LoadImage`.

    Raises:
        ImageReadError: see :class:`LoadImage`.
        ValueError: ``oversampling`` is less than 1; see :class:`LoadImage`.
    """

    def __init__(self, oversampling: float = 2.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.unreadable.owner = 'OpenImage'
        if not oversampling >= 1:
            raise ValueError(
                f'OpenImage.oversampling={oversampling!r} must be at least 1: copies are not enlarged'
            )
        self.oversampling = oversampling

    def transform(self, results: dict) -> dict | None:
        """Open ``results['img_path']``; None if the image is skipped."""
        path = results['img_path']
        try:
            content = read_file(path, self.backend_args)
            header = None
            if content.startswith(_JPEG):
                with opened_image(content) as file:
                    header = read_jpeg_header(file, content)
            if header is None:
                image = self._convert(path, decode_pixels(content))
                return self._loaded(results, image, image.shape[:2])
        except Exception as error:
            self._skip_or_raise(path, error)
            return None
        size = header.height, header.width
        return self._loaded(results, EncodedImage(size, partial(self.decode, path, content, header)), size)

    def decode(
        self, path: str, content: bytes, header: JpegHeader, crops: Sequence[Crop] | None
    ) -> tuple[np.ndarray, int] | None:
        """Return the image, and the denominator of its size; None if the image is skipped.

        Args:
            path: the file.
            content: what is in it.
            header: size and orientation.
            crops: all that is used of the image; None stands for the image at its full size.
        """
        try:
            denominator = 1 if crops is None else self.denominator(header, crops)
            values = decode_jpeg(content, header, denominator)
            if values is None:
                return self._convert(path, decode_pixels(content)), 1
            return self._convert(path, Pixels(values, 8)), denominator
        except Exception as error:
            self._skip_or_raise(path, error)
            return None

    def denominator(self, header: JpegHeader, crops: Sequence[Crop]) -> int:
        """Return the largest denominator at which all crops have enough pixels."""
        available = min(crop.oversampling for crop in crops) / self.oversampling
        return next((n for n in DENOMINATORS if n <= available and header.allows(n)), 1)

    def __repr__(self) -> str:
        """Return the settings."""
        return f'{super().__repr__()[:-1]}, oversampling={self.oversampling})'
