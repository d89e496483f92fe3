"""Repaired copies of annotation files in COCO format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os.path import join
from pathlib import Path

from resformer_mm.datasets.regular_files import read_file
from resformer_mm.files import write_atomically

from .annotations import json_problem, structure_problem
from .check import AnnotatedImages
from .file_names import FoundNames, find_images, size_in_header
from .repairing import Repair, parse_annotations, take_crowds_as_objects


def write_repaired(source: AnnotatedImages, destination: str | Path) -> list[Repair]:
    """Write a copy of an annotation file with every certain repair; return what was repaired.

    Besides the repairs on reading, file names with the path of another machine are replaced, if every one of
    them has exactly one file of its base name, of the size that the entry gives. Nothing is written if no
    repair is needed.

    Args:
        source: the annotation file, and the folder of its images.
        destination: file to write, in UTF-8; missing folders are created.

    Raises:
        ValueError: the file is not an annotation file, or would be overwritten.
    """
    path, destination = Path(source.ann_file), Path(destination)
    if path.resolve() == destination.resolve():
        raise ValueError(f'{destination} would overwrite the annotation file: give another destination')
    raw = path.read_bytes()
    try:
        content, repairs = parse_annotations(raw)
    except ValueError as error:
        raise ValueError(f'{path} {json_problem(raw, error)}') from error
    if problem := structure_problem(content):
        raise ValueError(f'{path}: {problem}')
    found = find_images(content, str(source.img_dir), source.strip_prefix)
    repairs += found.repairs
    if _is_certain(found, content, str(source.img_dir)):
        for image in content['images']:
            image['file_name'] = found.elsewhere.get(image['file_name'], image['file_name'])
        what = 'file names with the path of another folder: replaced by those of the files'
        repairs.append(Repair(what, len(found.elsewhere)))
        repairs += find_images(content, str(source.img_dir)).repairs  # sizes that the files tell
    if source.crowd_as_objects and (count := take_crowds_as_objects(content)):
        repairs.append(Repair('crowd regions: taken as objects', count))
    if repairs:
        with write_atomically(destination) as partial:
            partial.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
    return repairs


def _is_certain(found: FoundNames, content: Mapping, folder: str) -> bool:
    """Whether all missing images are those of the same base name: alike in path and size."""
    if not found.missing or len(found.elsewhere) < len(found.missing) or len(found.changed_parts()) > 1:
        return False
    sizes = {image.get('file_name'): (image.get('height'), image.get('width')) for image in content['images']}
    return all(
        sizes[name] in ((None, None), size_in_header(read_file(join(folder, file))))
        for name, file in found.elsewhere.items()
    )
