"""VisDrone's text files: a line per object with its box in pixels, a flag and the number of its category."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from resformer_mm.datasets.label_lists import LabelListError, read_lines
from resformer_mm.datasets.splits import split_name

from .annotated import (
    CHANGED,
    NO_ENTRY,
    NO_FILE,
    NO_OBJECT,
    UNKNOWN_CLASS,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    training_first,
)
from .images import ImageIndex
from .yolo_layout import first_lines, label_files

CLASSES = (
    'pedestrian',
    'people',
    'bicycle',
    'car',
    'van',
    'truck',
    'tricycle',
    'awning-tricycle',
    'bus',
    'motor',
)
"""Names of the categories 1, 2, ..."""
_IGNORED = (0, len(CLASSES) + 1)  # regions without labels, and objects of other kinds
_FIELDS = 'x, y, width, height, flag, category, truncation, occlusion'
_NUMBER = _FIELDS.count(',') + 1
_FIRST = 20


def is_found(root: Path) -> bool:
    """Whether a folder has text files of eight numbers per line in the place of its images."""
    texts = set(label_files(root))
    labels = [place for name in ImageIndex(root).names if (place := _label_file(name)) in texts]
    lines = [''.join(words) for words in first_lines(root, labels[:_FIRST])]
    return bool(lines) and all(_values(line) is not None for line in lines)


def read(root: Path) -> AnnotatedData:
    """Read boxes of the ten classes; the splits are in the names of the folders.

    Regions without labels and objects of other kinds become crowd regions of every class: they are neither
    learned nor evaluated. Objects with the flag 0 become those of their class.
    """
    data, index = AnnotatedData(CLASSES), ImageIndex(root)
    texts, used = set(label_files(root)), set[str]()
    parts: dict[str, AnnotatedSplit] = {}
    changes: Counter[str] = Counter()
    for name in index.names:
        place = _label_file(name)
        if place not in texts:
            continue
        used.add(place)
        image = index.image(name, data)
        if image is not None:
            _read_objects(data, root / place, image, changes)
            split = _split_of(name)
            parts.setdefault(split, AnnotatedSplit(split, root)).images.append(image)
    for place in sorted(texts - used):
        if '/annotations/' in f'/{place}':
            data.fault(root / place, NO_ENTRY, 'there is no image of its name: add it, or remove the file')
    data.counted(root, CHANGED, changes)
    data.splits = sorted(parts.values(), key=training_first)
    return data


def _label_file(image: str) -> str:
    """Return the path of the objects of an image: in ``annotations`` in the place of ``images``."""
    head, _, tail = f'/{image.rpartition(".")[0]}.txt'.rpartition('/images/')
    return f'{head}/annotations/{tail}'.lstrip('/')


def _split_of(image: str) -> str:
    """Return the split that a folder of the path names, as ``VisDrone2019-DET-train`` does; '' without."""
    words = [split_name(word) for folder in image.split('/')[:-1] for word in folder.split('-')]
    return next((word for word in words if word in ('train', 'val', 'test')), '')


def _read_objects(data: AnnotatedData, path: Path, image: AnnotatedImage, changes: Counter[str]) -> None:
    try:
        lines = read_lines(str(path))
    except LabelListError as error:
        data.fault(path, NO_FILE, str(error))
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = (str(path), f'line {number}')
        values = _values(line)
        if values is None:
            detail = f'{where[1]}: {line[:60]!r} is not {_NUMBER} numbers ({_FIELDS}): correct or remove it'
            data.fault(path, NO_OBJECT, detail)
            continue
        x, y, width, height, flag, category, truncation, occlusion = values
        if not 0 <= category <= _IGNORED[1]:
            detail = f'{where[1]}: the category {category} is not one of 0 to {_IGNORED[1]}: correct it'
            data.fault(path, UNKNOWN_CLASS, detail)
            continue
        names = CLASSES if category in _IGNORED else (CLASSES[category - 1],)
        changes['ignored regions and objects: crowd regions of every class'] += category in _IGNORED
        changes['objects with the flag 0: crowd regions'] += category not in _IGNORED and not flag
        found = {'truncation': truncation, 'occlusion': occlusion}
        attributes = {key: value for key, value in found.items() if value}
        box = (float(x), float(y), float(width), float(height))
        is_crowd = category in _IGNORED or not flag
        image.objects += [
            AnnotatedObject(name, box, None, is_crowd, attributes=dict(attributes), where=where)
            for name in names
        ]


def _values(line: str) -> list[int] | None:
    """Return the numbers of a line, which may end in a comma; None for other lines."""
    try:
        values = [int(word) for word in line.strip().rstrip(',').split(',')]
    except ValueError:
        return None
    return values if len(values) == _NUMBER else None
