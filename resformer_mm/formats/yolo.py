"""YOLO's text files: a line per object with its class and a box or an outline, in fractions of the image."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resformer_mm.datasets.label_lists import LabelListError, read_lines
from resformer_mm.files import write_atomically

from .annotated import (
    CHANGED,
    NO_ENTRY,
    NO_FILE,
    NO_OBJECT,
    OTHER_BOXES,
    OUT_OF_RANGE,
    UNKNOWN_CLASS,
    UNREAD,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    training_first,
)
from .geometry import box_around, clockwise, decode, flat, has_other_box, joined, outlines, points_of
from .images import ImageIndex
from .yolo_layout import YoloLayout, find_layout, first_lines, label_files, label_places, yaml_file

_TOLERANCE = 0.01  # of the image: annotation tools round
_FIRST = 20


def is_found(root: Path) -> bool:
    """Whether a folder has a YAML file of classes and splits, or text files with labels beside images."""
    if yaml_file(root) is not None:
        return True
    texts = set(label_files(root))
    labels = [place for name in ImageIndex(root).names for place in label_places(name) if place in texts]
    lines = list(first_lines(root, labels[:_FIRST]))
    return bool(lines) and all(len(line) >= 5 and line[0].isdecimal() and _numbers(line) for line in lines)


def read(root: Path) -> AnnotatedData:
    """Read labels, in the dialects for boxes and for outlines; images without labels are background.

    Raises:
        FormatError: the classes or the images of the splits cannot be found.
    """
    data, index = AnnotatedData(), ImageIndex(root)
    layout = find_layout(root, index, data)
    texts, used = set(label_files(root)), set[str]()
    highest = -1
    for name, images in layout.splits.items():
        split = AnnotatedSplit(name, root)
        for path in images:
            image = index.image(path, data)
            if image is None:
                continue
            place = next((place for place in label_places(path) if place in texts), None)
            if place is not None:
                used.add(place)
                highest = max(highest, _read_labels(data, root / place, image, layout))
            split.images.append(image)
        data.splits.append(split)
    if layout.classes is None:
        layout.classes = [str(number) for number in range(highest + 1)]
        detail = 'there is no list of class names, so their numbers are the names: add classes.txt'
        data.note(root, CHANGED, detail)
    data.classes = tuple(layout.classes)
    for place in sorted(texts - used):
        if any(folder in f'/{place}' for folder in ('/labels/', '/obj_')):
            data.fault(root / place, NO_ENTRY, 'there is no image of its name: add it, or remove the file')
    data.splits.sort(key=training_first)
    return data


def write(data: AnnotatedData, out: Path) -> Counter[str]:
    """Write labels, ``data.yaml`` and no images; return what is lost.

    Outlines are written if most objects have a mask, else boxes: YOLO does not take both in one data set.
    """
    lost: Counter[str] = Counter()
    numbers = {name: number for number, name in enumerate(data.classes)}
    masks = [bool(thing.mask) for _, _, thing in data.objects()]
    with_outlines = 2 * sum(masks) > len(masks)
    for split in data.splits:
        for image in split.images:
            lines = []
            for thing in image.objects:
                if thing.is_crowd:
                    lost['crowd regions: left out'] += 1
                    continue
                lost['scores: left out'] += thing.score is not None
                lost['attributes of objects: left out'] += len(thing.attributes)
                lost['masks: left out, since most objects have none'] += not with_outlines and bool(
                    thing.mask
                )
                sides = np.array([image.width, image.height])
                if with_outlines:
                    lost['boxes without a mask: written as outlines'] += not thing.mask
                    lost[OTHER_BOXES] += has_other_box(thing.box, thing.mask)
                    points = np.array(points_of(_outline(thing, image, lost)))
                else:
                    x, y, width, height = thing.box
                    points = np.array([[x + width / 2, y + height / 2], [width, height]])
                values = ' '.join(map(_text, (points / sides).ravel().tolist()))
                lines.append(f'{numbers[thing.category]} {values}\n')
            place = label_file(split.name, image.file_name)
            with write_atomically(out / place) as path:
                path.write_text(''.join(lines), encoding='utf-8')
    if not any(split.name == 'val' for split in data.splits):
        lost['splits that data.yaml lacks and some trainers need: val'] += 1
    # Without `path`, folders are relative to the file.
    with write_atomically(out / 'data.yaml') as path:
        folders = [
            f'{split.name or "train"}: {image_path(split.name, "").rstrip("/")}\n' for split in data.splits
        ]
        # JSON of a text is YAML.
        names = [f'  {number}: {json.dumps(name, ensure_ascii=False)}\n' for name, number in numbers.items()]
        path.write_text(''.join(folders) + 'names:\n' + ''.join(names), encoding='utf-8')
    return +lost


def image_path(split: str, name: str) -> str:
    """Return the path of an image in what :func:`write` makes."""
    return f'images/{split}/{name}' if split else f'images/{name}'


def label_file(split: str, image: str) -> str:
    """Return the path of the labels of an image in what :func:`write` makes."""
    stem = image.rpartition('.')[0] or image
    return f'labels/{split}/{stem}.txt' if split else f'labels/{stem}.txt'


def _read_labels(data: AnnotatedData, file: Path, image: AnnotatedImage, layout: YoloLayout) -> int:
    """Add the objects of a file to an image, and report lines that are none; return the highest class."""
    try:
        lines = read_lines(str(file))
    except (LabelListError, OSError) as error:
        data.fault(file, NO_FILE, str(error))
        return -1
    highest, keypoints = -1, 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        values, place = _numbers(line.split()), f'line {number}'
        if values is None or not values[0].is_integer() or values[0] < 0:
            detail = f'{line[:80]!r} is not a class number with numbers from 0 to 1: correct or remove it'
            data.fault(file, NO_OBJECT, f'{place}: {detail}')
            continue
        label, values = int(values[0]), values[1:]
        if layout.keypoint_values and len(values) == 4 + layout.keypoint_values:
            values, keypoints = values[:4], keypoints + 1
        score = values.pop() if len(values) > 4 and len(values) % 2 else None
        if len(values) != 4 and (len(values) < 6):
            detail = (
                f'{len(values)} numbers are neither a box (4) nor an outline (6 or more): correct the line'
            )
            data.fault(file, NO_OBJECT, f'{place}: {detail}')
            continue
        if layout.classes is not None and label >= len(layout.classes):
            known = f'0 to {len(layout.classes) - 1} in {layout.file.name if layout.file else "the list"}'
            detail = f'class {label} is not one of {known}: correct the line, or add the name'
            data.fault(file, UNKNOWN_CLASS, f'{place}: {detail}')
            continue
        if problem := _range_problem(values):
            data.fault(file, OUT_OF_RANGE, f'{place}: {problem}')
            continue
        highest = max(highest, label)
        name = layout.classes[label] if layout.classes else str(label)
        image.objects.append(_object(name, values, score, image, (str(file), place)))
    if keypoints:
        data.note(file, UNREAD, f'key points of {keypoints} objects')
    return highest


def _object(
    name: str, values: Sequence[float], score: float | None, image: AnnotatedImage, where: tuple[str, str]
) -> AnnotatedObject:
    if len(values) == 4:
        x, y, width, height = (value * side for value, side in zip(values, 2 * (image.width, image.height)))
        box = (x - width / 2, y - height / 2, width, height)
        return AnnotatedObject(name, box, score=score, where=where)
    points = [(x * image.width, y * image.height) for x, y in points_of(values)]
    return AnnotatedObject(name, box_around(points), [flat(points)], score=score, where=where)


def _range_problem(values: Sequence[float]) -> str | None:
    """Return what is wrong with fractions that lie beyond the image; None if they do not."""
    if -_TOLERANCE <= min(values) and max(values) <= 1 + _TOLERANCE:
        return None
    shown = ' '.join(f'{value:g}' for value in values[:4])
    if min(values) >= 0 and max(values) > 2:
        return (
            f'{shown} ... look like pixels: divide x and width by the width of the image, y and height by '
            'its height'
        )
    return f'{shown} ... is beyond 0 to 1: correct or remove the line'


def _numbers(parts: Sequence[str]) -> list[float] | None:
    """Return the finite numbers of a line; None if a part is none."""
    try:
        values = [float(part) for part in parts]
    except ValueError:
        return None
    return values if values and all(map(math.isfinite, values)) else None


def _outline(thing: AnnotatedObject, image: AnnotatedImage, lost: Counter[str]) -> list[float]:
    """Return the mask of an object as one polygon, and count where its pixels differ."""
    before = thing.mask
    if not before:
        x, y, width, height = thing.box
        return flat([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
    if isinstance(before, list):
        if len(before) == 1:
            return before[0]
        polygons = list(map(clockwise, before))  # so that their areas add up
    else:
        polygons = outlines(decode(before, image.height, image.width))
    outline = joined(polygons)
    pixels = decode(before, image.height, image.width)
    if different := int((decode([outline], image.height, image.width) != pixels).sum()):
        lost['masks of several parts or of pixels: written as one outline with other pixels'] += 1
        lost['pixels of these masks'] += different
    return outline


def _text(value: float) -> str:
    """Return a fraction that differs by less than a thousandth of a pixel in any image."""
    return f'{value:.9f}'.rstrip('0').rstrip('.')
