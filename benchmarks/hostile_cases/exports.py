"""Hostile exports of labelling tools: XML, YAML, JSON and names of images."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from resformer_mm.formats.conversion import read_annotations, write_annotations

from .case import HARMLESS, Case

SIDE = 16
_MEMORY = 'fills the memory'


def with_file(name: str, text: str) -> Callable[[Path], Path]:
    """Return a function that writes images and a file beside them."""

    def make(folder: Path) -> Path:
        (folder / 'images').mkdir()
        for image in ('a.png', 'b.png'):
            Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(folder / 'images' / image)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        return folder

    return make


def convert(folder: Path) -> str:
    """Read the folder, and write it in another format, as the converter does."""
    data = read_annotations(folder)
    if not data.report.is_sound:
        raise ValueError(data.report.text())
    write_annotations(data, folder.parent / 'out', 'yolo')
    return f'{sum(len(split.images) for split in data.splits)} images'


def entry(what: str, attack: str, name: str, text: str, *outcome: str) -> Case:
    """Return the case of an export."""
    return Case('export', what, attack, with_file(name, text), convert, *outcome)


def voc(declaration: str, name: str = 'thing', file_name: str = 'a.png') -> str:
    """Return a file of Pascal VOC with a declaration before it."""
    box = '<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>'
    return (
        f'{declaration}<annotation><filename>{file_name}</filename><object><name>{name}</name>{box}</object>'
        '</annotation>'
    )


def labelme(**shape: object) -> str:
    """Return a file of LabelMe with one shape."""
    shapes = [{'label': 'thing', 'points': [[1, 1], [9, 9]], 'shape_type': 'mask', **shape}]
    content = {'imagePath': 'a.png', 'imageData': None, 'imageHeight': SIDE, 'imageWidth': SIDE}
    return json.dumps({**content, 'shapes': shapes})


def cvat(shape: str, image: str = 'a.png') -> str:
    """Return a file of CVAT with one shape."""
    return (
        '<annotations><meta><label><name>thing</name></label></meta>'
        f'<image id="0" name="{image}" width="{SIDE}" height="{SIDE}">{shape}</image></annotations>'
    )


def _picture(side: int) -> str:
    picture = io.BytesIO()
    Image.new('1', (side, side), 1).save(picture, 'PNG')
    return base64.b64encode(picture.getvalue()).decode()


def _brush(number: int) -> str:
    code = [*number.to_bytes(4, 'big'), 58, 51, 127]
    value = {'format': 'rle', 'rle': code, 'brushlabels': ['thing']}
    result = {'type': 'brushlabels', 'original_width': SIDE, 'original_height': SIDE, 'value': value}
    return json.dumps([{'id': 1, 'data': {'image': 'a.png'}, 'annotations': [{'result': [result]}]}])


_LAUGHS = ''.join(
    f'<!ENTITY l{number} "{"ha" if number == 0 else 10 * f"&l{number - 1};"}">' for number in range(15)
)
_ALIASES = '\n'.join(f'a{n}: &a{n} [{", ".join([f"*a{n - 1}" if n else "x"] * 10)}]' for n in range(30))
_UP = '../' * 9
CASES = (
    entry('billion laughs', _MEMORY, 'a.xml', voc(f'<!DOCTYPE a [{_LAUGHS}]>', '&l14;'), 'refused', 'entity'),
    entry(
        'entity of /etc/passwd',
        'reads another file',
        'a.xml',
        voc('<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]>', '&f;'),
        'refused',
        'entity',
    ),
    entry(
        'definitions at http://...',
        'asks another machine',
        'a.xml',
        voc('<!DOCTYPE annotation SYSTEM "http://127.0.0.1:9/a.dtd">'),
        HARMLESS,
    ),
    entry(
        '10^5 elements in each other',
        'crashes the process',
        'a.xml',
        voc('', 10**5 * '<a>' + 10**5 * '</a>'),
        'refused',
        'nested',
    ),
    entry(
        'filename ../../etc/passwd',
        'reads another file',
        'z.xml',
        voc('', file_name=f'{_UP}etc/passwd'),
        'refused',
        'there is no image',
    ),
    entry(
        'YAML with an object',
        'runs code',
        'data.yaml',
        'train: images\nnames: !!python/object/apply:os.system ["touch trace"]',
        'refused',
        'YAML',
    ),
    entry(
        'YAML with aliases of aliases',
        _MEMORY,
        'data.yaml',
        f'{_ALIASES}\ntrain: images\nnames: *a29',
        'refused',
        'names has a list',
    ),
    entry(
        'YAML with train: ../../etc',
        'reads another folder',
        'data.yaml',
        f'train: {_UP}etc\nnames: [thing]',
        'refused',
        'leads to no images',
    ),
    entry(
        'mask of 900 million pixels', _MEMORY, 'a.json', labelme(mask=_picture(30_000)), 'refused', 'limit'
    ),
    entry(
        'mask at -10^9',
        'writes beyond a buffer',
        'a.json',
        labelme(points=[[-(10**9), -(10**9)], [1, 1]], mask=_picture(9)),
        'refused',
        'less than a pixel',
    ),
    entry(
        'polygon to 10^9',
        _MEMORY,
        'a.json',
        labelme(shape_type='polygon', points=[[0, 0], [10**9, 0], [10**9, 10**9]]),
        'refused',
        'pixels along their lines',
    ),
    entry(
        'mask of 2^30 x 2^30',
        _MEMORY,
        'annotations.xml',
        cvat('<mask label="thing" rle="0, 1" left="0" top="0" width="1073741824" height="1073741824"/>'),
        'refused',
        'not in the image',
    ),
    entry(
        'runs beyond the mask',
        'writes beyond a buffer',
        'annotations.xml',
        cvat('<mask label="thing" rle="9, 4294967296" left="0" top="0" width="4" height="4"/>'),
        'refused',
        'its runs cover',
    ),
    entry('brush mask of 2^32 values', _MEMORY, 'tasks.json', _brush(2**32 - 1), 'refused', 'values'),
    entry(
        'brush mask that is cut off', 'takes for ever', 'tasks.json', _brush(4 * SIDE**2), 'refused', 'rle'
    ),
)
