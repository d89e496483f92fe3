"""Validation of images and their annotations in COCO format before training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from resformer_mm.datasets.checks.images import (
    BAD_IMAGE,
    DARK_IMAGE,
    IMAGE_ENDINGS,
    MISSING_FOLDER,
    MISSING_IMAGE,
    SIZES_DIFFER,
    is_ambiguous,
    read_facts,
    size_text,
)
from resformer_mm.datasets.checks.reading import foreign, reading_findings
from resformer_mm.datasets.checks.report import CheckReport, Finding, check_each
from resformer_mm.datasets.regular_files import list_files
from resformer_mm.hidden_files import is_hidden

from .annotations import (
    CROWD_REMEDY,
    LEFT_OUT,
    NO_COCO,
    class_problem,
    complete_entries,
    crowd_text,
    find_problems,
    json_problem,
    structure_problem,
)
from .file_names import advice, find_images, image_prefix
from .image_folders import folder_hint
from .masks import NO_MASK
from .repairing import parse_annotations, take_crowds_as_objects

MISSING_FILE = 'missing annotation file'
EMPTY_FILE = 'empty annotation file'
NO_JSON = 'annotation file is not JSON'
OTHER_CLASSES = 'categories do not match the classes'
AMBIGUOUS = 'orientation of the annotations unknown'
NOT_LISTED = 'image without an entry'
OTHER_FOLDER = 'file names of another folder'
CROWDS = 'crowd regions'

# Boxes can be trained on without masks, unless these are loaded, and `ignore` is set on purpose.
NOTES = (NO_MASK, LEFT_OUT)


@dataclass(frozen=True)
class AnnotatedImages:
    """A folder of images and their annotation file.

    Args:
        img_dir: the folder.
        ann_file: the annotation file.
        classes: names of the classes to learn; None uses all categories.
        strip_prefix: beginnings of file names that are removed, as the data set does.
        crowd_as_objects: take crowd regions as objects, as the data set does.
        with_masks: whether masks are loaded, so that every object needs one.
        foreign: the data set that reads them, unless it is one of this package.
    """

    img_dir: str | Path
    ann_file: str | Path
    classes: tuple[str, ...] | None = None
    strip_prefix: tuple[str, ...] = ()
    crowd_as_objects: bool = False
    with_masks: bool = field(default=False, compare=False)
    foreign: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def from_config(cls, config: Mapping, loader: str) -> AnnotatedImages:
        """Return the folder and file that a data set reads. The default scope must be that of the config.

        Args:
            config: config of the data set.
            loader: name of its data loader, for messages.

        Raises:
            ValueError: the data set has no annotation file or no classes.
        """
        dataset = DATASETS.build({**config, 'lazy_init': True, 'pipeline': []})
        if not dataset.ann_file:
            raise ValueError(
                f'{loader}.dataset has no ann_file: there is nothing to check. Skip it with '
                f'--cfg-options {loader}=None'
            )
        classes = dataset.metainfo.get('classes')
        if not classes:
            raise ValueError(f'{loader}.dataset names no classes: set its metainfo.classes')
        folder = dataset.data_prefix.get('img') or dataset.data_root
        return cls(
            folder,
            dataset.ann_file,
            tuple(classes),
            getattr(dataset, 'strip_prefix', ()),
            getattr(dataset, 'crowd_as_objects', False),
            _loads_masks(config.get('pipeline')),
            foreign(dataset),
        )


def check_annotated(source: AnnotatedImages, workers: int = 1, show_progress: bool = False) -> CheckReport:
    """Check every entry of the annotation file, and every image.

    Images are decoded completely, by the function that training uses, and annotations are checked by the
    rules of the data sets. Sizes are reported as height x width.

    Args:
        source: the images and annotations to check.
        workers: number of threads.
        show_progress: show a progress bar on stderr.
    """
    content, findings = read_annotations(source)
    if not os.path.isdir(source.img_dir):
        findings.append(Finding(str(source.img_dir), MISSING_FOLDER))
    report = CheckReport(findings)
    if content is None:
        return report
    if source.classes is not None:
        names = [category['name'] for category in complete_entries(content, 'categories')]
        if (problem := class_problem(source.classes, names)) is not None:
            report.findings.append(Finding(str(source.ann_file), OTHER_CLASSES, problem))
    report.facts.append(_describe(source, content))
    if not os.path.isdir(source.img_dir):
        return report
    images = complete_entries(content, 'images')
    results = check_each(
        lambda image: check_image(str(source.img_dir), image),
        images,
        workers,
        str(source.img_dir) if show_progress else None,
    )
    for found in results:
        report.findings += found
    report.findings += _not_listed(str(source.img_dir), images)
    return report


def read_annotations(source: AnnotatedImages) -> tuple[dict | None, list[Finding]]:
    """Read and repair an annotation file; return its content, or None if it is unusable, and the findings."""
    path = str(source.ann_file)
    if not os.path.isfile(path):
        return None, [Finding(path, MISSING_FILE)]
    raw = Path(path).read_bytes()
    if not raw.strip():
        return None, [Finding(path, EMPTY_FILE, 'it has no content')]
    try:
        content, repairs = parse_annotations(raw)
    except ValueError as error:
        return None, [Finding(path, NO_JSON, f'it {json_problem(raw, error)}')]
    if problem := structure_problem(content):
        return None, [Finding(path, NO_COCO, problem)]
    findings = []
    if os.path.isdir(source.img_dir):
        names = find_images(content, str(source.img_dir), source.strip_prefix)
        repairs += names.repairs
        remedy = advice(names, lambda folder: image_prefix(str(source.img_dir), folder, None))
        if not remedy and len(names.missing) == names.number:  # else the folder is right
            remedy = folder_hint(source.img_dir, path, names.missing, None)
        if remedy:
            findings.append(Finding(path, OTHER_FOLDER, remedy))
    expected = None if source.foreign is None else _repaired_entries(source.foreign, content)
    reader = None if expected is None else source.foreign
    findings = [
        *reading_findings(
            path, repairs, reader, 'resformer_mm.DetectionFolder', expected or [], _objects_of_image
        ),
        *findings,
    ]
    if source.crowd_as_objects:
        take_crowds_as_objects(content)
    elif (crowds := crowd_text(content)) is not None:
        only = all(entry.get('iscrowd') == 1 for entry in content['annotations'])
        findings.append(Finding(path, CROWDS, f'{crowds}. {CROWD_REMEDY}', is_fault=only))
    notes = [kind for kind in NOTES if kind != NO_MASK or not source.with_masks]
    findings += [
        Finding(path, problem.kind, str(problem), problem.kind not in notes)
        for problem in find_problems(content)
    ]
    if not content.get('annotations'):
        findings.append(
            Finding(path, EMPTY_FILE, 'it has no annotations: add some, or move the file out of the folder')
        )
    return content, findings


def _loads_masks(pipeline: Any) -> bool:
    """Return whether a transform of a pipeline, or inside one, loads masks."""
    if isinstance(pipeline, dict):
        # The items of a ConfigDict would be imported.
        return bool(pipeline.get('with_mask')) or any(map(_loads_masks, dict.values(pipeline)))
    return isinstance(pipeline, (list, tuple)) and any(map(_loads_masks, pipeline))


def _repaired_entries(dataset: Any, content: dict) -> list[tuple] | None:
    """Return what a data set of mmdetection would read from repaired content; None if it could not."""
    from .coco import CheckedIndex  # needs mmdetection, unlike the check of a folder

    repaired = copy(dataset)
    repaired.COCOAPI = lambda path: CheckedIndex(deepcopy(content))
    try:
        return [_objects_of_image(info) for info in repaired.load_data_list()]
    except Exception:  # of entries that are faults
        return None


def _objects_of_image(info: Mapping) -> tuple:
    """Return the file, the labels of its objects, and whether they are ignored."""
    objects = info['instances']
    labels = tuple(entry['bbox_label'] for entry in objects)
    return os.path.normpath(info['img_path']), labels, tuple(entry['ignore_flag'] for entry in objects)


def check_image(folder: str, image: Mapping[str, Any]) -> list[Finding]:
    """Read one image and compare it with its entry; return the findings."""
    path = os.path.join(folder, image['file_name'])
    if not os.path.isfile(path):
        return [Finding(path, MISSING_IMAGE, f'image {image["id"]} of the annotation file')]
    try:
        shape, orientation, darkness = read_facts(path)
    except Exception as error:  # Pillow raises many types for bytes that are not an image
        return [Finding(path, BAD_IMAGE, f'{type(error).__name__}: {error}')]
    notes = [] if darkness is None else [Finding(path, DARK_IMAGE, darkness, is_fault=False)]
    expected = image['height'], image['width']
    if shape != expected:
        detail = f'{size_text(shape, orientation)}, but its annotations are for {size_text(expected)}'
        return [*notes, Finding(path, SIZES_DIFFER, detail)]
    if is_ambiguous(shape, orientation):
        detail = (
            f'the image is rotated by its EXIF orientation {orientation}, and the sizes do not show whether '
            'its annotations are rotated too: save the image rotated, without the tag'
        )
        return [*notes, Finding(path, AMBIGUOUS, detail)]
    return notes


def _not_listed(folder: str, images: Sequence[Mapping]) -> list[Finding]:
    """Find images in the folder that have no entry."""
    listed = {os.path.normpath(image['file_name']) for image in images}
    return [
        Finding(os.path.join(folder, name), NOT_LISTED, 'it is not used', is_fault=False)
        for name in list_files(folder)
        if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS
        and not is_hidden(name)
        and os.path.normpath(name) not in listed
    ]


def _describe(source: AnnotatedImages, content: Mapping) -> str:
    names = {category['id']: category['name'] for category in complete_entries(content, 'categories')}
    learned = set(names.values()) if source.classes is None else set(source.classes)
    annotations = complete_entries(content, 'annotations')
    objects = [entry for entry in annotations if names.get(entry['category_id']) in learned]
    present = {entry['category_id'] for entry in objects}
    num_crowds = sum(bool(entry['iscrowd']) for entry in objects)
    empty = len(content['images']) - len({str(entry['image_id']) for entry in objects})
    return (
        f'{source.ann_file}: {len(content["images"])} images, {empty} without an object; '
        f'{len(objects) - num_crowds} objects of {len(present)} of {len(learned)} categories, {num_crowds} '
        'crowd regions'
    )
