"""Images with masks as the data of a fine-tuning."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.datasets.regular_files import read_file
from resformer_mm.formats.recognition import FoundData
from resformer_mm.tasks.segmentation.check import PairFolders
from resformer_mm.tasks.segmentation.colours import convert_masks, read_legend
from resformer_mm.tasks.segmentation.folders import SegmentationFolder
from resformer_mm.tasks.segmentation.label_maps import MARK, LabelValues, decode_label_map

from .data import FinetuningData, assign_roles, image_sizes
from .splitting import split_samples

KIND = 'resformer_mm.SegmentationFolder'
# Notes of the check that tell nothing new.
UNSAID: tuple[str, ...] = ()
# Classes are balanced between the splits for this many masks at most.
MOST_MASKS = 2000
# Names that often stand for pixels that nobody labelled.
NO_CLASS = frozenset('unlabeled unlabelled void ignore ignored unknown'.split())


def sources_of(found: FoundData, folder: Path, options: CheckOptions) -> list[PairFolders]:
    """Return the images with label maps, which are made of masks in colours.

    Raises:
        ValueError: a mask has colours that are not in the list.
    """
    legend = read_legend(found.legend or '')
    sources = []
    for name, split in found.splits.items():
        target = folder / f'masks_{name or "all"}'
        report = convert_masks(split.source.masks, target, legend, workers=options.workers)
        if not report.is_sound:
            raise ValueError(f'{split.source.masks}, with {found.legend}: {report.text(3)}')
        labels = LabelValues(len(found.classes), False, MARK)
        source = split.source
        sources.append(
            PairFolders(
                str(source.images),
                str(target),
                labels,
                source.img_suffix,
                f'{os.path.splitext("x" + source.mask_suffix)[0][1:]}.png',
                source.names(),
                found.classes,
                str(source.ann_file or ''),
            )
        )
    return sources


def prepare(sources: Sequence[PairFolders], folder: Path) -> FinetuningData:
    """Return the data of a fine-tuning; without a validation split, lists of one are written.

    Args:
        sources: folders of images and masks.
        folder: folder for the lists.

    Raises:
        ValueError: the data cannot be split.
    """
    roles = assign_roles(_split_names(sources))
    train = sources[roles.train]
    classes, unnamed = tuple(train.classes or ()), list[str]()
    if not classes:
        first = int(train.labels.reduce_zero_label)
        classes = tuple(str(value + first) for value in range(train.labels.num_classes))
        unnamed.append(
            'the classes are called by their values: classes.txt, with a line per value, names them'
        )
    pairs = _read(train, classes)
    images = [info['img_path'] for info in pairs]
    others = [sources[place] for place in (roles.val, roles.test) if place is not None]
    root = _root(train, *others)
    test = None if roles.test is None else sources[roles.test]
    if roles.val is not None:
        val = sources[roles.val]
        settings = [_settings(source, root) for source in (train, val)]
        numbers, note = [len(pairs), len(_read(val, classes))], f'validation: {val.img_dir}'
        chosen = list(range(len(pairs)))
        labels = _classes_in(pairs[: MOST_MASKS + 1], train)
    else:
        names = [os.path.relpath(path, train.img_dir) for path in images]
        labels = _classes_in(pairs, train)
        split = split_samples(names, labels)
        settings = []
        for name, places in (('train', split.train), ('val', split.val)):
            stems = (Path(names[place]).as_posix().removesuffix(train.img_suffix) for place in places)
            file = (folder / f'{name}.txt').absolute()
            file.write_text(''.join(f'{stem}\n' for stem in stems), encoding='utf-8')
            settings.append(dict(_settings(train, root), ann_file=str(file)))
        numbers, note, chosen = [len(split.train), len(split.val)], split.text, split.train
    counts = Counter(label for place in chosen if place < len(labels) for label in labels[place])
    return FinetuningData(
        task='segmentation',
        root=root,
        classes=classes,
        train=settings[0],
        val=settings[1],
        num_train=numbers[0],
        num_val=numbers[1],
        sizes=image_sizes([images[place] for place in chosen]),
        fewest=min((counts[label] for label in range(len(classes))), default=0),
        test=None if test is None else _settings(test, root),
        num_test=0 if test is None else len(_read(test, classes)),
        notes=[note, *roles.notes, *unnamed, *_unlabelled_notes(classes)],
    )


def _unlabelled_notes(classes: Sequence[str]) -> list[str]:
    found = [name for name in classes if name.lower() in NO_CLASS]
    return [
        f'{name} is learned as a class: if its pixels are not labelled, give --ignore-index, for colours '
        f'tools/dataset_converters/masks_from_colours.py --ignore {name}'
        for name in found
    ]


def _split_names(sources: Sequence[PairFolders]) -> list[str]:
    """Return what tells the splits apart: lists, or folders of images without their common beginning."""
    paths = [os.path.abspath(source.ann_file or source.img_dir) for source in sources]
    return [os.path.relpath(path, os.path.commonpath(paths)) for path in paths]


def _read(source: PairFolders, classes: Sequence[str]) -> Any:
    dataset = SegmentationFolder(
        **{key: value for key, value in _settings(source, '').items() if key != 'type'},
        metainfo=dict(classes=list(classes)),
        pipeline=[],
    )
    return [dataset.get_data_info(place) for place in range(len(dataset))]


def _root(*sources: PairFolders) -> str:
    places = [place for source in sources for place in (source.img_dir, source.ann_dir)]
    return os.path.commonpath([os.path.abspath(place) for place in places])


def _settings(source: PairFolders, root: str) -> dict[str, Any]:
    def below(path: str | Path) -> str:
        return os.path.relpath(path, root) if root else str(path)

    labels = source.labels
    settings: dict[str, Any] = dict(
        type=KIND,
        data_prefix=dict(img_path=below(source.img_dir), seg_map_path=below(source.ann_dir)),
        img_suffix=source.img_suffix,
        seg_map_suffix=source.seg_map_suffix,
        reduce_zero_label=labels.reduce_zero_label,
        ignore_index=labels.ignore_index,
    )
    if source.ann_file:
        settings['ann_file'] = below(source.ann_file)
    return settings


def _classes_in(pairs: Sequence[dict], source: PairFolders) -> list[list[int]]:
    """Return the classes that occur in each mask; none of them if there are very many masks."""
    if len(pairs) > MOST_MASKS:
        return [[] for _ in pairs]
    shift = int(source.labels.reduce_zero_label)
    number = source.labels.num_classes
    found = []
    for info in pairs:
        values = np.unique(decode_label_map(read_file(info['seg_map_path'], None))).astype(int) - shift
        found.append([int(value) for value in values if 0 <= value < number])
    return found
