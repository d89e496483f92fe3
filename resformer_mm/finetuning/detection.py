"""COCO files as the data of a fine-tuning."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.formats.coco import write_split
from resformer_mm.formats.recognition import FoundData
from resformer_mm.tasks.detection.check import NOT_LISTED, AnnotatedImages
from resformer_mm.tasks.detection.fixing import write_repaired
from resformer_mm.tasks.detection.masks import NO_MASK

from .data import FinetuningData, assign_roles
from .splitting import split_samples

KIND = 'resformer_mm.DetectionFolder'
# Notes of the check that tell nothing new: splits may share a folder, and boxes alone are learned as such.
UNSAID: tuple[str, ...] = (NOT_LISTED, NO_MASK)


def sources_of(found: FoundData, folder: Path, options: CheckOptions) -> list[AnnotatedImages]:
    """Return the annotations of another format as COCO files."""
    sources = []
    for name, split in found.splits.items():
        path = folder / f'{name or "all"}_found.json'
        write_split(split.source, found.classes, path)
        sources.append(AnnotatedImages(str(split.source.folder), str(path)))
    return sources


def prepare(sources: Sequence[AnnotatedImages], folder: Path) -> FinetuningData:
    """Return the data of a fine-tuning; without a validation split, files of one are written.

    Args:
        sources: annotation files and folders of images.
        folder: folder for the annotation files.

    Raises:
        ValueError: a file cannot be used, the classes of the splits differ, or the data cannot be split.
    """
    roles = assign_roles([_split_name(source) for source in sources])
    train = sources[roles.train]
    content = _read(train, folder)
    if roles.val is not None:
        val = sources[roles.val]
        parts = [content, _read(val, folder)]
        places = [(str(source.img_dir), str(source.ann_file)) for source in (train, val)]
        note = f'validation: {Path(val.ann_file).name}'
    else:
        parts, note = _split(content)
        places = []
        for name, part in zip(('train', 'val'), parts):
            file = folder / f'{name}.json'
            file.write_text(json.dumps(part), encoding='utf-8')
            places.append((str(train.img_dir), str(file)))
    if roles.test is not None:
        test = sources[roles.test]
        parts.append(_read(test, folder))
        places.append((str(test.img_dir), str(test.ann_file)))
    root = os.path.commonpath([os.path.abspath(images) for images, _ in places])
    settings = [
        dict(
            type=KIND,
            ann_file=_below(root, file),
            data_prefix=dict(img=os.path.relpath(images, root)),
        )
        for images, file in places
    ]
    numbers = [len(part['images']) for part in parts]
    objects = [entry for entry in parts[0]['annotations'] if not entry.get('iscrowd')]
    names = {entry['id']: entry['name'] for entry in content['categories']}
    counts = Counter(entry['category_id'] for entry in objects)
    used = [key for key in names if counts[key]]  # in the order of the file, as mmdetection counts them
    notes = [note, *roles.notes]
    if absent := [names[key] for key in names if key not in used]:
        notes.append(f'categories without an object, left out: {", ".join(absent)}')
    return FinetuningData(
        task='detection',
        root=root,
        classes=tuple(names[key] for key in used),
        train=settings[0],
        val=settings[1],
        num_train=numbers[0],
        num_val=numbers[1],
        test=settings[2] if len(settings) > 2 else None,
        num_test=numbers[2] if len(numbers) > 2 else 0,
        sizes=[(image['height'], image['width']) for image in parts[0]['images']],
        fewest=min(counts[key] for key in used),
        has_masks=all(entry.get('segmentation') for entry in objects),
        notes=notes,
    )


def _split_name(source: AnnotatedImages) -> str:
    file = Path(source.ann_file)
    return f'{file.parent.name}/{file.name}'


def _below(root: str, file: str) -> str:
    path = os.path.abspath(file)
    return os.path.relpath(path, root) if path.startswith(root + os.sep) else path


def _read(source: AnnotatedImages, folder: Path) -> dict[str, Any]:
    """Return the content of an annotation file with every certain repair."""
    file = folder / f'.{Path(source.ann_file).name}'
    try:
        write_repaired(source, str(file))
        return json.loads((file if file.exists() else Path(source.ann_file)).read_bytes())
    finally:
        file.unlink(missing_ok=True)


def _split(content: dict[str, Any]) -> tuple[list[dict], str]:
    """Return the content of the training and the validation images, and how they were chosen."""
    labels: dict[Any, set[int]] = defaultdict(set)
    for entry in content['annotations']:
        labels[entry['image_id']].add(entry['category_id'])
    images = content['images']
    split = split_samples(
        [image['file_name'] for image in images], [sorted(labels[image['id']]) for image in images]
    )
    parts = []
    for places in (split.train, split.val):
        chosen = [images[place] for place in places]
        keys = {image['id'] for image in chosen}
        kept = [entry for entry in content['annotations'] if entry['image_id'] in keys]
        parts.append({**content, 'images': chosen, 'annotations': kept})
    return parts, split.text
