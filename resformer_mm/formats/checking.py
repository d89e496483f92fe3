"""Faults of annotated objects, whatever their format."""

from __future__ import annotations

from collections import Counter

from resformer_mm.tasks.detection.annotations import BEYOND, box_problems
from resformer_mm.tasks.detection.masks import BROKEN_PART, NO_MASK, mask_problem
from resformer_mm.text import shorten_list

from .annotated import (
    BACKGROUND,
    CHANGED,
    TWICE,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
)
from .geometry import is_empty
from .json_files import is_finite

BAD_NUMBERS = 'box that is not four finite numbers'
_NOTES = (BEYOND, BROKEN_PART)
_DIGITS = 2  # tools write fractions with few digits, of which a box of one pixel becomes smaller


def check_objects(data: AnnotatedData) -> None:
    """Report faults of all objects, and leave the faulty ones and repetitions out.

    Objects without area or outside their image, broken masks and images that are listed twice are faults;
    boxes that extend beyond their image, images without an object and repetitions are told.
    """
    for split in data.splits:
        seen: set[str] = set()
        for image in split.images:
            if image.file_name in seen:
                detail = 'its annotations are in several places: keep one of them'
                data.fault(split.folder / image.file_name, TWICE, detail)
            seen.add(image.file_name)
            image.objects = [
                thing for thing in _without_copies(data, image) if _is_sound(data, split, image, thing)
            ]
        _drop_empty_masks(data, split)
        if empty := [image.file_name for image in split.images if not image.objects]:
            detail = f'{len(empty)} of {len(split.images)} images are background: {shorten_list(empty)}'
            data.note(split.folder, BACKGROUND, detail)


def _without_copies(data: AnnotatedData, image: AnnotatedImage) -> list[AnnotatedObject]:
    kept: list[AnnotatedObject] = []
    by_box: dict[tuple, list[AnnotatedObject]] = {}
    copies: Counter[str] = Counter()
    for thing in image.objects:
        alike = by_box.setdefault((thing.category, thing.box), [])
        if thing in alike:
            copies[thing.where[0]] += 1
        else:
            alike.append(thing)
            kept.append(thing)
    for path, number in copies.items():
        data.note(path, TWICE, f'{number} objects of {image.file_name} repeat others exactly: one is kept')
    return kept


def _drop_empty_masks(data: AnnotatedData, split: AnnotatedSplit) -> None:
    """Take the masks without a pixel off their objects, which keep their boxes."""
    counts: Counter[str] = Counter()
    for image in split.images:
        for thing in image.objects:
            if is_empty(thing.mask):
                thing.mask = None
                counts[thing.where[0]] += 1
    for path, number in counts.items():
        data.note(path, CHANGED, f'{number} masks without a pixel: the boxes alone are read')


def _is_sound(
    data: AnnotatedData, split: AnnotatedSplit, image: AnnotatedImage, thing: AnnotatedObject
) -> bool:
    path, place = thing.where
    path = path or str(split.folder / image.file_name)
    begin = f'{place}: ' if place else ''
    if len(thing.box) != 4 or not all(map(is_finite, thing.box)):
        data.fault(path, BAD_NUMBERS, f'{begin}{str(thing.box)[:80]}: correct or remove it')
        return False
    area = thing.box[2] * thing.box[3] if thing.area is None else thing.area
    problems = list(
        box_problems([round(side, _DIGITS) for side in thing.box], area, image.height, image.width)
    )
    mask = mask_problem(thing.mask, image.height, image.width) if thing.mask is not None else None
    if mask is not None and mask[0] != NO_MASK:
        problems.append(mask)
    for kind, detail in problems:
        if kind in _NOTES:
            data.note(path, kind, f'{begin}{detail}')
        else:
            data.fault(path, kind, f'{begin}{detail}: correct or remove it')
    return all(kind in _NOTES for kind, _ in problems)
