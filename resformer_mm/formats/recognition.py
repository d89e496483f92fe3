"""Recognition of the data in a folder that nobody prepared: its layout, task, splits, classes and faults.

What a training reads is made of the ``source`` of each split:

- detection: :func:`resformer_mm.formats.coco.write_split` writes a COCO file, whose images stay in the folder
  of the split;
- masks in colours: :func:`resformer_mm.tasks.segmentation.colours.convert_masks` writes label maps by the
  legend; other masks are read where they are, by folders and suffixes;
- class folders are read where they are; lists of them, or of videos, have a path and a class per file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resformer_mm.datasets.checks.images import IMAGE_ENDINGS, MISSING_IMAGE
from resformer_mm.datasets.checks.report import CheckReport, Finding
from resformer_mm.datasets.labelled_files import LabelledFiles, class_folders, class_names, listed_files
from resformer_mm.datasets.splits import split_name
from resformer_mm.inference.sources import VIDEO_SUFFIXES
from resformer_mm.tasks.segmentation.colours import LegendError, read_legend
from resformer_mm.tasks.segmentation.mask_layouts import (
    MaskFolders,
    find_legend,
    find_masks,
    mask_kind,
    value_names,
)
from resformer_mm.text import shorten_list

from .annotated import AnnotatedData, FormatError
from .conversion import SOURCES, folder_of, formats_of, read_annotations
from .images import ImageIndex, displayed_size

CLASS_FOLDERS, IMAGE_LISTS, MASKS = 'class folders', 'image lists', 'masks'
VIDEO_FOLDERS, VIDEO_LISTS = 'video folders', 'video lists'
TASKS = {
    **dict.fromkeys(SOURCES, 'detection'),
    MASKS: 'segmentation',
    VIDEO_LISTS: 'video',
    VIDEO_FOLDERS: 'video',
    IMAGE_LISTS: 'classification',
    CLASS_FOLDERS: 'classification',
}
"""Layout -> task. Class folders count only where nothing else is found: any folder of images may be one."""

_PROBES = 200
BAD_LINE = 'line that cannot be used'
NO_MASK = 'image without a mask'
NO_LEGEND = 'colours without a list'
ONE_CLASS = 'one class'
UNNAMED = 'classes without names'
OTHER_CLASSES = 'splits with different classes'


class UnknownDataError(ValueError):
    """A folder without data of a known layout. The message says what it has."""


class AmbiguousDataError(ValueError):
    """A folder with data of several layouts.

    Args:
        root: the folder.
        choices: layout -> task.
    """

    def __init__(self, root: Path, choices: Mapping[str, str]) -> None:
        self.choices = dict(choices)
        shown = ', '.join(f'{layout} ({task})' for layout, task in choices.items())
        super().__init__(f'{root} has several kinds of data: {shown}. Choose the task, or the layout')


@dataclass(frozen=True)
class FoundSplit:
    """A part of the data.

    Attributes:
        number: number of images or videos.
        counts: class -> number of images, videos or objects; of masks, value -> pixels in a few of them.
        source: what it is read from: an
            :class:`~resformer_mm.formats.annotated.AnnotatedSplit`, a
            :class:`~resformer_mm.tasks.segmentation.mask_layouts.MaskFolders` or a
            :class:`~resformer_mm.datasets.labelled_files.LabelledFiles`.
        sizes: height and width of images, of some of them if there are many; empty for videos.
    """

    number: int
    counts: Mapping[Any, int]
    source: Any
    sizes: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class FoundData:
    """What a folder has.

    Attributes:
        folder: the folder.
        layout: a key of :data:`TASKS`.
        task: 'classification', 'segmentation', 'detection' or 'video'.
        classes: names of the classes, in order.
        splits: name -> part; the name is '' if the data is not split.
        report: faults and notes.
        has_masks: whether every object has a mask (detection).
        mask_kind: 'index', 'palette' or 'colours' (segmentation).
        legend: list of the colours, for masks in colours.
    """

    folder: Path
    layout: str
    task: str
    classes: tuple[str, ...]
    splits: dict[str, FoundSplit]
    report: CheckReport = field(default_factory=CheckReport)
    has_masks: bool = False
    mask_kind: str = ''
    legend: Path | None = None

    def text(self, max_lines: int | None = 5) -> str:
        """Return what was found, in lines."""
        unit = 'videos' if self.task == 'video' else 'images'
        masks = f' ({self.mask_kind})' if self.mask_kind else ' with masks' if self.has_masks else ''
        lines = [f'{self.folder}: {self.layout}{masks}, for {self.task}; {len(self.classes)} classes']
        lines += [f'  {name or "all"}: {split.number} {unit}' for name, split in self.splits.items()]
        for name, split in self.splits.items():
            if self.task != 'segmentation':
                counts = {known: split.counts.get(known, 0) for known in self.classes}
                self.report.counts_per_class[
                    f'{name or "all"}: {unit if self.task != "detection" else "objects"}'
                ] = counts
            self.report.sizes[name or 'all'] = split.sizes
        return '\n'.join([*lines, self.report.text(max_lines, details=True)])


def layouts_of(root: str | Path) -> dict[str, str]:
    """Return layout -> task of everything that a folder may hold; class folders if there is nothing else.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = folder_of(root)
    found = formats_of(root)
    tests: dict[str, Callable[[], object]] = {
        MASKS: lambda: find_masks(root),
        VIDEO_LISTS: lambda: listed_files(root, VIDEO_SUFFIXES),
        VIDEO_FOLDERS: lambda: class_folders(root, VIDEO_SUFFIXES),
        IMAGE_LISTS: lambda: listed_files(root, IMAGE_ENDINGS),
    }
    found += [layout for layout, test in tests.items() if test()]
    if VIDEO_LISTS in found and VIDEO_FOLDERS in found:
        found.remove(VIDEO_FOLDERS)
    if not found and class_folders(root, IMAGE_ENDINGS):
        found.append(CLASS_FOLDERS)
    return {layout: TASKS[layout] for layout in found}


def recognise(root: str | Path, task: str | None = None, layout: str | None = None) -> FoundData:
    """Recognise the data in a folder, and read what its annotations say.

    Images are not decoded; ``tools/check_data.py`` and the checks of the tasks do.

    Args:
        root: the folder.
        task: take data of this task alone.
        layout: take this layout, a key of :data:`TASKS`.

    Raises:
        FileNotFoundError: there is no such folder.
        UnknownDataError: nothing is recognised.
        AmbiguousDataError: there is data of several layouts; its ``choices`` name them.
        FormatError: the data lacks a part, such as a list of classes that is named.
    """
    root = folder_of(root)
    if layout is None:
        found = layouts_of(root)
        wanted = {name: of for name, of in found.items() if task in (None, of)}
        if not wanted and task in (None, 'classification') and class_folders(root, IMAGE_ENDINGS):
            wanted = {CLASS_FOLDERS: 'classification'}
        if not wanted:
            raise UnknownDataError(_nothing_text(root, task, found))
        if len(wanted) > 1:
            raise AmbiguousDataError(root, wanted)
        [layout] = wanted
    if layout in SOURCES:
        return _annotated(root, layout)
    if layout == MASKS:
        return _masks(root)
    read = listed_files if layout in (VIDEO_LISTS, IMAGE_LISTS) else class_folders
    endings = VIDEO_SUFFIXES if TASKS[layout] == 'video' else IMAGE_ENDINGS
    return _labelled(root, layout, read(root, endings))


def conversion_hint(root: str | Path) -> str:
    """Return how a folder with an export of a labelling tool is converted to COCO; '' for others."""
    try:
        found = [name for name in formats_of(Path(root)) if name != 'coco']
    except (OSError, ValueError):
        return ''
    if not found:
        return ''
    return (
        f'. It seems to be in the format {" or ".join(found)}: convert it with '
        f'tools/dataset_converters/convert_annotations.py {root} NEW_FOLDER --to coco'
    )


def _nothing_text(root: Path, task: str | None, found: Mapping[str, str]) -> str:
    if found:
        shown = ', '.join(f'{layout} ({of})' for layout, of in found.items())
        return f'{root} has no data for {task}, but {shown}'
    number = len(ImageIndex(root).names)
    unlabelled = f'{number} images without annotations: label them first' if number else 'no images'
    return (
        f'{root} has {unlabelled}. Known are class folders, lists with `PATH LABEL`, {", ".join(SOURCES)}, '
        'images with masks, and videos in class folders or lists'
    )


def _annotated(root: Path, layout: str) -> FoundData:
    data: AnnotatedData = read_annotations(root, layout)
    splits = {
        split.name: FoundSplit(
            len(split.images),
            split.counts(),
            split,
            [(image.height, image.width) for image in split.images],
        )
        for split in data.splits
    }
    return FoundData(root, layout, 'detection', data.classes, splits, data.report, data.has_masks)


def _labelled(root: Path, layout: str, splits: list[LabelledFiles]) -> FoundData:
    if not splits:
        raise UnknownDataError(f'{root} has no {layout}')
    report = CheckReport()
    first = {name for _, name in splits[0].files}
    for split in splits:
        report.findings += [Finding(str(split.ann_file), BAD_LINE, text) for text in split.bad]
        missing = [path for path, _ in split.files if not (split.folder / path).is_file()]
        if missing:
            detail = f'{len(missing)} of {len(split.files)}: {shorten_list(missing)}'
            report.findings.append(Finding(str(split.ann_file), MISSING_IMAGE, detail))
        if new := sorted({name for _, name in split.files} - first):
            detail = f'{shorten_list(new)}: not in {splits[0].split}: rename or remove them'
            report.findings.append(Finding(str(split.folder), OTHER_CLASSES, detail))
    classes = class_names(splits)
    if len(classes) < 2:
        detail = f'all {layout} are of the class {classes[0]}: there is nothing to tell apart'
        report.findings.append(Finding(str(root), ONE_CLASS, detail))
    is_video = TASKS[layout] == 'video'
    found = {
        split.split: FoundSplit(
            len(split.files),
            split.counts(),
            split,
            [] if is_video else _sizes([split.folder / path for path, _ in split.files]),
        )
        for split in splits
    }
    return FoundData(root, layout, TASKS[layout], classes, found, report)


def _sizes(paths: list[Path]) -> list[tuple[int, int]]:
    """Return the sizes of some images; those that cannot be read are left to the check of the data."""
    found = []
    for path in paths[:: max(1, len(paths) // _PROBES)]:
        with contextlib.suppress(OSError, ValueError):
            found.append(displayed_size(path))
    return found


def _masks(root: Path) -> FoundData:
    folders = find_masks(root)
    if not folders:
        raise UnknownDataError(f'{root} has no images with masks')
    report, legend = CheckReport(), find_legend(root)
    splits: dict[str, FoundSplit] = {}
    kinds = []
    for part in folders:
        kind = mask_kind(part)
        kinds.append(kind.kind)
        if missing := part.missing():
            detail = f'{len(missing)} images have none: {shorten_list(missing)}: add them, or move the images'
            report.findings.append(Finding(str(part.masks), NO_MASK, detail))
        images = [part.images / f'{name}{part.img_suffix}' for name in part.names()]
        splits[split_name(part.split)] = FoundSplit(len(images), kind.values, part, _sizes(images))
    kind_of_all = next(kind for kind in ('photos', 'colours', 'palette', 'index') if kind in kinds)
    classes = _mask_classes(root, folders, kind_of_all, legend, splits, report)
    splits = {name: splits[name] for name in sorted(splits, key=_order)}
    return FoundData(
        root, MASKS, 'segmentation', classes, splits, report, mask_kind=kind_of_all, legend=legend
    )


def _mask_classes(
    root: Path,
    folders: list[MaskFolders],
    kind: str,
    legend: Path | None,
    splits: Mapping[str, FoundSplit],
    report: CheckReport,
) -> tuple[str, ...]:
    """Return the names of the classes, and report what is missing to know them."""
    if kind == 'photos':
        detail = 'so many colours are soft edges of JPEG files or resized pictures: export the masks as PNG'
        report.findings.append(Finding(str(folders[0].masks), NO_LEGEND, detail))
        return ()
    if kind == 'colours' and legend is None:
        detail = 'add a list of the colours, such as classes.csv with name,r,g,b'
        report.findings.append(Finding(str(folders[0].masks), NO_LEGEND, detail))
        return ()
    if kind == 'colours' and legend is not None:
        try:
            return read_legend(legend).names
        except LegendError as error:
            raise FormatError(str(error)) from error
    names = value_names([root, *(part.images for part in folders)])
    if not names and legend is not None:
        names = read_legend(legend).names
    highest = max((value for split in splits.values() for value in split.counts if value < 255), default=0)
    if not names:
        detail = f'the values are 0 to {highest}: add classes.txt, whose lines name the values 0, 1, ...'
        report.findings.append(Finding(str(root), UNNAMED, detail, is_fault=False))
        return tuple(map(str, range(highest + 1)))
    if highest >= len(names):
        detail = f'a value is {highest}, but the list has {len(names)} names: add the names, or correct it'
        report.findings.append(Finding(str(root), UNNAMED, detail))
    return names


def _order(name: str) -> tuple[int, str]:
    order = ('train', 'val', 'test')
    return order.index(name) if name in order else len(order), name
