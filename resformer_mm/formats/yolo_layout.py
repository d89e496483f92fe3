"""Layouts of YOLO data: where images, labels and class names are.

Known are the layouts of Ultralytics and Roboflow (a YAML file with splits and names), of Darknet and CVAT
(``obj.names``, ``obj.data`` and lists of images), and of LabelImg (``classes.txt`` beside the labels).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import join, normpath
from typing import Any

import yaml

from resformer_mm.compat.yaml_files import PlainLoader
from resformer_mm.datasets.label_lists import LabelListError, read_lines
from resformer_mm.datasets.regular_files import list_files, read_file
from resformer_mm.datasets.splits import split_name, split_of
from resformer_mm.hidden_files import is_hidden

from .annotated import CHANGED, AnnotatedData, FormatError
from .images import ImageIndex
from .json_files import looks_like

NAME_FILES = ('classes.txt', 'obj.names', 'classes.names', 'data/obj.names', 'labels/classes.txt')
_LARGEST = 2**20
_MOST_FILES = 20
_OTHER_TEXTS = ('classes.txt', 'readme', 'license', 'requirements')


@dataclass
class YoloLayout:
    """Parts of a data set.

    Attributes:
        file: the file of class names; None without one.
        classes: names of the classes, by number; None if they are not known.
        splits: name -> images, relative to the root.
        keypoint_values: numbers of a line that are key points.
    """

    file: Path | None
    classes: list[str] | None
    splits: dict[str, list[str]] = field(default_factory=dict)
    keypoint_values: int = 0


def yaml_file(root: Path) -> Path | None:
    """Return the YAML file of class names in a folder; None without one.

    Raises:
        FormatError: there are several.
    """
    files = sorted((*root.glob('*.yaml'), *root.glob('*.yml')))[:_MOST_FILES]
    found = [file for file in files if _has_names(file)]
    if len(found) > 1:
        raise FormatError(
            f'{root} has several YAML files of classes: {", ".join(file.name for file in found)}'
        )
    return found[0] if found else None


def find_layout(root: Path, index: ImageIndex, data: AnnotatedData) -> YoloLayout:
    """Return images and classes of a folder; what is elsewhere than a file says is told in the data.

    Raises:
        FormatError: the YAML file has no names, or names no images of this folder.
    """
    file = yaml_file(root)
    if file is not None:
        return _of_yaml(root, file, index, data)
    names = next((root / name for name in NAME_FILES if (root / name).is_file()), None)
    layout = YoloLayout(names, None if names is None else _read_names(names))
    lists = [
        path
        for path in (root / f'{name}.txt' for name in ('train', 'valid', 'val', 'test'))
        if path.is_file()
    ]
    for path in lists:
        layout.splits[split_name(path.stem)] = _listed(path, root, index, data)
    if not layout.splits:
        _split_by_folders(layout, index)
    return layout


def label_files(root: Path) -> list[str]:
    """Return the text files below a folder that may be labels, relative to it."""
    return [
        name.replace(os.sep, '/')
        for name in sorted(list_files(root, '.txt'))
        if not is_hidden(name) and not os.path.basename(name).lower().startswith(_OTHER_TEXTS)
    ]


def label_places(image: str) -> list[str]:
    """Return where the labels of an image may be: in ``labels`` in the place of ``images``, or beside it."""
    stem = image.rpartition('.')[0] + '.txt'
    head, folder, tail = f'/{stem}'.rpartition('/images/')
    return [*([f'{head}/labels/{tail}'.lstrip('/')] if folder else []), stem]


def _of_yaml(root: Path, file: Path, index: ImageIndex, data: AnnotatedData) -> YoloLayout:
    content = _read_yaml(file) or {}
    layout = YoloLayout(file, _names_of(file, content.get('names')))
    shape = content.get('kpt_shape')
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, int) for side in shape):
        layout.keypoint_values = max(0, shape[0] * shape[1])
    count = content.get('nc')
    if isinstance(count, int) and layout.classes is not None and count != len(layout.classes):
        raise FormatError(f'{file}: nc is {count}, but names has {len(layout.classes)} classes: correct one')
    for key in ('train', 'val', 'valid', 'test'):
        entries = content.get(key)
        entries = [entries] if isinstance(entries, str) else entries if isinstance(entries, list) else []
        for entry in entries:
            if not isinstance(entry, str):
                raise FormatError(f'{file}: {key} is a {type(entry).__name__}, not a folder, list or file')
            images, moved = _images_at(entry, str(content.get('path') or ''), root, index, data)
            if not images:
                if key == 'test':  # optional, and often not part of a download
                    data.note(file, CHANGED, f'{key}: {entry[:80]} has no images')
                    continue
                raise FormatError(
                    f'{file}: {key}: {entry[:200]} leads to no images below {root}: give the folder that has '
                    'both the file and the images, or correct path'
                )
            if moved:
                data.note(file, CHANGED, f'{key}: {entry[:80]} found as {moved}')
            layout.splits.setdefault(split_name(key), []).extend(images)
    if not layout.splits:
        _split_by_folders(layout, index)
    return layout


def _split_by_folders(layout: YoloLayout, index: ImageIndex) -> None:
    """Take all images, in the splits that their folders are named after."""
    for name in index.names:
        layout.splits.setdefault(split_of(name), []).append(name)


def _images_at(
    entry: str, path: str, root: Path, index: ImageIndex, data: AnnotatedData
) -> tuple[list[str], str]:
    """Return the images of an entry of the YAML file, and where they are if it is not as written."""
    entry, path = entry.replace('\\', '/'), path.replace('\\', '/')
    # Ultralytics also looks at `../train/images` of Roboflow below the folder of the file.
    shorter = entry
    while shorter.startswith('../'):
        shorter = shorter[3:]
    parts = [part for part in shorter.split('/') if part not in ('', '.', '..')]
    places = [normpath(join(path, entry)), normpath(entry), normpath(shorter)]
    places += ['/'.join(parts[start:]) for start in range(1, len(parts))]
    for place in dict.fromkeys(places):
        if place.startswith(('/', '..')):
            continue
        if place.endswith('.txt') and (root / place).is_file():
            return _listed(root / place, root, index, data), '' if place in places[:2] else place
        images = [name for name in index.names if place == '.' or name.startswith(f'{place}/')]
        if images and (root / place).is_dir():
            return images, '' if place in places[:2] else place
    return [], ''


def _listed(path: Path, root: Path, index: ImageIndex, data: AnnotatedData) -> list[str]:
    """Return the images of a list, which are relative to it or to the root, or absolute."""
    below = path.parent.relative_to(root).as_posix()
    try:
        lines = [line.strip() for line in read_lines(str(path)) if line.strip()]
    except LabelListError as error:
        raise FormatError(str(error)) from error
    found = index.find({line: [join(below, line), line] for line in lines}, data, path)
    if missing := [line for line in lines if line not in found]:
        raise FormatError(
            f'{path}: {len(missing)} of {len(lines)} images are not below {root}, such as '
            f'{missing[0][:200]!r}: add them, or remove their lines'
        )
    return [found[line] for line in lines]


def _names_of(file: Path, names: Any) -> list[str]:
    """Return the names of a list, or of a dict with the numbers 0, 1, ..."""
    if isinstance(names, dict):
        numbers = {int(key): value for key, value in names.items() if str(key).isdecimal()}
        if len(numbers) != len(names) or sorted(numbers) != list(range(len(names))):
            raise FormatError(f'{file}: the keys of names must be 0 to {len(names) - 1}, one for each class')
        names = [numbers[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise FormatError(f'{file}: names must be a list of class names, or number: name')
    if bad := [type(name).__name__ for name in names if not isinstance(name, (str, int, float))]:
        raise FormatError(f'{file}: names has a {bad[0]}, not a name')
    texts = [str(name).strip() for name in names]
    if repeated := sorted({name for name in texts if texts.count(name) > 1}):
        raise FormatError(f'{file}: names has {repeated[0]!r} twice: rename one')
    return texts


def _read_names(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in read_lines(str(file))]
    except LabelListError as error:
        raise FormatError(str(error)) from error
    while lines and not lines[-1]:
        lines.pop()
    return _names_of(file, lines)


def _has_names(file: Path) -> bool:
    """Whether a YAML file has names; also true if it cannot be read, but says so."""
    content = _read_yaml(file, quiet=True)
    return 'names' in content if content is not None else looks_like(file, b'names:')


def _read_yaml(file: Path, quiet: bool = False) -> dict | None:
    """Return the content of a YAML file with plain values alone; None if it is not a mapping."""
    try:
        raw = read_file(file)
        if len(raw) > _LARGEST:
            raise FormatError(f'{file} has {len(raw)} bytes, which is too much for a list of classes')
        content = yaml.load(raw, PlainLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        if quiet:
            return None
        raise FormatError(f'{file} cannot be read as YAML ({str(error)[:200]})') from error
    return content if isinstance(content, dict) else None


def first_lines(root: Path, names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the parts of the first line of text files that have one."""
    for name in names:
        try:
            line = read_file(root / name)[:4096].split(b'\n')[0].decode().split()
        except (OSError, UnicodeDecodeError):
            continue
        if line:
            yield line
