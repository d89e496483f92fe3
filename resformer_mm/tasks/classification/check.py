"""Validation of class folders and lists of images before training."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
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
    read_facts,
)
from resformer_mm.datasets.checks.reading import foreign, reading_findings
from resformer_mm.datasets.checks.report import CheckReport, Finding, check_each
from resformer_mm.datasets.label_lists import BAD_LABEL, LabelListError, read_local_list
from resformer_mm.datasets.regular_files import walk_folders
from resformer_mm.engine.classes import name_difference
from resformer_mm.hidden_files import is_hidden
from resformer_mm.repairs import collected

from .nested import nested_text

MISSING_LIST = 'missing list'
NO_LIST = 'list is not a text file'
NO_IMAGES = 'no images'
NESTED = 'class of several folders'
EMPTY_CLASS = 'class without an image'
UNKNOWN_FOLDER = 'folder that is not a class'
HIDDEN = 'hidden file or folder'
LEFT_OUT = 'image with another suffix'
OTHER_FILE = 'file that is not an image'
OUTSIDE = 'image outside the class folders'
OTHER_LABEL = 'label is not that of its folder'
OTHER_CLASSES = 'splits with different classes'
NUMBER = 'number of classes'
SAME_IN_CLASS = 'same picture twice in a class'
SAME_IN_CLASSES = 'same picture in two classes'
SAME_IN_SPLITS = 'same picture in two splits'

# Of photos that people have, and that OpenCV and Pillow alone do not read.
OTHER_FORMATS = ('.heic', '.heif', '.avif', '.dng', '.cr2', '.cr3', '.nef', '.arw')
# Of mmpretrain's data sets.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


@dataclass(frozen=True)
class ClassFolders:
    """Images of one split.

    Args:
        folder: folder of the class folders, or that the paths of a list are relative to.
        ann_file: list of images and labels; None if folders are the classes.
        classes: names of the classes; None takes those of the folders.
        suffixes: suffixes of images, in lower case.
        num_classes: number of classes that the model has; None if it is not known.
        name: name of the split, for messages.
        foreign: the data set that reads them, unless it is one of this package.
    """

    folder: str
    ann_file: str | None = None
    classes: tuple[str, ...] | None = None
    suffixes: tuple[str, ...] = SUFFIXES
    num_classes: int | None = field(default=None, compare=False)
    name: str = field(default='', compare=False)
    foreign: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def from_config(cls, config: Mapping, loader: str) -> ClassFolders:
        """Return what a data set reads. The default scope must be that of the config.

        Args:
            config: config of the data set.
            loader: name of its data loader, for messages.

        Raises:
            ValueError: the data set reads neither class folders nor a list of images.
        """
        dataset = DATASETS.build({**config, 'lazy_init': True, 'pipeline': []})
        prefix = getattr(dataset, 'data_prefix', {}).get('img_path')
        if not getattr(dataset, 'with_label', False) or prefix is None:
            raise ValueError(
                f'{loader}.dataset reads neither class folders nor a list of images with labels: there is '
                f'nothing to check. Skip it with --cfg-options {loader}=None'
            )
        classes = dataset.metainfo.get('classes')
        return cls(
            prefix,
            dataset.ann_file or None,
            None if classes is None else tuple(classes),
            tuple(dataset.extensions),
            name=f'{loader}.dataset',
            foreign=foreign(dataset),
        )

    @property
    def title(self) -> str:
        """The name of the split, else its folder."""
        return self.name or self.folder


@dataclass(frozen=True)
class _Image:
    """An image with its label.

    Attributes:
        path: the file.
        label: the class.
        name: name of the class.
    """

    path: str
    label: int
    name: str


def check_class_folders(
    sources: Sequence[ClassFolders], workers: int = 1, show_progress: bool = False
) -> CheckReport:
    """Check every image of every split, and compare the splits with each other.

    Images are decoded completely, by the function that training uses.

    Args:
        sources: the splits; the first one defines the classes.
        workers: number of threads.
        show_progress: show a progress bar on stderr.
    """
    report = CheckReport()
    seen: dict[str, tuple[int, _Image]] = {}
    classes: tuple[str, tuple[str, ...]] | None = None
    for number, source in enumerate(sources):
        images, own, findings = list_images(source)
        report.findings += findings
        if own is not None:
            classes = classes or (source.title, own)
            difference = name_difference(classes[1], own, (classes[0], source.title))
            if difference is not None:
                report.findings.append(Finding(source.folder, OTHER_CLASSES, difference))
            if source.num_classes not in (None, len(own)):
                detail = f'{len(own)} classes, but the model has {source.num_classes}'
                report.findings.append(Finding(source.folder, NUMBER, detail))
        results = check_each(
            check_image, images, workers, source.ann_file or source.folder if show_progress else None
        )
        sizes = report.sizes.setdefault(source.folder, [])
        for (found, digest, shape), image in zip(results, images):  # in this order, the bar reaches its end
            report.findings += found
            sizes += [shape] if shape is not None else []
            before = seen.setdefault(digest, (number, image)) if digest else (number, image)
            if before[1] is not image:
                report.findings.append(_same(before, (number, image)))
        counts = Counter(image.label for image in images)
        names = own or tuple(map(str, range(max(counts, default=-1) + 1)))
        where = f'{source.ann_file or source.folder}'
        report.counts_per_class[f'{where}: images'] = _per_class(names, counts)
        present = sum(1 for label in counts if counts[label])
        report.facts.append(f'{where}: {len(images)} images, {present} of {len(names)} classes occur')
    return report


def list_images(source: ClassFolders) -> tuple[list[_Image], tuple[str, ...] | None, list[Finding]]:
    """Return the images of a split, its classes if they are known, and findings about all other files."""
    if not os.path.isdir(source.folder):
        return [], None, [Finding(source.folder, MISSING_FOLDER)]
    with collected() as repairs:
        images, classes, findings = (_in_list if source.ann_file else _in_folders)(source)
    if not any(finding.is_fault for finding in findings):
        findings += reading_findings(
            source.ann_file or source.folder,
            repairs,
            source.foreign,
            'resformer_mm.ImageFolder',
            [(os.path.normpath(image.path), image.label) for image in images],
            lambda info: (os.path.normpath(info['img_path']), info['gt_label']),
        )
    if not images and not any(finding.is_fault for finding in findings):
        where = source.ann_file or source.folder
        findings.append(Finding(where, NO_IMAGES, f'no {", ".join(sorted(source.suffixes))} file'))
    return images, classes, findings


def check_image(image: _Image) -> tuple[list[Finding], str, tuple[int, int] | None]:
    """Read one image; return the findings, a digest of the file, and the size, None if it is unreadable."""
    if not os.path.isfile(image.path):
        return [Finding(image.path, MISSING_IMAGE, 'named in the list')], '', None
    digest = hashlib.sha1(Path(image.path).read_bytes(), usedforsecurity=False).hexdigest()
    try:
        facts = read_facts(image.path)
    except Exception as error:  # Pillow raises many types for bytes that are not an image
        return [Finding(image.path, BAD_IMAGE, f'{type(error).__name__}: {error}')], '', None
    findings = []
    if facts.darkness is not None:
        findings.append(Finding(image.path, DARK_IMAGE, facts.darkness, is_fault=False))
    return findings, digest, facts.shape


def _in_folders(source: ClassFolders) -> tuple[list[_Image], tuple[str, ...] | None, list[Finding]]:
    entries = sorted(os.listdir(source.folder))
    inside = [name for name in entries if os.path.isdir(os.path.join(source.folder, name))]
    findings = [
        Finding(os.path.join(source.folder, name), HIDDEN, 'neither a class nor data', is_fault=False)
        for name in inside
        if is_hidden(name)
    ]
    folders = [name for name in inside if not is_hidden(name)]
    classes = source.classes or tuple(folders)
    labels = {name: label for label, name in enumerate(classes)}
    unknown = [name for name in folders if name not in labels]
    if len(unknown) == len(folders) == len(classes):  # other names, in alphabetical order
        labels = {name: label for label, name in enumerate(folders)}
    elif unknown:
        findings += [
            Finding(os.path.join(source.folder, name), UNKNOWN_FOLDER, 'training stops at its start')
            for name in unknown
        ]
    images: list[_Image] = []
    for folder in folders:
        if folder not in labels:
            continue
        names = _walk(os.path.join(source.folder, folder))
        used, left_out = _sort_files(os.path.join(source.folder, folder), names, source.suffixes)
        findings += left_out
        if not used:
            detail = 'it cannot be learned, or is not tested'
            findings.append(Finding(os.path.join(source.folder, folder), EMPTY_CLASS, detail, is_fault=False))
        inside = [os.path.relpath(path, os.path.join(source.folder, folder)) for path in used]
        if (nested := nested_text(folder, inside)) is not None:
            findings.append(Finding(os.path.join(source.folder, folder), NESTED, nested, is_fault=False))
        images += [_Image(path, labels[folder], classes[labels[folder]]) for path in used]
    absent = [name for name in classes if name not in labels or name not in folders] if not unknown else []
    findings += [
        Finding(os.path.join(source.folder, name), EMPTY_CLASS, 'it has no folder', is_fault=False)
        for name in absent
    ]
    loose = [name for name in entries if name not in inside and not is_hidden(name)]
    findings += [
        Finding(os.path.join(source.folder, name), OUTSIDE, 'it is not used', is_fault=bool(not images))
        for name in loose
        if os.path.splitext(name)[1].lower() in (*IMAGE_ENDINGS, *source.suffixes)
    ]
    return images, classes, findings


def _in_list(source: ClassFolders) -> tuple[list[_Image], tuple[str, ...] | None, list[Finding]]:
    path, classes = str(source.ann_file), source.classes
    if not os.path.isfile(path):
        return [], classes, [Finding(path, MISSING_LIST)]
    number = len(classes) if classes else source.num_classes
    try:
        listed, bad = read_local_list(path, source.folder, number, classes=classes)
    except LabelListError as error:
        return [], classes, [Finding(path, NO_LIST, str(error))]
    findings = [Finding(path, line.kind, f'line {line.line}: {line.detail}') for line in bad]
    if classes is None and any(line.kind == BAD_LABEL for line in bad):
        findings.append(Finding(path, BAD_LABEL, 'if the labels are names, list these in metainfo.classes'))
    images, folder_labels = [], dict[str, Counter[int]]()
    for entry in listed:
        name = classes[entry.label] if classes else str(entry.label)
        images.append(_Image(os.path.join(source.folder, entry.path), entry.label, name))
        folder = os.path.basename(os.path.dirname(entry.path))
        folder_labels.setdefault(folder, Counter())[entry.label] += 1
    for folder, labels in folder_labels.items():
        if folder and classes and folder in classes and set(labels) != {classes.index(folder)}:
            detail = (
                f'files in the folder {folder} have the labels {sorted(labels)}, not {classes.index(folder)}'
            )
            findings.append(Finding(path, OTHER_LABEL, detail))
    return images, classes, findings


def _walk(folder: str) -> list[str]:
    """Return the files in a folder and its subfolders, relative to it, sorted."""
    return sorted(os.path.join(inside, name) for inside, files in walk_folders(folder) for name in files)


def _sort_files(
    folder: str, names: Sequence[str], suffixes: Sequence[str]
) -> tuple[list[str], list[Finding]]:
    """Return the images that training uses, and findings about the other files."""
    used, findings = [], []
    for name in names:
        path, ending = os.path.join(folder, name), os.path.splitext(name)[1].lower()
        if is_hidden(name):
            findings.append(Finding(path, HIDDEN, 'not used', is_fault=False))
        elif name.lower().endswith(tuple(suffixes)):
            used.append(path)
        elif ending in OTHER_FORMATS:
            findings.append(Finding(path, LEFT_OUT, f'{ending} is not read: convert it to .jpg or .png'))
        elif ending in IMAGE_ENDINGS:
            findings.append(Finding(path, LEFT_OUT, f'only {", ".join(sorted(suffixes))} files are used'))
        else:
            findings.append(Finding(path, OTHER_FILE, 'not used', is_fault=False))
    return used, findings


def _same(first: tuple[int, _Image], second: tuple[int, _Image]) -> Finding:
    """Return the finding about two files of the same content."""
    (split, image), (other_split, other) = first, second
    detail = f'the same as {image.path}'
    if image.name != other.name:
        detail = f'{detail}, but of the classes {other.name} and {image.name}'
        return Finding(other.path, SAME_IN_CLASSES, detail)
    kind = SAME_IN_CLASS if split == other_split else SAME_IN_SPLITS
    return Finding(other.path, kind, detail, is_fault=False)


def _per_class(names: Sequence[str], counts: Mapping[int, int]) -> dict[str, int]:
    per_class: dict[str, int] = {}
    for label, name in enumerate(names):
        per_class[name] = per_class.get(name, 0) + counts.get(label, 0)
    return per_class
