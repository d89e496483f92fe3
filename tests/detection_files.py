"""Small images with annotations in COCO's format, shared by the tests of detection data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from segmentation_files import write_image

HEIGHT, WIDTH = 20, 30
CATEGORIES = {'cat': 3, 'dog': 7, 'owl': 8}


def annotation(number: int, image: int, category: int = 3, box: Sequence[float] = (4, 5, 10, 8), **fields):
    """Return an object that fills its box, with a polygon around it."""
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return (
        dict(
            id=number,
            image_id=image,
            category_id=category,
            bbox=list(box),
            area=w * h,
            iscrowd=0,
            segmentation=[polygon],
        )
        | fields
    )


def crowd(number: int, image: int, category: int = 3) -> dict:
    """Return a crowd region: columns 2 to 4 of the image."""
    counts = [2 * HEIGHT, 3 * HEIGHT, (WIDTH - 5) * HEIGHT]
    code = dict(size=[HEIGHT, WIDTH], counts=counts)
    return annotation(number, image, category, (2, 0, 3, HEIGHT), iscrowd=1, segmentation=code)


def content(num_images: int = 3) -> dict:
    """Return the content of a sound file: two objects, a crowd and an object, nothing, nothing, ..."""
    images = [
        dict(id=10 * number, file_name=f'{number}.jpg', height=HEIGHT, width=WIDTH)
        for number in range(1, num_images + 1)
    ]
    annotations = [
        annotation(1, 10),
        annotation(2, 10, 8, (15, 2, 9, 12)),
        crowd(3, 20, 7),
        annotation(4, 20),
    ]
    categories = [dict(id=number, name=name) for name, number in CATEGORIES.items()]
    return dict(images=images, annotations=annotations, categories=categories)


def write_content(root: Path, text: dict | str, split: str = 'train2017') -> Path:
    """Write an annotation file, as it is or as JSON."""
    path = root / 'annotations' / f'instances_{split}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def write_coco(root: Path, split: str = 'train2017', num_images: int = 3) -> Path:
    """Write sound images and annotations."""
    for image in content(num_images)['images']:
        write_image(root / split / image['file_name'], (HEIGHT, WIDTH))
    write_content(root, content(num_images), split)
    return root
