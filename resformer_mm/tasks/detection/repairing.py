"""Certain repairs of annotation files in COCO format."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .masks import run_lengths_of

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # those of UTF-32 begin alike
_LISTS = ('images', 'categories', 'annotations')

Entry = dict[str, Any]
Size = tuple[int, int]


@dataclass(frozen=True)
class Repair:
    """A kind of repair in one file.

    Args:
        what: what is wrong, and what is done.
        count: number of places; None if there can be only one.
    """

    what: str
    count: int | None = None

    def __str__(self) -> str:
        """Return the count and what is done."""
        return self.what if self.count is None else f'{self.count} {self.what}'


def parse_annotations(raw: bytes) -> tuple[Any, list[Repair]]:
    """Return the repaired content of an annotation file, and what was repaired.

    Raises:
        ValueError: the file is not JSON, or not in Unicode.
    """
    content, repairs = _decode(raw)
    return content, repairs + repair_entries(content)


def _decode(raw: bytes) -> tuple[Any, list[Repair]]:
    """Return the content of a JSON file in any Unicode encoding."""
    try:
        content = json.loads(raw)  # detects the encoding, and skips a byte order mark
    except RecursionError as error:
        raise ValueError('its lists or objects are nested too deeply') from error
    encoding = json.detect_encoding(raw).removesuffix('-sig').upper()
    if encoding != 'UTF-8':
        return content, [Repair(f'encoded in {encoding}, not UTF-8: read as {encoding}')]
    return content, [Repair('byte order mark: left out')] if raw.startswith(_MARKS) else []


def repair_entries(content: Any) -> list[Repair]:
    """Repair the entries of an annotation file in place; return what was repaired.

    Entries whose repair is not certain stay as they are. If the file does not have the structure of COCO,
    nothing is repaired.

    Args:
        content: the decoded JSON.
    """
    if not isinstance(content, Mapping):
        return []
    lists = {name: content.get(name, []) for name in _LISTS}
    if not all(isinstance(entries, list) for entries in lists.values()):
        return []
    if not all(isinstance(entry, dict) for entries in lists.values() for entry in entries):
        return []
    images, categories, annotations = lists.values()
    counts = {
        'images listed twice with equal fields: one is kept': _drop_copies(images),
        'categories listed twice with equal fields: one is kept': _drop_copies(categories),
        'numbers written as text or as a fraction with .0: read as numbers': _each(
            _read_numbers, images, categories, annotations
        ),
        'references to ids that are text in one place and a number in the other: read as the same': (
            _unify_references(annotations, 'image_id', images)
            + _unify_references(annotations, 'category_id', categories)
        ),
        'masks whose polygons are not lists in a list, or lists of points: read as polygons': _each(
            _repair_polygons, annotations
        ),
        "run-length codes between b'...': read without": _each(_repair_code, annotations),
        'annotations without `iscrowd`: taken as 0': _each(_fill_iscrowd, annotations),
        'annotations without `bbox`: taken from the mask': _each(_fill_box, annotations),
        'annotations without `area`: taken from the mask, or from the box if there is none': _each(
            _fill_area, annotations
        ),
        'annotations without a usable `id` (missing, used before, text, or 0, which pycocotools takes for '
        'none): numbered': _number(annotations),
    }
    return [Repair(what, count) for what, count in counts.items() if count]


def fill_sizes(images: Iterable[Entry], size_of: Callable[[str], Size | None]) -> list[Repair]:
    """Set ``height`` and ``width`` of images that lack them in place; return what was repaired.

    Args:
        images: entries of the annotation file.
        size_of: function from the name of a file to its height and width; None if they cannot be told.
    """
    count = 0
    for image in images:
        if image.get('height') is None or image.get('width') is None:
            name = image.get('file_name')
            size = size_of(name) if isinstance(name, str) else None
            if size is not None:
                image['height'], image['width'] = size
                count += 1
    return [Repair('images without `height` and `width`: read from the files', count)] if count else []


def take_crowds_as_objects(content: Mapping) -> int:
    """Set ``iscrowd`` of all annotations to 0 in place; return how many crowd regions there were."""
    crowds = [entry for entry in content.get('annotations', []) if entry.get('iscrowd') == 1]
    for entry in crowds:
        entry['iscrowd'] = 0
    return len(crowds)


def _each(repair: Callable[[Entry], int], *lists: list[Entry]) -> int:
    return sum(repair(entry) for entries in lists for entry in entries)


def _drop_copies(entries: list[Entry]) -> int:
    """Drop entries that repeat an earlier one field by field."""
    kept: dict[str, Entry] = {}
    unique = []
    for entry in entries:
        key = str(entry.get('id'))
        if key in kept and kept[key] == entry:
            continue
        kept.setdefault(key, entry)
        unique.append(entry)
    dropped = len(entries) - len(unique)
    entries[:] = unique
    return dropped


def _number_of(text: str) -> float | int | None:
    """Return the number that a text stands for; None if it is another text."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value) or '_' in text:
        return None
    return int(value) if value.is_integer() else value


def _read_numbers(entry: Entry) -> int:
    """Turn text into numbers where only these are valid, and 1.0 into 1 where only integers are."""
    count = 0
    for key in ('height', 'width', 'area', 'iscrowd'):
        if isinstance(entry.get(key), str) and (value := _number_of(entry[key])) is not None:
            entry[key] = value
            count += 1
    for key in ('id', 'image_id', 'category_id', 'height', 'width', 'iscrowd'):
        if isinstance(value := entry.get(key), float) and value.is_integer():
            entry[key] = int(value)
            count += 1
    lists = [entry['bbox']] if isinstance(entry.get('bbox'), list) else []
    if isinstance(polygons := entry.get('segmentation'), list):
        lists += [polygons, *(points for points in polygons if isinstance(points, list))]
    for numbers in lists:
        for index, value in enumerate(numbers):
            if isinstance(value, str) and (number := _number_of(value)) is not None:
                numbers[index] = number
                count += 1
    return count


def _unify_references(annotations: list[Entry], key: str, entries: list[Entry]) -> int:
    """Refer to an entry by the type of its id, a number or a text."""
    known = {entry['id'] for entry in entries if isinstance(entry.get('id'), (int, str))}
    count = 0
    for annotation in annotations:
        value = annotation.get(key)
        if not isinstance(value, (int, str)) or value in known:
            continue
        other = str(value) if isinstance(value, int) else _number_of(value)
        if other in known:
            annotation[key] = other
            count += 1
    return count


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_points(value: Any) -> bool:
    """Whether a value is a list of at least three points ``[x, y]``."""
    return (
        isinstance(value, list)
        and len(value) > 2
        and all(
            isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in value
        )
    )


def _repair_polygons(entry: Entry) -> int:
    """Write polygons as ``[[x1, y1, x2, y2, ...], ...]``."""
    polygons = entry.get('segmentation')
    if not isinstance(polygons, list) or not polygons:
        return 0
    if all(map(_is_number, polygons)):
        entry['segmentation'] = [polygons]
    elif _is_points(polygons):
        entry['segmentation'] = [_join(polygons)]
    elif any(map(_is_points, polygons)):
        entry['segmentation'] = [_join(part) if _is_points(part) else part for part in polygons]
    else:
        return 0
    return 1


def _join(points: Iterable[Iterable[float]]) -> list[float]:
    return [coordinate for point in points for coordinate in point]


def _repair_code(entry: Entry) -> int:
    """Take the compressed code out of the text of a Python bytes object."""
    code = entry.get('segmentation')
    if not isinstance(code, dict):
        return 0
    counts = code.get('counts')
    # No character of a code is a quotation mark.
    if not isinstance(counts, str) or counts[:2] not in ("b'", 'b"') or counts[-1] != counts[1]:
        return 0
    code['counts'] = counts[2:-1].replace('\\\\', '\\')
    return 1


def _fill_iscrowd(entry: Entry) -> int:
    if entry.get('iscrowd') is not None:
        return 0
    entry['iscrowd'] = 0
    return 1


def _fill_box(entry: Entry) -> int:
    if entry.get('bbox') or (box := _box_of(entry.get('segmentation'))) is None:
        return 0
    entry['bbox'] = box
    return 1


def _fill_area(entry: Entry) -> int:
    if entry.get('area') is not None:
        return 0
    area = _area_of(entry.get('segmentation'))
    box = entry.get('bbox')
    if not area and isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)):
        area = box[2] * box[3]
    if area is None:
        return 0
    entry['area'] = area
    return 1


def _polygons_of(segmentation: Any) -> list[list[float]]:
    """Return the polygons that have at least 3 points; none if one is not a list of numbers."""
    if not isinstance(segmentation, list):
        return []
    if not all(isinstance(points, list) and all(map(_is_number, points)) for points in segmentation):
        return []
    return [points for points in segmentation if len(points) >= 6 and len(points) % 2 == 0]


def _runs_of(segmentation: Any) -> tuple[int, int, list[int]] | None:
    """Return height, width and run lengths of a valid code."""
    if not isinstance(segmentation, Mapping):
        return None
    size, counts = segmentation.get('size'), segmentation.get('counts')
    if isinstance(counts, str):
        try:
            counts = run_lengths_of(counts)
        except ValueError:
            return None
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) for side in size):
        return None
    return (*size, counts) if sum(counts) == size[0] * size[1] else None


def _area_of(segmentation: Any) -> float | None:
    """Return the area of a mask: the pixels of a code, or the polygons by their corners."""
    if (code := _runs_of(segmentation)) is not None:
        return sum(code[2][1::2])
    polygons = _polygons_of(segmentation)
    return sum(map(_polygon_area, polygons)) if polygons else None


def _polygon_area(points: list[float]) -> float:
    xs, ys = points[::2], points[1::2]
    return abs(sum(x * v - u * y for x, y, u, v in zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1]))) / 2


def _box_of(segmentation: Any) -> list[float] | None:
    """Return ``[x, y, width, height]`` around a mask."""
    if (code := _runs_of(segmentation)) is not None:
        return _box_of_runs(*code)
    if not (points := _join(_polygons_of(segmentation))):
        return None
    xs, ys = points[::2], points[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _box_of_runs(height: int, width: int, counts: list[int]) -> list[float] | None:
    """Return the box around the odd runs, which go down the columns of the image."""
    xs, ys, position = [], [], 0
    for index, run in enumerate(counts):
        if index % 2 and run:
            first, last = position, position + run - 1
            xs += [first // height, last // height]
            one_column = first // height == last // height
            ys += [first % height, last % height] if one_column else [0, height - 1]
        position += run
    return [min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1] if xs else None


def _number(annotations: list[Entry]) -> int:
    """Give every annotation a number of its own that is not 0, to which no other entry refers."""
    used: set[int] = set()
    unnumbered = []
    for annotation in annotations:
        value = annotation.get('id')
        if not isinstance(value, int) or isinstance(value, bool) or value == 0 or value in used:
            unnumbered.append(annotation)
        else:
            used.add(value)
    first = max(used, default=0) + 1
    for number, annotation in enumerate(unnumbered, max(first, 1)):
        annotation['id'] = number
    return len(unnumbered)
