"""Small data of the aerial, medical and microscope configs, in the layouts that they expect."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detection_files import annotation, write_content
from segmentation_files import write_image, write_mask

SIZE = (48, 64)
VISDRONE = 'pedestrian people bicycle car van truck tricycle awning-tricycle bus motor'.split()
CELLS = ('Platelets', 'RBC', 'WBC')
# Folder -> suffixes of image and mask, folders of images and masks by split, values of the masks.
ADE, MMSEG = ('images/{}', 'annotations/{}'), ('img_dir/{}', 'ann_dir/{}')
PAIRS = {
    'loveDA': ('.png', '.png', MMSEG, ('train', 'val'), [*range(8)]),
    'potsdam': ('.png', '.png', MMSEG, ('train', 'val'), [*range(7)]),
    'iSAID': ('.png', '_instance_color_RGB.png', MMSEG, ('train', 'val'), [*range(16), 255]),
    'synapse': ('.jpg', '.png', MMSEG, ('train', 'val'), [*range(9)]),
    'REFUGE': ('.png', '.png', ADE, ('training', 'validation', 'test'), [*range(3)]),
}


def write_domains(root: Path) -> Path:
    """Write data of every domain below ``ROOT/data``, with every class."""
    for name in PAIRS:
        write_domain_pairs(root / 'data' / name)
    write_boxes(root / 'data' / 'visdrone', VISDRONE, ('train', 'val'))
    write_boxes(root / 'data' / 'bccd_coco', CELLS, ('train', 'val', 'test'))
    write_class_folders(root / 'data' / 'eurosat', 10)
    write_class_folders(root / 'data' / 'resisc45', 45)
    return root


def write_domain_pairs(root: Path, number: int = 8, size: tuple[int, int] = SIZE) -> Path:
    """Write images and masks of the data set of a folder, the masks as random as their number."""
    image_suffix, mask_suffix, folders, splits, values = PAIRS[root.name]
    for split in splits:
        images, masks = (root / folder.format(split) for folder in folders)
        for index in range(number):
            write_image(images / f'{index}{image_suffix}', size)
            mask = np.random.default_rng(index).permutation(np.resize(values, size[0] * size[1]))
            write_mask(masks / f'{index}{mask_suffix}', mask.reshape(size).astype(np.uint8))
    return root


def write_boxes(root: Path, names: Sequence[str], splits: Sequence[str], number: int = 8) -> Path:
    """Write images and COCO files of boxes without masks."""
    images = [dict(id=n, file_name=f'{n}.jpg', height=SIZE[0], width=SIZE[1]) for n in range(1, number + 1)]
    objects = [annotation(n, n % number + 1, n, segmentation=[]) for n in range(1, len(names) + 1)]
    categories = [dict(id=n, name=name) for n, name in enumerate(names, 1)]
    for split in splits:
        for image in images:
            write_image(root / split / image['file_name'], SIZE)
        write_content(root, dict(images=images, annotations=objects, categories=categories), split)
    return root


def write_class_folders(
    root: Path, num_classes: int, splits: Sequence[str] = ('train', 'val'), number: int = 1
) -> Path:
    """Write a number of pictures, all the same one, per class and split."""
    image = write_image(root / 'image.png', SIZE)
    for split in splits:
        for label in range(num_classes):
            (root / split / f'class_{label:04d}').mkdir(parents=True)
            for index in range(number):
                os.link(image, root / split / f'class_{label:04d}' / f'image_{index}.png')
    return root
