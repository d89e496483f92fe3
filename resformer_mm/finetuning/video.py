"""Lists of videos, and class folders of them, as the data of a fine-tuning."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.datasets.label_lists import read_local_list
from resformer_mm.formats.recognition import FoundData
from resformer_mm.tasks.video.check import ClipList
from resformer_mm.tasks.video.files import ClipReader

from .data import FinetuningData, assign_roles, write_labelled
from .splitting import split_samples

KIND = 'resformer_mm.VideoList'
# Notes of the check that tell nothing new.
UNSAID: tuple[str, ...] = ()
# Videos that are opened for their size.
MOST_OPENED = 20


def sources_of(found: FoundData, folder: Path, options: CheckOptions) -> list[ClipList]:
    """Return lists of the videos in class folders."""
    sources = []
    for name, split in found.splits.items():
        path = write_labelled(split.source, found.classes, folder / f'{name or "all"}_found.txt')
        sources.append(ClipList(str(path), str(split.source.folder), classes=tuple(found.classes)))
    return sources


def prepare(sources: Sequence[ClipList], folder: Path) -> FinetuningData:
    """Return the data of a fine-tuning; without a validation split, lists of one are written.

    Args:
        sources: lists of videos.
        folder: folder for the lists.

    Raises:
        ValueError: a line of a list cannot be used, or the data cannot be split.
    """
    roles = assign_roles([Path(source.path).name for source in sources])
    train = sources[roles.train]
    entries = _read(train)
    root = os.path.abspath(train.folder)
    if roles.val is not None:
        val = sources[roles.val]
        settings = [_settings_of(source, root) for source in (train, val)]
        numbers, note = [len(entries), len(_read(val))], f'validation: {Path(val.path).name}'
        chosen = list(range(len(entries)))
    else:
        split = split_samples([path for path, _ in entries], [[label] for _, label in entries])
        settings = []
        for name, places in (('train', split.train), ('val', split.val)):
            file = folder / f'{name}.txt'
            lines = (f'{entries[place][0]} {entries[place][1]}\n' for place in places)
            file.write_text(''.join(lines), encoding='utf-8')
            settings.append(_settings(file, '', None))
        numbers, note, chosen = [len(split.train), len(split.val)], split.text, split.train
    test = None if roles.test is None else sources[roles.test]
    counts = Counter(entries[place][1] for place in chosen)
    classes = tuple(train.classes or map(str, range(max(label for _, label in entries) + 1)))
    opened = chosen[:: max(1, len(chosen) // MOST_OPENED)]
    return FinetuningData(
        task='video',
        root=root,
        classes=classes,
        train=settings[0],
        val=settings[1],
        num_train=numbers[0],
        num_val=numbers[1],
        sizes=[_size(os.path.join(root, entries[place][0])) for place in opened],
        fewest=min(counts[label] for label in range(len(classes))),
        test=None if test is None else _settings_of(test, root),
        num_test=0 if test is None else len(_read(test)),
        notes=[note, *roles.notes],
    )


def _read(source: ClipList) -> list[tuple[str, int]]:
    listed, bad = read_local_list(
        source.path, source.folder, source.num_classes, source.delimiter, source.classes
    )
    if bad:
        raise ValueError(f'{source.path}, line {bad[0].line}: {bad[0].detail}: correct the line first')
    return [(entry.path.replace('\\', '/'), entry.label) for entry in listed]


def _settings_of(source: ClipList, root: str) -> dict[str, Any]:
    return _settings(source.path, os.path.relpath(source.folder, root), source.delimiter)


def _settings(path: str | Path, prefix: str, delimiter: str | None) -> dict[str, Any]:
    settings: dict[str, Any] = dict(type=KIND, ann_file=os.path.abspath(path), data_prefix=dict(video=prefix))
    if delimiter is not None:
        settings['delimiter'] = delimiter
    return settings


def _size(path: str) -> tuple[int, int]:
    frame = ClipReader(path).frames([0])
    return frame.shape[1], frame.shape[2]
