"""COCO files, also those of Roboflow: images, categories and annotations in one JSON file per split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.datasets.regular_files import read_file
from resformer_mm.datasets.splits import split_name
from resformer_mm.files import write_atomically
from resformer_mm.tasks.detection.annotations import (
    CROWD_REMEDY,
    FATAL,
    NO_COCO,
    complete_entries,
    crowd_text,
    find_problems,
    json_problem,
    structure_problem,
)
from resformer_mm.tasks.detection.check import CROWDS
from resformer_mm.tasks.detection.data_check import DetectionCheck, json_files
from resformer_mm.tasks.detection.repairing import fill_sizes, parse_annotations, repair_entries

from .annotated import (
    CHANGED,
    NO_FILE,
    NO_IMAGE,
    UNREAD,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    training_first,
)
from .images import ImageIndex
from .json_files import looks_like

_FIELDS = {
    'images': {'id', 'file_name', 'height', 'width'},
    'annotations': {
        *('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation', 'score', 'attributes'),
    },
}


def is_found(root: Path) -> bool:
    """Whether a folder or its subfolders have COCO files."""
    folders = (root, *sorted(path for path in root.iterdir() if path.is_dir()))
    return any(
        looks_like(file, b'"images"', b'"categories"') for folder in folders for file in json_files(folder)
    )


def read(root: Path) -> AnnotatedData:
    """Read the COCO files of a folder and its subfolders; each is a split.

    A category that others name as their supercategory and that no object has, as in exports of Roboflow, is
    not a class.
    """
    data, index = AnnotatedData(), ImageIndex(root)
    contents: dict[Path, tuple[Path, dict]] = {}
    for source in DetectionCheck().below(root, CheckOptions()):
        file, folder = Path(source.ann_file), Path(source.img_dir)
        try:
            content, repairs = parse_annotations(read_file(file))
        except ValueError as error:
            data.fault(file, NO_FILE, f'it {json_problem(read_file(file), error)}')
            continue
        if problem := structure_problem(content):
            data.fault(file, NO_COCO, problem)
            continue
        for repair in repairs:
            data.note(file, CHANGED, str(repair))
        contents[file] = folder, content
    groups = _groups([content for _, content in contents.values()])
    names: dict[str, None] = {}
    for file, (folder, content) in contents.items():
        categories = [
            entry for entry in complete_entries(content, 'categories') if entry['name'] not in groups
        ]
        if len(categories) < len(content['categories']):
            detail = f'{", ".join(sorted(groups))}: the name of a group of classes, not a class'
            data.note(file, CHANGED, detail)
        names.update(dict.fromkeys(entry['name'] for entry in categories))
        name = _name_of(file, root, len(contents))
        if name in {split.name for split in data.splits}:
            name = file.relative_to(root).with_suffix('').as_posix().replace('/', '_')
        data.splits.append(_split(data, name, file, folder, content, index))
    data.classes = tuple(names)
    data.splits.sort(key=training_first)
    return data


def write(data: AnnotatedData, out: Path) -> Counter[str]:
    """Write a COCO file per split to ``annotations``; return what is lost."""
    for split in data.splits:
        write_split(split, data.classes, out / ann_file(split.name))
    return Counter()


def ann_file(split: str) -> str:
    """Return the path of the file of a split."""
    return f'annotations/instances_{split}.json' if split else 'annotations/instances.json'


def image_path(split: str, name: str) -> str:
    """Return the path of an image in what :func:`write` makes."""
    return f'{split or "images"}/{name}'


def write_split(split: AnnotatedSplit, classes: Sequence[str], path: Path) -> None:
    """Write the COCO file of one split.

    Args:
        split: the split; file names stay relative to its folder.
        classes: names of the categories, which get the ids 1, 2, ...
        path: the file.
    """
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(content_of(split, classes), ensure_ascii=False), encoding='utf-8')


def content_of(split: AnnotatedSplit, classes: Sequence[str]) -> dict[str, Any]:
    """Return the content of a COCO file; arguments as in :func:`write_split`.

    Images keep their ids if all of them have different numbers.
    """
    numbers = {name: number for number, name in enumerate(classes, 1)}
    ids = [image.id for image in split.images]
    keeps = len(set(ids)) == len(ids) and all(isinstance(number, int) and number > 0 for number in ids)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position, image in enumerate(split.images, 1):
        number = image.id if keeps else position
        images.append(
            {'id': number, 'file_name': image.file_name, 'height': image.height, 'width': image.width}
        )
        for thing in image.objects:
            entry: dict[str, Any] = {
                'id': len(annotations) + 1,
                'image_id': number,
                'category_id': numbers[thing.category],
                'bbox': list(thing.box),
                'area': thing.area,
                'iscrowd': int(thing.is_crowd),
            }
            entry |= {'segmentation': thing.mask} if thing.mask else {}
            entry |= {'score': thing.score} if thing.score is not None else {}
            entry |= {'attributes': thing.attributes} if thing.attributes else {}
            annotations.append(entry)
    categories = [{'id': number, 'name': name} for name, number in numbers.items()]
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    repair_entries(content)  # computes areas
    return content


def _groups(contents: Sequence[Mapping]) -> set[str]:
    """Return names of categories that are supercategories of others and that no object has."""
    supers: set[str] = set()
    used: set[str] = set()
    for content in contents:
        names = {entry['id']: entry['name'] for entry in complete_entries(content, 'categories')}
        supers.update(
            entry['supercategory']
            for entry in content['categories']
            if isinstance(entry.get('supercategory'), str) and entry['supercategory'] != entry.get('name')
        )
        used.update(
            names[entry['category_id']]
            for entry in content.get('annotations', [])
            if isinstance(entry.get('category_id'), (int, str)) and entry['category_id'] in names
        )
    return supers - used


def _name_of(file: Path, root: Path, number: int) -> str:
    """Return the split that the name of a file or of its folder says."""
    words = file.stem.replace('-', '_').replace('.', '_').split('_')
    known = [split_name(word) for word in words if split_name(word) in ('train', 'val', 'test')]
    if known:
        return known[-1]
    if file.parent not in (root, root / 'annotations'):
        return split_name(file.parent.name)
    return file.stem if number > 1 else ''


def _split(
    data: AnnotatedData, name: str, file: Path, folder: Path, content: dict, index: ImageIndex
) -> AnnotatedSplit:
    """Return the images and objects of a file, and report entries that cannot be used."""
    fatal = [problem for problem in find_problems(content) if problem.kind in FATAL]
    for problem in fatal:
        data.fault(file, problem.kind, str(problem))
    below = folder.relative_to(index.root).as_posix()
    names = {
        image['file_name']: [f'{below}/{image["file_name"]}', image['file_name']]
        for image in content['images']
        if isinstance(image.get('file_name'), str)
    }
    found = index.find(names, data, file)
    fill_sizes(content['images'], lambda name: _size(found.get(name), index))
    classes = {entry['id']: entry['name'] for entry in complete_entries(content, 'categories')}
    split = AnnotatedSplit(name, index.root)
    images: dict[Any, AnnotatedImage] = {}
    for entry in complete_entries(content, 'images'):
        path = found.get(entry['file_name'])
        if path is None:
            detail = f'image {entry["id"]} of the file: add it, or remove its entry'
            data.fault(file, NO_IMAGE, f'{entry["file_name"]}, {detail}')
            continue
        image = AnnotatedImage(path, entry['height'], entry['width'], id=entry['id'])
        images.setdefault(entry['id'], image)
    for entry in complete_entries(content, 'annotations'):
        is_known = entry['image_id'] in images and entry['category_id'] in classes
        if is_known and isinstance(entry['bbox'], list) and not entry.get('ignore'):
            thing = _object(entry, classes[entry['category_id']], file)
            images[entry['image_id']].objects.append(thing)
    data.counted(file, UNREAD, _unread(content))
    if (crowds := crowd_text(content)) is not None:
        data.note(file, CROWDS, f'{crowds}. {CROWD_REMEDY}, or --crowd-as-objects of the converter')
    split.images = list(images.values())
    return split


def _size(path: str | None, index: ImageIndex) -> tuple[int, int] | None:
    """Return height and width of an image; None if there is none, or it cannot be read."""
    try:
        return None if path is None else index.size(path)
    except (OSError, ValueError):
        return None


def _object(entry: Mapping, category: str, file: Path) -> AnnotatedObject:
    attributes, score = entry.get('attributes'), entry.get('score')
    return AnnotatedObject(
        category,
        tuple(entry['bbox']),
        entry.get('segmentation') or None,
        bool(entry['iscrowd']),
        float(score) if isinstance(score, (int, float)) else None,
        attributes if isinstance(attributes, dict) else {},
        entry['area'],
        (str(file), f'annotation {entry["id"]}'),
    )


def _unread(content: Mapping) -> Counter[str]:
    """Return the fields that are not kept, with the number of entries that have them."""
    counts: Counter[str] = Counter()
    for name, known in _FIELDS.items():
        others = [entry.keys() - known - {'ignore'} for entry in content.get(name, [])]
        if fields := sorted(set().union(*others)):
            counts[f'{name} with other fields: {", ".join(fields)}'] = sum(map(bool, others))
    entries = content.get('annotations', [])
    counts['annotations whose `ignore` is set'] = sum(bool(entry.get('ignore')) for entry in entries)
    return counts
