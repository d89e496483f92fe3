"""CVAT's XML files, for images (1.1) and for videos with their frames: boxes, polygons and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from resformer_mm.datasets.splits import split_name
from resformer_mm.files import write_atomically

from .annotated import (
    CHANGED,
    NO_FILE,
    NO_IMAGE,
    NO_OBJECT,
    OTHER_BOXES,
    TWICE,
    UNKNOWN_CLASS,
    UNREAD,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    FormatError,
    sorted_classes,
    training_first,
)
from .cvat_tracks import tracked_frames
from .geometry import (
    box_around,
    box_of_corners,
    box_of_mask,
    decode,
    encode,
    flat,
    has_other_box,
    merged,
    pixels_of_runs,
    points_of,
    rotated,
    runs_of,
)
from .images import ImageIndex
from .json_files import is_finite, looks_like
from .xml_files import LineElement, read_xml, text_of

FILE = 'annotations.xml'
_SHAPES = ('box', 'polygon', 'mask')
_OTHERS = ('polyline', 'points', 'ellipse', 'cuboid', 'skeleton', 'tag')


def is_found(root: Path) -> bool:
    """Whether a folder has an XML file of CVAT."""
    return bool(_files(root))


def read(root: Path) -> AnnotatedData:
    """Read boxes, polygons and masks; polygons and masks of one group and class are one object.

    Objects of tracks are read in every frame in which they are visible.
    """
    data, index = AnnotatedData(), ImageIndex(root)
    parts: dict[str, AnnotatedSplit] = {}
    names: dict[str, None] = {}
    for file in _files(root):
        try:
            element = read_xml(file)
        except (FormatError, OSError) as error:
            data.fault(file, NO_FILE, str(error))
            continue
        labels = [text_of(label, 'name') for label in element.iter('label')]
        names.update(dict.fromkeys(label for label in labels if label))
        if element.find('track') is not None:
            _read_tracks(data, index, file, element, set(names), parts)
        _read_images(data, index, file, element, set(names), parts)
    data.splits = sorted(parts.values(), key=training_first)
    data.classes = sorted_classes(data, tuple(names))
    return data


def write(data: AnnotatedData, out: Path) -> Counter[str]:
    """Write ``annotations.xml`` and no images; return what is lost."""
    lost: Counter[str] = Counter()
    root = Element('annotations')
    SubElement(root, 'version').text = '1.1'
    meta = SubElement(SubElement(root, 'meta'), 'project' if len(data.splits) > 1 else 'task')
    subsets = SubElement(meta, 'subsets') if len(data.splits) > 1 else meta
    for split in data.splits:
        SubElement(subsets, 'subset').text = split.name or 'default'
    labels = SubElement(meta, 'labels')
    attributes: dict[str, dict[str, None]] = {name: {} for name in data.classes}
    for _, _, thing in data.objects():
        attributes[thing.category].update(dict.fromkeys(_attributes(thing)))
    for name in data.classes:
        label = SubElement(labels, 'label')
        SubElement(label, 'name').text = name
        listed = SubElement(label, 'attributes')
        for attribute in attributes[name]:
            entry = SubElement(listed, 'attribute')
            SubElement(entry, 'name').text = attribute
            SubElement(entry, 'input_type').text = 'text'
    number = group = 0
    for split in data.splits:
        for image in split.images:
            entry = SubElement(
                root,
                'image',
                id=str(number),
                name=image.file_name,
                width=str(image.width),
                height=str(image.height),
            )
            if len(data.splits) > 1:
                entry.set('subset', split.name)
            number += 1
            for thing in image.objects:
                lost[OTHER_BOXES] += has_other_box(thing.box, thing.mask)
                several = isinstance(thing.mask, list) and len(thing.mask) > 1
                group += several
                _add_shapes(entry, thing, image, group if several else 0)
    with write_atomically(out / FILE) as path:
        indent(root)
        ElementTree(root).write(path, encoding='utf-8', xml_declaration=True)
    return +lost


def image_path(split: str, name: str) -> str:
    """Return the path of an image in what :func:`write` makes."""
    return f'images/{split}/{name}' if split else f'images/{name}'


def _files(root: Path) -> list[Path]:
    files = sorted((*root.glob('*.xml'), *root.glob('*/*.xml')))
    return [file for file in files if looks_like(file, b'<annotations') and looks_like(file, b'<meta')]


def _read_images(
    data: AnnotatedData,
    index: ImageIndex,
    file: Path,
    element: LineElement,
    known: set[str],
    parts: dict[str, AnnotatedSplit],
) -> None:
    below = file.parent.relative_to(index.root).as_posix()
    places = {}
    for entry in element.findall('image'):
        name, subset = entry.get('name', ''), entry.get('subset', '')
        folders = (f'images/{subset}', 'images', subset, '')
        places[subset, name] = [*(f'{below}/{folder}/{name}' for folder in folders), name]
    found = index.find(places, data, file)
    unread: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for entry in element.findall('image'):
        assert isinstance(entry, LineElement)
        name, place = entry.get('name', ''), f'line {entry.line}'
        path = found.get((entry.get('subset', ''), name))
        if path is None:
            detail = f'{place}: there is no image {name[:200]}: export with images, or add it'
            data.fault(file, NO_IMAGE, detail)
            continue
        image = index.image(path, data)
        stated = _integer(entry.get('height')), _integer(entry.get('width'))
        if image is None or data.has_other_size(file, place, stated, image):
            continue
        image.objects = _objects(data, file, entry, image, known, changed)
        unread.update(_unread_text(tag) for tag in _OTHERS for _ in entry.findall(tag))
        _part_of(parts, entry.get('subset', ''), index).images.append(image)
    data.counted(file, UNREAD, unread)
    data.counted(file, CHANGED, changed)


def _read_tracks(
    data: AnnotatedData,
    index: ImageIndex,
    file: Path,
    element: LineElement,
    known: set[str],
    parts: dict[str, AnnotatedSplit],
) -> None:
    """Read the shapes of every frame of a video whose images are there."""
    try:
        frames = tracked_frames(index, file, element)
    except FormatError as error:
        data.fault(file, NO_OBJECT, str(error))
        return
    changed: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    taken = {image.file_name for part in parts.values() for image in part.images}
    for number, path in sorted(frames.images.items()):
        if path in taken:
            data.fault(file, TWICE, f'{path} is a frame of two files: give each task a folder of its own')
            continue
        image = index.image(path, data)
        if image is None:
            continue
        shapes = frames.shapes.get(number, [])
        image.objects = _objects(data, file, shapes, image, known, changed)
        unread.update(_unread_text(shape.tag) for shape in shapes if shape.tag in _OTHERS)
        _part_of(parts, frames.subset, index).images.append(image)
    data.counted(file, UNREAD, unread)
    data.counted(file, CHANGED, changed)


def _part_of(parts: dict[str, AnnotatedSplit], subset: str, index: ImageIndex) -> AnnotatedSplit:
    """Return the split of a subset."""
    name = split_name(subset)
    name = '' if name.lower() == 'default' else name
    return parts.setdefault(name, AnnotatedSplit(name, index.root))


def _unread_text(tag: str) -> str:
    return f'shapes <{tag}>: draw boxes, polygons or masks'


def _objects(
    data: AnnotatedData,
    file: Path,
    entry: Iterable[Element],
    image: AnnotatedImage,
    known: set[str],
    changed: Counter[str],
) -> list[AnnotatedObject]:
    """Return the objects of an image, and report shapes that are none."""
    groups: dict[Any, AnnotatedObject] = {}
    for number, shape in enumerate(entry):
        if shape.tag not in _SHAPES:
            continue
        assert isinstance(shape, LineElement)
        label, place = shape.get('label', ''), f'line {shape.line}'
        if known and label not in known:
            detail = f'{label[:60]!r} is not in the labels of the file: correct it, or add the label'
            data.fault(file, UNKNOWN_CLASS, f'{place}: {detail}')
            continue
        try:
            thing = _object(shape, image, (str(file), place), changed)
            group = shape.get('group_id', '0')
            is_part = thing.mask is not None and group not in ('', '0')
            key = (label, group) if is_part else number
            groups[key] = merged(groups[key], thing, image) if key in groups else thing
        except ValueError as error:
            data.fault(file, NO_OBJECT, f'{place}: <{shape.tag}> {error}: correct or remove it')
    return list(groups.values())


def _object(
    shape: Element, image: AnnotatedImage, where: tuple[str, str], changed: Counter[str]
) -> AnnotatedObject:
    attributes: dict[str, Any] = {
        entry.get('name', ''): (entry.text or '').strip() for entry in shape.findall('attribute')
    }
    attributes = {name: _value(text) for name, text in attributes.items() if name and text != 'false'}
    if shape.get('occluded') == '1':
        attributes['occluded'] = True
    is_crowd = bool(attributes.pop('iscrowd', False))
    score = attributes.pop('score', None)
    common: dict[str, Any] = dict(
        is_crowd=is_crowd, score=score if is_finite(score) else None, attributes=attributes, where=where
    )
    label = shape.get('label', '')
    if shape.tag == 'box':
        box = box_of_corners(*(_number(shape, side) for side in ('xtl', 'ytl', 'xbr', 'ybr')))
        if angle := _number(shape, 'rotation', 0):
            changed['rotated boxes: the upright boxes around them are taken'] += 1
            box = box_around(rotated(box, angle, around_centre=True))
        return AnnotatedObject(label, box, **common)
    if shape.tag == 'polygon':
        pairs = [pair.split(',') for pair in shape.get('points', '').split(';') if pair]
        points = [(float(x), float(y)) for x, y in pairs]
        if len(points) < 3:
            raise ValueError(f'has {len(points)} points, not 3 or more')
        return AnnotatedObject(label, box_around(points), [flat(points)], **common)
    left, top, width, height = (int(_number(shape, side)) for side in ('left', 'top', 'width', 'height'))
    if (
        min(left, top) < 0
        or min(width, height) < 1
        or left + width > image.width
        or top + height > image.height
    ):
        raise ValueError(f'has the place {left}, {top}, {width}, {height}, which is not in the image')
    part = pixels_of_runs([int(run) for run in shape.get('rle', '').split(',')], height, width)
    pixels = np.zeros((image.height, image.width), np.uint8)
    pixels[top : top + height, left : left + width] = part
    code = encode(pixels)
    return AnnotatedObject(label, box_of_mask(code) or (left, top, width, height), code, **common)


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _number(shape: Element, name: str, default: float | None = None) -> float:
    text = shape.get(name)
    if text is None and default is not None:
        return default
    try:
        return float(text or '')
    except ValueError:
        raise ValueError(f'has {name}={text!r}, which is not a number') from None


def _value(text: str) -> bool | float | str:
    """Return what the text of an attribute stands for."""
    if text == 'true':
        return True
    try:
        return float(text)
    except ValueError:
        return text


def _attributes(thing: AnnotatedObject) -> dict[str, str]:
    """Return the attributes of an object as texts, those that CVAT does not have as attributes, too."""
    values = {**thing.attributes, **({'iscrowd': True} if thing.is_crowd else {})}
    values.pop('occluded', None)
    if thing.score is not None:
        values['score'] = thing.score
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()
    }


def _add_shapes(entry: Element, thing: AnnotatedObject, image: AnnotatedImage, group: int) -> None:
    common = {
        'label': thing.category,
        'source': 'manual' if thing.score is None else 'auto',
        'occluded': str(int(bool(thing.attributes.get('occluded')))),
    }
    shapes = []
    if isinstance(thing.mask, dict):
        pixels = decode(thing.mask, image.height, image.width)
        left, top, across, down = map(int, box_of_mask(thing.mask) or (0, 0, 0, 0))
        runs = ', '.join(map(str, runs_of(pixels[top : top + down, left : left + across])))
        place = {'left': str(left), 'top': str(top), 'width': str(across), 'height': str(down)}
        shapes.append(SubElement(entry, 'mask', {**common, 'rle': runs, **place, 'z_order': '0'}))
    elif thing.mask:
        for polygon in thing.mask:
            points = ';'.join(f'{_short(x)},{_short(y)}' for x, y in points_of(polygon))
            shapes.append(SubElement(entry, 'polygon', {**common, 'points': points, 'z_order': '0'}))
    else:
        x, y, width, height = thing.box
        sides = zip(('xtl', 'ytl', 'xbr', 'ybr'), (x, y, x + width, y + height))
        place = {name: _short(value) for name, value in sides}
        shapes.append(SubElement(entry, 'box', {**common, **place, 'z_order': '0'}))
    for shape in shapes:
        if group:
            shape.set('group_id', str(group))
        for name, value in _attributes(thing).items():
            SubElement(shape, 'attribute', name=name).text = value


def _short(value: float) -> str:
    """Return a coordinate; CVAT itself writes two digits."""
    return f'{value:.4f}'.rstrip('0').rstrip('.')
