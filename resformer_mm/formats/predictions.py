"""Predictions of detectors as annotations, for labelling the next images."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from resformer_mm.tasks.detection.masks import mask_problem

from .annotated import (
    NO_IMAGE,
    NO_OBJECT,
    UNREAD,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    FormatError,
    sorted_classes,
)
from .checking import check_objects
from .geometry import box_of_corners
from .images import ImageIndex
from .json_files import is_finite, read_json

FILE = 'predictions.json'
_LISTS = ('classes', 'scores', 'bboxes')


def read_predictions(source: str | Path, score_thr: float | None = None) -> AnnotatedData:
    """Read the results of a detector, as ``tools/demo.py --out-dir`` writes them.

    Objects have scores. Predictions on frames of videos and on arrays are counted and not read, since they
    have no image files.

    Args:
        source: the folder of results, or its ``predictions.json``.
        score_thr: minimum score; None takes all objects of the file.

    Raises:
        FileNotFoundError: there is no ``predictions.json``.
        FormatError: it is not that of a detector, or no image of it exists.
    """
    path = Path(source)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f'there is no {path}: give the --out-dir of tools/demo.py')
    content = read_json(path)
    entries = content.get('predictions') if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FormatError(f'{path} has no list of predictions: give the {FILE} of tools/demo.py')
    if entries and not all(isinstance(entries[0].get(name), list) for name in _LISTS):
        raise FormatError(f'{path} has no boxes: only predictions of a detector become annotations')
    data, unread = AnnotatedData(), Counter[str]()
    images = [entry for entry in entries if isinstance(entry.get('path'), str) and 'frame' not in entry]
    unread['predictions on frames or arrays, which have no image file'] = len(entries) - len(images)
    root = _common_folder([entry['path'] for entry in images], path)
    split = AnnotatedSplit('', root)
    index = ImageIndex(root)
    for entry in images:
        name = os.path.relpath(os.path.abspath(entry['path']), root).replace(os.sep, '/')
        if name not in index:
            data.fault(path, NO_IMAGE, f'{entry["path"][:200]} does not exist: add it, or predict again')
            continue
        image = index.image(name, data)
        if image is None:
            continue
        _add_objects(data, path, entry, image, score_thr, unread)
        split.images.append(image)
    data.splits = [split]
    check_objects(data)
    data.classes = sorted_classes(data)
    data.counted(path, UNREAD, +unread)
    return data


def _common_folder(paths: list[str], file: Path) -> Path:
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
    if not folders:
        raise FormatError(f'{file} has no predictions on image files')
    return Path(os.path.commonpath(folders))


def _add_objects(
    data: AnnotatedData,
    path: Path,
    entry: dict[str, Any],
    image: AnnotatedImage,
    score_thr: float | None,
    unread: Counter[str],
) -> None:
    names, scores, boxes = (entry.get(name) for name in _LISTS)
    lists = [values for values in (names, scores, boxes) if isinstance(values, list)]
    if len(lists) < len(_LISTS) or len({len(values) for values in lists}) > 1:
        data.fault(path, NO_OBJECT, f'{image.file_name}: classes, scores and bboxes differ in number')
        return
    masks = entry.get('masks') or [None] * len(lists[0])
    for name, score, box, mask in zip(*lists, masks):
        where = str(path), f'{image.file_name}, {str(name)[:60]}'
        if not is_finite(score) or not isinstance(box, list) or len(box) != 4 or not all(map(is_finite, box)):
            data.fault(path, NO_OBJECT, f'{where[1]}: score or box is not a number: predict again')
            continue
        if score_thr is not None and score < score_thr:
            unread[f'objects with scores below {score_thr:g}'] += 1
            continue
        if mask is not None and (problem := mask_problem(mask, image.height, image.width)) is not None:
            data.fault(path, NO_OBJECT, f'{where[1]}: {problem[1]}')
            continue
        if min(box[2] - box[0], box[3] - box[1]) < 1:
            unread['objects less than a pixel wide or high'] += 1
            continue
        image.objects.append(
            AnnotatedObject(str(name), box_of_corners(*box), mask, score=float(score), where=where)
        )
