"""Label maps of objects with masks, for semantic segmentation: one number per pixel, 0 for the background."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from resformer_mm.files import write_atomically

from .annotated import AnnotatedData, AnnotatedImage, AnnotatedObject, FormatError
from .geometry import decode

BACKGROUND = 'background'
IGNORED = 255


def write(data: AnnotatedData, out: Path) -> Counter[str]:
    """Write ``masks``, ``classes.txt`` and no images; return what is lost.

    Line i of ``classes.txt``, from 0, names the value i. Smaller objects lie over larger ones, and crowd
    regions are ignored pixels (255).

    Raises:
        FormatError: there are too many classes, or no object has a mask.
    """
    lost: Counter[str] = Counter()
    names = [name for name in data.classes if name != BACKGROUND]
    numbers = {BACKGROUND: 0, **{name: number for number, name in enumerate(names, 1)}}
    if len(numbers) > IGNORED:
        raise FormatError(f'{len(names)} classes do not fit into label maps of 8 bits: at most {IGNORED - 1}')
    if not any(thing.mask for _, _, thing in data.objects()):
        raise FormatError('no object has a mask, and boxes make no label maps: write another format')
    for split in data.splits:
        for image in split.images:
            labels = np.zeros((image.height, image.width), np.uint8)
            covered = 0
            for thing, pixels in _largest_first(image, lost):
                covered += int(np.count_nonzero(labels[pixels]))
                labels[pixels] = IGNORED if thing.is_crowd else numbers[thing.category]
            lost['pixels of objects under other objects'] += covered
            with write_atomically(out / mask_path(split.name, image.file_name)) as path:
                Image.fromarray(labels).save(path, format='PNG')
    with write_atomically(out / 'classes.txt') as path:
        path.write_text(''.join(f'{name}\n' for name in numbers), encoding='utf-8')
    return +lost


def image_path(split: str, name: str) -> str:
    """Return the path of an image in what :func:`write` makes."""
    return f'images/{split}/{name}' if split else f'images/{name}'


def mask_path(split: str, name: str) -> str:
    """Return the path of the mask of an image in what :func:`write` makes."""
    stem = name.rpartition('.')[0] or name
    return f'masks/{split}/{stem}.png' if split else f'masks/{stem}.png'


def _largest_first(image: AnnotatedImage, lost: Counter[str]) -> list[tuple[AnnotatedObject, np.ndarray]]:
    """Return the objects that have a mask, and its pixels ``(H, W)``."""
    found = []
    for thing in image.objects:
        lost['objects without a mask: left out'] += not thing.mask
        lost['scores: left out'] += thing.score is not None
        if thing.mask:
            found.append((thing, decode(thing.mask, image.height, image.width).astype(bool)))
    return sorted(found, key=lambda entry: -int(entry[1].sum()))
