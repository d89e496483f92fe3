"""Validation of annotation files in COCO format, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resformer_mm.text import shorten_list

from .masks import BROKEN_RLE, NO_POLYGONS, TOO_LONG, mask_problem

NO_COCO = 'no annotations in COCO format'
INCOMPLETE = 'incomplete entry'
SAME_ID = 'id used twice'
SAME_NAME = 'category named twice'
SAME_FILE = 'image listed twice'
UNKNOWN_CATEGORY = 'unknown category'
UNKNOWN_IMAGE = 'unknown image'
NO_AREA = 'no area'
OUTSIDE = 'box outside the image'
BEYOND = 'box extends beyond the image'
LEFT_OUT = 'marked as ignored'
CORNERS = 'boxes look like corners'
FRACTIONS = 'boxes look like fractions'

FATAL = (
    *(NO_COCO, INCOMPLETE, SAME_ID, SAME_NAME, UNKNOWN_CATEGORY, CORNERS, FRACTIONS),
    *(NO_POLYGONS, BROKEN_RLE, TOO_LONG),
)
"""Kinds of problems that make mmdetection fail later, or train on something else than intended."""

UNUSED = (UNKNOWN_IMAGE, NO_AREA, OUTSIDE, LEFT_OUT)
"""Kinds of annotations that mmdetection silently ignores."""

# Annotation tools round coordinates, and so did those of COCO.
_TOLERANCE = 1.0
CROWD_SHARE = 0.1
"""Share of crowd regions, if there are two or more, that is remarked upon; in COCO it is 0.012."""

CROWD_REMEDY = (
    'Some exports of Label Studio (brush) and CVAT mark every mask as a crowd region: if they are single '
    'objects, set crowd_as_objects=True of the data set'
)

# Boxes from which on the format of all of them is doubted.
_ENOUGH = 4
_LARGEST = 2**31  # pycocotools and numpy store smaller values as integers on every platform

_LONGEST_SIDE = 2**20  # of OpenCV
_LARGEST_ID = 2**63  # numpy's integers

_REQUIRED = {
    'images': ('id', 'file_name', 'height', 'width'),
    'categories': ('id', 'name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'),
}


@dataclass(frozen=True)
class Problem:
    """A problem with one entry.

    Args:
        kind: one of the kinds above.
        where: the entry, such as ``annotation 7 (street.jpg)``.
        detail: details.
    """

    kind: str
    where: str
    detail: str

    def __str__(self) -> str:
        """Return the entry and the details."""
        return f'{self.where}: {self.detail}'


def find_problems(content: Any) -> Iterator[Problem]:
    """Yield every problem with the content of an annotation file.

    A missing ``annotations`` list counts as empty, because COCO's files for its test images have none. The
    rules for ignored annotations are those of mmdetection: boxes that do not overlap the image, that are less
    than a pixel wide or high, or that have an area of 0.

    Args:
        content: the decoded JSON.
    """
    problem = structure_problem(content)
    if problem is not None:
        yield Problem(NO_COCO, 'file', problem)
        return
    images, categories = content['images'], content['categories']
    annotations = content.get('annotations', [])
    for name, entries in (('image', images), ('category', categories), ('annotation', annotations)):
        yield from _repeated(name, 'id', entries, SAME_ID)
    yield from _repeated('category', 'name', categories, SAME_NAME)
    yield from _repeated('image', 'file_name', images, SAME_FILE)
    for image in images:
        if (problem := _incomplete('images', image)) is not None:
            yield Problem(INCOMPLETE, f'image {_show(image, "file_name", "id")}', problem)
    for category in categories:
        if (problem := _incomplete('categories', category)) is not None:
            yield Problem(INCOMPLETE, f'category {_show(category, "name", "id")}', problem)
    images = {image['id']: image for image in complete_entries(content, 'images')}
    yield from _check_format(annotations, images)
    known = {category.get('id') for category in categories if _is_id(category.get('id'))}
    for annotation in annotations:
        image_id = annotation.get('image_id')
        image = images.get(image_id) if _is_id(image_id) else None
        where = f'annotation {_show(annotation, "id")}'
        if image is not None:
            where += f' ({image["file_name"]})'
        for kind, detail in _check_annotation(annotation, image, known):
            yield Problem(kind, where, detail)


def complete_entries(content: Mapping, name: str) -> list[Mapping]:
    """Return the entries of a list that have every field that training reads, with valid types.

    Args:
        content: the file, with the right structure.
        name: 'images', 'categories' or 'annotations'.
    """
    return [entry for entry in content.get(name, []) if _incomplete(name, entry) is None]


def json_problem(raw: bytes, error: ValueError) -> str:
    """Return why a file cannot be decoded, with a remedy."""
    if not raw.strip():
        return 'is empty: regenerate the file'
    if isinstance(error, UnicodeDecodeError):
        return (
            f'is not text in UTF-8 (byte {error.start}): save it in UTF-8, from the encoding in which it was '
            'written'
        )
    return f'is not valid JSON ({error}): regenerate the file'


def crowd_text(content: Mapping) -> str | None:
    """Return how many annotations are crowd regions; None if they are as rare as in COCO.

    Args:
        content: the file, with the right structure.
    """
    annotations = content.get('annotations', [])
    number = sum(entry.get('iscrowd') == 1 for entry in annotations)
    if number < max(2, CROWD_SHARE * len(annotations)):
        return None
    return (
        f'{number} of {len(annotations)} annotations are crowd regions (iscrowd 1), which are neither '
        'learned nor evaluated'
    )


def class_problem(classes: Sequence[str], names: Sequence[str]) -> str | None:
    """Return why the categories of a file do not match the classes; None if they do.

    The data sets and metrics of mmdetection number the classes in the order of the file.

    Args:
        classes: class names used for training and evaluation.
        names: category names, in the order of the file.
    """
    if isinstance(classes, str):
        return f'metainfo.classes is the string {classes!r}: give a list of names'
    if absent := [name for name in classes if name not in names]:
        alike = {name.strip().casefold(): name for name in names}
        meant = [repr(alike[key]) for name in absent if (key := name.strip().casefold()) in alike]
        hint = f' (its {shorten_list(meant)} differ only in blanks or case)' if meant else ''
        return (
            f'it has no category {shorten_list(absent)}{hint}, only {shorten_list(names)}: check '
            "metainfo.classes, or read the classes from a file with type='resformer_mm.DetectionFolder', "
            "classes_file='FILE'"
        )
    ordered = tuple(name for name in names if name in classes)
    if tuple(classes) != ordered:
        return f'metainfo.classes must be in the order of its categories: {ordered}'
    return None


def structure_problem(content: Any) -> str | None:
    """Return why the content of a file is not that of an annotation file; None if it is."""
    if not isinstance(content, Mapping):
        return f'it holds a {type(content).__name__}, not an object with images, annotations and categories'
    for name in ('images', 'categories', 'annotations'):
        entries = content.get(name, [] if name == 'annotations' else None)
        if not isinstance(entries, list):
            return f'its `{name}` is missing' if entries is None else f'its `{name}` is not a list'
        if not all(isinstance(entry, Mapping) for entry in entries):
            return f'its `{name}` contains entries that are not objects'
    if not content['images']:
        return 'it lists no images'
    return None if content['categories'] else 'it lists no categories'


def _repeated(what: str, key: str, entries: Sequence[Mapping], kind: str) -> Iterator[Problem]:
    seen = set()
    for entry in entries:
        value = entry.get(key)
        if value is None:
            continue  # reported as incomplete
        if str(value) in seen:
            yield Problem(kind, f'{what} {value}', f'another {what} has this {key}')
        seen.add(str(value))


def _incomplete(name: str, entry: Mapping) -> str | None:
    missing = [key for key in _REQUIRED[name] if entry.get(key) is None]
    if missing:
        hint = ': add them (they are read from the file, unless an EXIF tag rotates it)'
        return f'it has no {", ".join(missing)}{hint if "height" in missing or "width" in missing else ""}'
    for key in _REQUIRED[name]:
        is_sound, kind = _KINDS.get(key, (None, ''))
        if is_sound is not None and not is_sound(entry[key]):
            return f'{key} is {repr(entry[key])[:60]}, not {kind}'
    return None


def _check_annotation(
    annotation: Mapping, image: Mapping | None, categories: set
) -> Iterator[tuple[str, str]]:
    """Yield kind and details of every problem with an annotation, given its image and all category ids."""
    if (problem := _incomplete('annotations', annotation)) is not None:
        yield INCOMPLETE, problem
        return
    box = annotation['bbox']
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, (*box, annotation['area']))):
        yield (
            INCOMPLETE,
            f'bbox {box!r} and area {annotation["area"]!r} must be [x, y, width, height] and a number',
        )
        return
    if annotation['category_id'] not in categories:
        yield UNKNOWN_CATEGORY, f'category_id {annotation["category_id"]} does not exist'
    if annotation.get('ignore'):
        yield LEFT_OUT, 'its `ignore` is set'
    if image is None:
        yield UNKNOWN_IMAGE, f'image_id {annotation["image_id"]} does not exist'
        return
    yield from box_problems(box, annotation['area'], image['height'], image['width'])
    fault = mask_problem(annotation.get('segmentation'), image['height'], image['width'])
    if fault is not None:
        yield fault


def box_problems(box: Sequence[float], area: float, height: int, width: int) -> Iterator[tuple[str, str]]:
    """Yield kind and details of every problem with a box ``[x, y, width, height]`` in an image."""
    left, top, box_width, box_height = box
    right, bottom = left + box_width, top + box_height
    shown = f'[x, y, width, height] = {list(box)}, image {height} x {width}'
    if box_width < 1 or box_height < 1:
        yield NO_AREA, f'{shown}: less than a pixel wide or high'
    elif area <= 0:
        yield NO_AREA, f'its area is {area}'
    elif min(right, width) <= max(left, 0) or min(bottom, height) <= max(top, 0):
        yield OUTSIDE, shown
    elif max(-left, -top, right - width, bottom - height) > _TOLERANCE:
        yield BEYOND, shown


def _check_format(annotations: Sequence[Mapping], images: Mapping) -> Iterator[Problem]:
    """Yield a problem if all boxes of a file are in another format with certainty."""
    number = num_corners = num_beyond = num_fractions = 0
    for annotation in annotations:
        box, image_id = annotation.get('bbox'), annotation.get('image_id')
        image = images.get(image_id) if _is_id(image_id) else None
        if image is None or not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
            continue
        x, y, u, v = box
        height, width = image['height'], image['width']
        number += 1
        num_corners += u > x and v > y and u <= width + _TOLERANCE and v <= height + _TOLERANCE
        num_beyond += x + u > width + _TOLERANCE or y + v > height + _TOLERANCE
        num_fractions += max(box) <= 1
    if number < _ENOUGH:
        return
    if num_corners == number and 4 * num_beyond >= number:
        yield Problem(
            CORNERS,
            'file',
            f'as [x, y, width, height], {num_beyond} of {number} boxes extend beyond their image, but all '
            'fit as [left, top, right, bottom]: write bbox as [left, top, right - left, bottom - top], or '
            'correct the boxes',
        )
    if num_fractions == number:
        yield Problem(
            FRACTIONS, 'file', f'no number of {number} boxes is larger than 1: write bbox in pixels'
        )


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < _LARGEST  # also False for NaN


def _is_id(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _LARGEST_ID
    return isinstance(value, str)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ''


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 1 <= value <= _LONGEST_SIDE


def _is_flag(value: Any) -> bool:
    return value in (0, 1)


_KINDS = {
    **dict.fromkeys(('id', 'image_id', 'category_id'), (_is_id, 'a number or string')),
    **dict.fromkeys(('file_name', 'name'), (_is_text, 'a non-empty string')),
    **dict.fromkeys(('height', 'width'), (_is_size, 'a number of pixels')),
    'iscrowd': (_is_flag, '0 or 1'),
}


def _show(entry: Mapping, *keys: str) -> str:
    """Return the first of the fields that the entry has."""
    return next((str(entry[key]) for key in keys if entry.get(key) is not None), 'without an id')
