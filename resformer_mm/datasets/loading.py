"""Strict loading of images."""

from __future__ import annotations

import io

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from PIL import Image, ImageOps

from resformer_mm.registry import TRANSFORMS

from .unreadable import UnreadableFiles

EXIF_ORIENTATION = 0x0112


class ImageReadError(RuntimeError):
    """An image file that cannot be read. The message names the file and a remedy."""


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Read an image file of any colour mode as a BGR uint8 array ``(H, W, 3)``.

    Grayscale, palette, CMYK and 16-bit images are converted, transparency is dropped, and the EXIF rotation
    is applied. A truncated file is an error, not a half-grey image.

    ``height`` and ``width`` of a sample, as in mmdetection's data sets, are the image size to which its
    annotations refer. An image of another size is an error.

    Required key: ``img_path``. Sets ``img``, ``img_shape`` and ``ori_shape``.

    Args:
        on_error: 'raise' stops at an unreadable file; 'skip' (training only) logs a warning, counts the file
            in :attr:`num_skipped` and makes the data set choose another image.
        backend_args: file backend of MMEngine, for storage other than local files.

    Raises:
        ImageReadError: a file is missing, corrupt or truncated, or its size differs from that of its
            annotations.
        ValueError: ``on_error`` is unknown.
    """

    def __init__(self, on_error: str = 'raise', backend_args: dict | None = None) -> None:
        super().__init__(backend_args=backend_args)
        self.unreadable = UnreadableFiles('LoadImage', on_error)

    @property
    def num_skipped(self) -> int:
        """Number of reads skipped so far, in all worker processes."""
        return self.unreadable.num_skipped

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']``; None if the image is skipped."""
        path = results['img_path']
        try:
            image = decode_image(fileio.get(path, backend_args=self.backend_args))
        except Exception as error:
            reason = f'cannot read the image {path} ({type(error).__name__}: {error})'
            self.unreadable.skip_or_raise(reason, ImageReadError, error)
            return None
        expected = tuple(results.get(key) or side for key, side in zip(('height', 'width'), image.shape))
        if expected != image.shape[:2]:
            raise ImageReadError(
                f'the image {path} has {image.shape[0]} x {image.shape[1]} pixels (height x width, after any '
                f'EXIF rotation), but its annotations are for {expected[0]} x {expected[1]}: correct height '
                'and width in the annotations, or use the image that was annotated'
            )
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        """Return the settings."""
        return (
            f'{type(self).__name__}(on_error={self.unreadable.on_error!r}, backend_args={self.backend_args})'
        )


def decode_image(content: bytes) -> np.ndarray:
    """Decode an image file to a contiguous BGR uint8 array ``(H, W, 3)``.

    Raises:
        OSError: the content is not an image or is truncated.
        ValueError: its pixels are floating-point numbers or wider than 16 bits, so their range is unknown.
    """
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(('I', 'F')):
            gray = np.asarray(image)
            if image.mode == 'F' or gray.min() < 0 or gray.max() > 0xFFFF:
                raise ValueError(
                    f'pixels of mode {image.mode!r} have no known range: convert the image to 8 or 16 bits'
                )
            return np.repeat((gray.astype(np.uint16) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        if image.mode == 'P' and 'transparency' in image.info:
            image = image.convert('RGBA')
        rgb = np.asarray(image.convert('RGB'))
    return np.ascontiguousarray(rgb[..., ::-1])
