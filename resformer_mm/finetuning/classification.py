"""Class folders and lists of images as the data of a fine-tuning."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.formats.recognition import FoundData
from resformer_mm.tasks.classification.check import ClassFolders
from resformer_mm.tasks.classification.folders import ImageFolder

from .data import FinetuningData, assign_roles, image_sizes, write_labelled
from .splitting import split_samples

KIND = 'resformer_mm.ImageFolder'
# Notes of the check that tell nothing new.
UNSAID: tuple[str, ...] = ()


def sources_of(found: FoundData, folder: Path, options: CheckOptions) -> list[ClassFolders]:
    """Return lists of images, as they are or with the classes as numbers."""
    sources = []
    for name, split in found.splits.items():
        path = write_labelled(split.source, found.classes, folder / f'{name or "all"}_found.txt')
        sources.append(
            ClassFolders(str(split.source.folder), str(path), tuple(found.classes), name=name or 'all')
        )
    return sources


def prepare(sources: Sequence[ClassFolders], folder: Path) -> FinetuningData:
    """Return the data of a fine-tuning; without a validation split, lists of one are written.

    Args:
        sources: splits of the data.
        folder: folder for the lists.

    Raises:
        ValueError: the data cannot be split.
    """
    roles = assign_roles([source.name for source in sources])
    train = sources[roles.train]
    images = _read(train)
    labels = [info['gt_label'] for info in images]
    classes = tuple(images.CLASSES or map(str, range(max(labels) + 1)))
    paths = [info['img_path'] for info in images]
    others = [sources[place] for place in (roles.val, roles.test) if place is not None]
    root = os.path.commonpath([os.path.abspath(source.folder) for source in (train, *others)])
    test = None if roles.test is None else sources[roles.test]
    if roles.val is not None:
        val = sources[roles.val]
        settings = [_settings(source, root) for source in (train, val)]
        note, num_val = f'validation: {val.name}', len(_read(val, classes))
    else:
        names = [os.path.relpath(path, train.folder) for path in paths]
        # Sequences are told by the names inside of a class folder.
        inside = [name.partition(os.sep)[2] or name for name in names]
        split = split_samples(inside, [[label] for label in labels])
        settings = []
        for name, places in (('train', split.train), ('val', split.val)):
            chosen = ((Path(os.path.relpath(paths[place], root)), labels[place]) for place in places)
            lines = [f'{path.as_posix()} {label}\n' for path, label in chosen]
            (folder / f'{name}.txt').write_text(''.join(lines), encoding='utf-8')
            settings.append(
                dict(type=KIND, data_prefix='', ann_file=str((folder / f'{name}.txt').absolute()))
            )
        note, num_val = split.text, len(split.val)
        paths, labels = ([values[place] for place in split.train] for values in (paths, labels))
    counts = Counter(labels)
    return FinetuningData(
        task='classification',
        root=root,
        classes=classes,
        train=settings[0],
        val=settings[1],
        num_train=len(paths),
        num_val=num_val,
        sizes=image_sizes(paths),
        fewest=min(counts[label] for label in range(len(classes))),
        test=None if test is None else _settings(test, root),
        num_test=0 if test is None else len(_read(test, classes)),
        notes=[note, *roles.notes],
    )


def _read(source: ClassFolders, classes: Sequence[str] | None = None) -> Any:
    names = source.classes or classes
    return ImageFolder(
        data_root='',
        data_prefix=source.folder,
        ann_file=source.ann_file or '',
        metainfo=dict(classes=list(names)) if names else None,
        pipeline=[],
    )


def _settings(source: ClassFolders, root: str) -> dict[str, Any]:
    settings = dict(type=KIND, data_prefix=os.path.relpath(source.folder, root))
    if source.ann_file:
        settings['ann_file'] = os.path.relpath(source.ann_file, root)
    return settings
