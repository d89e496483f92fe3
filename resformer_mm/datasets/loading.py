"""Strict loading of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import LoadImageFromFile

from resformer_mm.registry import TRANSFORMS
from resformer_mm.repairs import remark

from .decoding import Pixels, darkness, decode_pixels, to_8_bits
from .regular_files import read_file
from .unreadable import UnreadableFiles


class ImageReadError(RuntimeError):
    """An image file that cannot be read. The message names the file and a remedy."""


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Read an image file of any colour mode as a BGR uint8 array ``(H, W, 3)``.

    Grayscale, palette, CMYK and 16-bit images are converted, transparency is dropped, and the EXIF rotation
    is applied. A truncated file is an error, not a half-grey image. The largest size is that of
    :func:`~resformer_mm.datasets.image_files.opened_image`.

    ``height`` and ``width`` of a sample, as in mmdetection's data sets, are the image size to which its
    annotations refer. An image of another size is an error.

    Required key: ``img_path``. Sets ``img``, ``img_shape`` and ``ori_shape``.

    Args:
        on_error: 'raise' stops at an unreadable file; 'skip' (training only) logs a warning, counts the file
            in :attr:`num_skipped` and makes the data set choose another image.
        backend_args: file backend of MMEngine, for storage other than local files.
        value_range: the values of black and white in images of more than 8 bits, for example ``(0, 4095)``
            for a camera of 12 bits or ``(0, 1)`` for floating-point numbers. If white is at most 255, it
            applies to images of 8 bits, too. By default 16 bits are mapped from 0 to 65535.

    Raises:
        ImageReadError: a file is missing, corrupt or truncated, or its size differs from that of its
            annotations.
        ValueError: ``on_error`` is unknown, or ``value_range`` is not an increasing pair of numbers.
    """

    def __init__(
        self,
        on_error: str = 'raise',
        backend_args: dict | None = None,
        value_range: Sequence[float] | None = None,
    ) -> None:
        super().__init__(backend_args=backend_args)
        if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
            raise ValueError(
                f'LoadImage: value_range={value_range!r} must be the values of black and white: (0, 4095)'
            )
        self.value_range = value_range
        self.unreadable = UnreadableFiles('LoadImage', on_error)

    @property
    def num_skipped(self) -> int:
        """Number of reads skipped so far, in all worker processes."""
        return self.unreadable.num_skipped

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']``; None if the image is skipped."""
        path = results['img_path']
        try:
            image = self._convert(path, decode_pixels(read_file(path, self.backend_args)))
        except Exception as error:
            self._skip_or_raise(path, error)
            return None
        return self._loaded(results, image, image.shape[:2])

    def _convert(self, path: str, pixels: Pixels) -> np.ndarray:
        image = to_8_bits(pixels, self.value_range)
        if self.value_range is None and (dark := darkness(pixels)):
            remark('LoadImage', f'{path} and possibly others: {dark}', key='LoadImage: darkness')
        return image

    def _skip_or_raise(self, path: str, error: Exception) -> None:
        reason = f'cannot read the image {path} ({type(error).__name__}: {error})'
        self.unreadable.skip_or_raise(reason, ImageReadError, error, isinstance(error, FileNotFoundError))

    def _loaded(self, results: dict, image: object, shape: tuple[int, ...]) -> dict:
        """Return the results with the image, whose size must be that of the annotations."""
        expected = tuple(results.get(key) or side for key, side in zip(('height', 'width'), shape))
        if expected != shape:
            raise ImageReadError(
                f'the image {results["img_path"]} has {shape[0]} x {shape[1]} pixels (height x width, after '
                f'any EXIF rotation), but its annotations are for {expected[0]} x {expected[1]}: correct '
                'height and width in the annotations, or use the image that was annotated'
            )
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = shape
        return results

    def __repr__(self) -> str:
        """Return the settings."""
        return (
            f'{type(self).__name__}(on_error={self.unreadable.on_error!r}, '
            f'backend_args={self.backend_args}, value_range={self.value_range})'
        )
