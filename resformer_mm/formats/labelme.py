"""LabelMe: a JSON file per image with polygons, rectangles and masks."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from PIL import UnidentifiedImageError

from resformer_mm.datasets.image_files import opened_image
from resformer_mm.datasets.label_lists import LabelListError, read_lines
from resformer_mm.datasets.regular_files import list_files
from resformer_mm.datasets.splits import split_of
from resformer_mm.files import write_atomically
from resformer_mm.hidden_files import is_hidden

from .annotated import (
    NO_FILE,
    NO_IMAGE,
    NO_OBJECT,
    OTHER_BOXES,
    UNREAD,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    FormatError,
    sorted_classes,
    training_first,
)
from .geometry import (
    box_around,
    box_of_mask,
    decode,
    encode,
    flat,
    has_other_box,
    merged,
    points_of,
)
from .images import ImageIndex
from .json_files import is_points, looks_like, read_json

NAMES = 'labels.txt'
_FIRST = 20
_VERSION = '5.5.0'


def is_found(root: Path) -> bool:
    """Whether a folder or its subfolders have JSON files of LabelMe."""
    return any(looks_like(root / name, b'"shapes"', b'"imagePath"') for name in _json_files(root)[:_FIRST])


def read(root: Path) -> AnnotatedData:
    """Read polygons, rectangles and masks; shapes of one class and ``group_id`` are one object."""
    data, index = AnnotatedData(), ImageIndex(root)
    contents: dict[str, dict] = {}
    for name in _json_files(root):
        try:
            content = read_json(root / name)
        except (FormatError, OSError) as error:
            data.fault(root / name, NO_FILE, str(error))
            continue
        if isinstance(content, dict) and isinstance(content.get('shapes'), list):
            contents[name] = content
    found = index.find({name: _places(name, content) for name, content in contents.items()}, data, root)
    parts: dict[str, AnnotatedSplit] = {}
    unread: Counter[str] = Counter()
    for name, content in contents.items():
        if name not in found:
            stated = str(content.get('imagePath'))[:200]
            hint = (
                ', which is inside the file as imageData: save it as a file'
                if content.get('imageData')
                else ''
            )
            data.fault(
                root / name, NO_IMAGE, f'there is no image {stated}{hint or ": add it, or remove the file"}'
            )
            continue
        image = index.image(found[name], data)
        stated_size = content.get('imageHeight'), content.get('imageWidth')
        if image is None or data.has_other_size(root / name, '', stated_size, image):
            continue
        image.objects = _objects(data, root / name, content['shapes'], image, unread)
        split = split_of(name)
        parts.setdefault(split, AnnotatedSplit(split, root)).images.append(image)
    data.counted(root, UNREAD, unread)
    listed = {image.file_name for part in parts.values() for image in part.images}
    for name in index.names:
        if name not in listed and split_of(name) in parts and (image := index.image(name, data)) is not None:
            parts[split_of(name)].images.append(image)
    data.splits = sorted(parts.values(), key=training_first)
    data.classes = sorted_classes(data, _class_list(data, root))
    return data


def write(data: AnnotatedData, out: Path) -> Counter[str]:
    """Write a JSON file beside the place of each image, and ``labels.txt``; return what is lost."""
    lost: Counter[str] = Counter()
    for split in data.splits:
        for image in split.images:
            place = PurePosixPath(image_path(split.name, image.file_name))
            content: dict[str, Any] = {
                'version': _VERSION,
                'flags': {},
                'shapes': [
                    shape for thing in _grouped(image.objects) for shape in _shapes(*thing, image, lost)
                ],
                'imagePath': place.name,
                'imageData': None,
                'imageHeight': image.height,
                'imageWidth': image.width,
            }
            with write_atomically(out / place.with_suffix('.json')) as path:
                path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding='utf-8')
    with write_atomically(out / NAMES) as path:
        path.write_text(''.join(f'{name}\n' for name in data.classes), encoding='utf-8')
    return +lost


def image_path(split: str, name: str) -> str:
    """Return the path of an image in what :func:`write` makes."""
    return f'{split}/{name}' if split else name


def _json_files(root: Path) -> list[str]:
    return [name.replace(os.sep, '/') for name in sorted(list_files(root, '.json')) if not is_hidden(name)]


def _places(name: str, content: dict) -> list[str]:
    folder = name.rpartition('/')[0]
    path = content.get('imagePath')
    path = path.replace('\\', '/') if isinstance(path, str) else ''
    stem = name.removesuffix('.json')
    places = (
        [f'{folder}/{path}'.lstrip('/'), f'{folder}/{path.rpartition("/")[2]}'.lstrip('/')] if path else []
    )
    places += [stem + suffix for suffix in ('.jpg', '.png', '.jpeg', '.JPG', '.bmp')]
    return [*places, path or stem]


def _class_list(data: AnnotatedData, root: Path) -> tuple[str, ...]:
    file = root / NAMES
    if not file.is_file():
        return ()
    try:
        lines = [line.strip() for line in read_lines(str(file))]
    except LabelListError as error:
        data.fault(file, NO_FILE, str(error))
        return ()
    # `__ignore__` and `_background_` of LabelMe's examples are not classes.
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith('_')))


def _objects(
    data: AnnotatedData, path: Path, shapes: list, image: AnnotatedImage, unread: Counter[str]
) -> list[AnnotatedObject]:
    """Return the objects of the shapes of an image, and report shapes that are none."""
    groups: dict[Any, AnnotatedObject] = {}
    for number, shape in enumerate(shapes, 1):
        place = f'shape {number}'
        label = shape.get('label') if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label.strip() or not is_points(shape.get('points')):
            data.fault(path, NO_OBJECT, f'{place} has no label, or points that are not [x, y]: remove it')
            continue
        kind = str(shape.get('shape_type') or 'polygon')
        try:
            thing = _object(shape, kind, image, (str(path), f'{place} ({label[:60]})'))
            if thing is None:
                unread[f'shapes of the type {kind[:30]!r}: draw polygons, rectangles or masks'] += 1
                continue
            group = shape.get('group_id')
            key = (label, group) if isinstance(group, int) else number
            groups[key] = merged(groups[key], thing, image) if key in groups else thing
        except (ValueError, OSError, binascii.Error) as error:
            data.fault(path, NO_OBJECT, f'{place} ({label[:60]}): {error}: correct or remove it')
    return list(groups.values())


def _object(shape: dict, kind: str, image: AnnotatedImage, where: tuple[str, str]) -> AnnotatedObject | None:
    """Return the object of a shape; None if it has another type."""
    points = [(float(x), float(y)) for x, y in shape['points']]
    flags = shape.get('flags')
    attributes = {key: value for key, value in (flags if isinstance(flags, dict) else {}).items() if value}
    is_crowd = bool(attributes.pop('iscrowd', False))
    if shape.get('description'):
        attributes['description'] = str(shape['description'])
    score = shape.get('score')
    common: dict[str, Any] = dict(
        is_crowd=is_crowd,
        score=float(score) if isinstance(score, (int, float)) else None,
        attributes=attributes,
        where=where,
    )
    label = shape['label'].strip()
    if kind == 'rectangle':
        if len(points) not in (2, 4):
            raise ValueError(f'a rectangle of {len(points)} points, not 2')
        return AnnotatedObject(label, box_around(points), **common)
    if kind == 'polygon':
        if len(points) < 3:
            raise ValueError(f'a polygon of {len(points)} points, not 3 or more')
        return AnnotatedObject(label, box_around(points), [flat(points)], **common)
    if kind == 'mask':
        code = encode(_mask(shape, points, image))
        return AnnotatedObject(label, box_of_mask(code) or (0, 0, 0, 0), code, **common)
    return None


def _mask(shape: dict, points: list[tuple[float, float]], image: AnnotatedImage) -> np.ndarray:
    """Return the pixels ``(H, W)`` of a mask, which is stored as a PNG file of its part of the image."""
    if len(points) != 2 or not isinstance(shape.get('mask'), str):
        raise ValueError('a mask without two corners and a picture')
    raw = base64.b64decode(shape['mask'], validate=True)
    try:
        with opened_image(raw, max_pixels=4 * image.height * image.width + 4) as picture:
            part = np.asarray(picture) > 0
    except UnidentifiedImageError as error:
        raise ValueError('a mask that is not a picture') from error
    if part.ndim != 2:
        raise ValueError('a mask in colours')
    left, top = round(points[0][0]), round(points[0][1])
    pixels = np.zeros((image.height, image.width), np.uint8)
    y, x = max(top, 0), max(left, 0)
    shown = part[y - top : image.height - top, x - left : image.width - left]
    pixels[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
    return pixels


def _grouped(things: list[AnnotatedObject]) -> list[tuple[AnnotatedObject, int | None]]:
    """Return the objects, those of several polygons with a number for their group."""
    numbers = iter(range(1, len(things) + 1))
    several = [isinstance(thing.mask, list) and len(thing.mask) > 1 for thing in things]
    return [(thing, next(numbers) if many else None) for thing, many in zip(things, several)]


def _shapes(
    thing: AnnotatedObject, group: int | None, image: AnnotatedImage, lost: Counter[str]
) -> list[dict[str, Any]]:
    """Return the shapes of an object: its polygons, its mask, or its box."""
    flags = {key: value for key, value in thing.attributes.items() if isinstance(value, bool)}
    description = str(thing.attributes.get('description', ''))
    lost['attributes of objects that are not flags: left out'] += len(
        thing.attributes.keys() - flags.keys() - {'description'}
    )
    common: dict[str, Any] = {
        'label': thing.category,
        'group_id': group,
        'description': description,
        'flags': {**flags, **({'iscrowd': True} if thing.is_crowd else {})},
    }
    if thing.score is not None:
        common['score'] = thing.score
    x, y, width, height = thing.box
    lost[OTHER_BOXES] += has_other_box(thing.box, thing.mask)
    if isinstance(thing.mask, dict):
        pixels = decode(thing.mask, image.height, image.width)
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        if rows.size:
            part = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            picture = base64.b64encode(cv2.imencode('.png', part)[1].tobytes()).decode()
            ends = [[int(columns[0]), int(rows[0])], [int(columns[-1]), int(rows[-1])]]
            return [{**common, 'points': ends, 'shape_type': 'mask', 'mask': picture}]
    if isinstance(thing.mask, list):
        polygons = [[list(point) for point in points_of(polygon)] for polygon in thing.mask]
        return [{**common, 'points': points, 'shape_type': 'polygon', 'mask': None} for points in polygons]
    corners = [[x, y], [x + width, y + height]]
    return [{**common, 'points': corners, 'shape_type': 'rectangle', 'mask': None}]
