"""Hostile annotation files in COCO format, and lists of images and clips."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools import mask as coco_mask

from resformer_mm.datasets.label_lists import read_label_list
from resformer_mm.datasets.loading import LoadImage
from resformer_mm.tasks.detection.coco import DetectionFolder

from .case import HARMLESS, Case

SIDE = 16


def coco(folder: Path, image: dict | None = None, annotation: dict | None = None) -> dict:
    """Write an image, and return annotations of it, with other fields of the image or its annotation."""
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(folder / 'a.png')
    box = {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 8, 8], 'area': 64, 'iscrowd': 0}
    box['segmentation'] = [[1, 1, 9, 1, 9, 9, 1, 9]]
    return {
        'images': [{'id': 1, 'file_name': 'a.png', 'height': SIDE, 'width': SIDE, **(image or {})}],
        'annotations': [{**box, **(annotation or {})}],
        'categories': [{'id': 1, 'name': 'thing'}],
    }


def with_fields(image: dict | None = None, annotation: dict | None = None) -> Callable[[Path], Path]:
    """Return a function that writes such a file."""

    def make(folder: Path) -> Path:
        content = coco(folder, image, annotation)
        (folder / 'labels.json').write_text(json.dumps(content))
        return folder / 'labels.json'

    return make


def with_text(find: str, replacement: str) -> Callable[[Path], Path]:
    """Return a function that writes a file with a part of its text replaced."""

    def make(folder: Path) -> Path:
        text = json.dumps(coco(folder))
        assert find in text
        (folder / 'labels.json').write_text(text.replace(find, replacement))
        return folder / 'labels.json'

    return make


def train_on(path: Path) -> str:
    """Read a data set as training does: entries, images and masks."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        pipeline = [
            dict(type='resformer_mm.LoadImage'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        ]
        dataset = DetectionFolder(
            ann_file=path.name,
            data_root=str(path.parent),
            classes_file=path.name,
            data_prefix=dict(img=''),
            pipeline=pipeline,
        )
        samples = [dataset[index] for index in range(len(dataset))]
        codes = [coco_mask.encode(np.asfortranarray(mask)) for s in samples for mask in s['gt_masks'].masks]
        return f'{len(samples)} images, {len(codes)} masks'


def entry(what: str, attack: str, make: Callable[[Path], Any], *outcome: str) -> Case:
    """Return the case of an annotation file."""
    return Case('annotations', what, attack, make, train_on, *outcome)


def listed(line: str) -> Callable[[Path], Path]:
    """Return a function that writes a list with this line, beside a pipe and a link to a device."""

    def make(folder: Path) -> Path:
        os.mkfifo(folder / 'pipe.png')
        (folder / 'zero.png').symlink_to('/dev/zero')
        (folder / 'list.txt').write_text(f'{line}\n')
        return folder / 'list.txt'

    return make


def load_listed(path: Path) -> str:
    """Load the images of a list."""
    lines, _ = read_label_list(str(path))
    return ', '.join(
        str(LoadImage().transform(dict(img_path=os.path.join(path.parent, line.path)))['img'].shape)
        for line in lines
    )


def _zigzag(number: int, length: int) -> list[list[int]]:
    return [[0, 0, length, length] * number + [0, length]]


_MEMORY, _CRASH = 'fills the memory', 'crashes the process'
_DIGITS = '9' * 5000
CASES = (
    entry(
        'nested lists',
        _CRASH,
        with_text('"area": 64', f'"area": {"[" * 10**5}{"]" * 10**5}'),
        'refused',
        'nested',
    ),
    entry('number of 5000 digits', 'takes for ever', with_text('"area": 64', f'"area": {_DIGITS}')),
    entry(
        'id beyond 64 bits', _CRASH, with_fields(annotation=dict(category_id=2**70)), 'refused', 'category_id'
    ),
    entry('NaN and Infinity', 'trains on nothing', with_text('[1, 1, 8, 8]', '[NaN, 1, Infinity, 8]')),
    entry('fields twice', 'hides an entry', with_text('"area": 64', '"area": 1, "area": 64'), HARMLESS),
    entry('size of 10^9 x 10^9', _MEMORY, with_fields(dict(height=10**9, width=10**9)), 'refused', 'height'),
    entry(
        'size of 2^20 x 2^20', _MEMORY, with_fields(dict(height=2**20, width=2**20)), 'refused', 'for 1048576'
    ),
    entry(
        'run-length code of another size',
        _MEMORY,
        with_fields(annotation=dict(segmentation=dict(size=[2**16, 2**16], counts=[2**32]))),
        'refused',
        'its size is',
    ),
    entry(
        'run-length code of one endless number',
        'takes for ever',
        with_fields(annotation=dict(segmentation=dict(size=[SIDE, SIDE], counts='o' * 10**6))),
        'refused',
        'number that is too large',
    ),
    entry(
        'code that is too short',
        'reads memory',
        with_fields(annotation=dict(segmentation=dict(size=[SIDE, SIDE], counts='0'))),
        'refused',
        'its runs cover',
    ),
    entry(
        'polygon of 10^5 corners',
        _MEMORY,
        with_fields(annotation=dict(segmentation=_zigzag(10**5 // 2, 1000))),
        'refused',
        'pixels along their lines',
    ),
    entry(
        'polygon to 10^9',
        'writes beyond a buffer',
        with_fields(annotation=dict(segmentation=[[0, 0, 10**9, 0, 10**9, 10**9]])),
        'refused',
        'pixels along their lines',
    ),
    entry(
        'file_name ../../etc/passwd',
        'reads another file',
        with_fields(dict(file_name='../' * 9 + 'etc/passwd')),
    ),
    entry('file_name /etc/passwd', 'reads another file', with_fields(dict(file_name='/etc/passwd'))),
    entry('file_name /dev/zero', _MEMORY, with_fields(dict(file_name='/dev/zero'))),
    entry('file_name with a zero byte', _CRASH, with_fields(dict(file_name='a\0.png'))),
    entry(
        'file_name http://...',
        'asks another machine',
        with_fields(dict(file_name='http://127.0.0.1:9/a.png')),
    ),
    Case('list', 'line /dev/zero', _MEMORY, listed('/dev/zero 0'), load_listed, 'refused', 'device'),
    Case(
        'list', 'line of a link to /dev/zero', _MEMORY, listed('zero.png 0'), load_listed, 'refused', 'device'
    ),
    Case('list', 'line of a pipe', 'waits for ever', listed('pipe.png 0'), load_listed, 'refused', 'pipe'),
    Case(
        'list', 'line ../../etc/passwd', 'reads another file', listed('../' * 9 + 'etc/passwd 0'), load_listed
    ),
)
