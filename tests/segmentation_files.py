"""Small images and masks in ADE20K's layout, shared by the tests of segmentation data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def write_image(path: Path, shape: tuple[int, int] = (20, 30), orientation: int = 1) -> Path:
    """Write a noisy picture of ``(height, width)`` pixels as they are stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation != 1:
        exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def write_mask(path: Path, values, mode: str | None = None) -> Path:
    """Write an array of values, or a size filled with 1, as a mask file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.ones(values, np.uint8) if isinstance(values, tuple) else np.asarray(values)
    image = Image.fromarray(array)
    if mode == 'P':
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    elif mode is not None:
        image = image.convert(mode)
    image.save(path)
    return path


def write_pairs(root: Path, split: str = 'training', names=('a', 'b', 'c'), shape=(20, 30)) -> Path:
    """Write sound pairs whose masks have values 0 to 3 and 255, as random as a file name."""
    for number, name in enumerate(names):
        write_image(root / 'images' / split / f'{name}.jpg', shape)
        values = np.random.default_rng(number).choice(np.array([0, 1, 2, 3, 255], np.uint8), shape)
        write_mask(root / 'annotations' / split / f'{name}.png', values)
    return root
