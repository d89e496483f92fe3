"""Validation of image and mask folders before training."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from resformer_mm.config_types import type_name
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
from resformer_mm.datasets.regular_files import list_files, read_file
from resformer_mm.hidden_files import is_hidden
from resformer_mm.repairs import collected, is_strict

from .label_maps import (
    MARK,
    LabelValues,
    NotALabelMapError,
    absent_classes,
    decode_label_map,
    has_several_channels,
    likely_cause,
    value_counts,
)
from .name_lists import read_names

MOST_VALUES = 8

NO_IMAGES = 'no images'
MISSING_MASK = 'missing mask'
LONE_MASK = 'mask without an image'
SAME_NAME = 'two images with the same name'
LEFT_OUT = 'image with another suffix'
BAD_MASK = 'unreadable mask'
NOT_LABELS = 'mask is not a label map'
UNKNOWN_VALUES = 'label values out of range'
AMBIGUOUS = 'orientation of the mask unknown'
NO_LABEL = 'nothing labelled'
NO_PIXEL = 'class without a pixel'
WRONG_VALUES = 'values are not those of the classes'
EQUAL_CHANNELS = 'mask of equal channels'
SMALL = 'smaller than the crop'


@dataclass(frozen=True)
class PairFolders:
    """A folder of images, a folder of masks, and the meaning of the mask values.

    Args:
        img_dir: folder of the images, including its subfolders.
        ann_dir: folder of the masks.
        labels: the meaning of the mask values.
        img_suffix: suffix of image files.
        seg_map_suffix: suffix of mask files; it replaces the suffix of the image.
        names: names of the images to use, without suffix; None uses all images.
        classes: names of the classes, for messages.
        ann_file: the file that lists the names.
        classes_file: the file with the names of the classes.
        repairs: what had to be repaired in it.
        foreign: the data set that reads the names, unless it is one of this package.
        is_strict: whether masks have to be as the transform that reads them expects: it repairs nothing.
    """

    img_dir: str | Path
    ann_dir: str | Path
    labels: LabelValues
    img_suffix: str = '.jpg'
    seg_map_suffix: str = '.png'
    names: Sequence[str] | None = None
    classes: Sequence[str] | None = field(default=None, compare=False)
    ann_file: str = ''
    classes_file: str = ''
    repairs: tuple[str, ...] = field(default=(), compare=False)
    foreign: Any = field(default=None, compare=False, repr=False)
    is_strict: bool = field(default=False, compare=False)

    def image(self, name: str) -> str:
        """Return the path of an image."""
        return os.path.join(self.img_dir, name + self.img_suffix)

    def mask(self, name: str) -> str:
        """Return the path of a mask."""
        return os.path.join(self.ann_dir, name + self.seg_map_suffix)

    @classmethod
    def from_config(cls, config: Mapping, loader: str) -> PairFolders:
        """Return the folders that a data set reads. The default scope must be that of the config.

        Args:
            config: config of the data set.
            loader: name of its data loader, for messages.

        Raises:
            ValueError: the data set does not read image and mask folders, or has no classes.
        """
        dataset = DATASETS.build({**config, 'lazy_init': True, 'pipeline': []})
        prefix = getattr(dataset, 'data_prefix', {})
        if not prefix.get('img_path') or not prefix.get('seg_map_path'):
            raise ValueError(
                f'{loader}.dataset has no data_prefix with both img_path and seg_map_path: without masks '
                f'there is nothing to check. Skip it with --cfg-options {loader}=None'
            )
        classes = dataset.metainfo.get('classes')
        if not classes:
            raise ValueError(f'{loader}.dataset names no classes: set its metainfo.classes')
        names, repairs = None, []
        if dataset.ann_file:

            def exists(name: str) -> bool:
                return os.path.isfile(os.path.join(prefix['img_path'], name + dataset.img_suffix))

            with collected() as repairs:
                names = tuple(read_names(dataset.ann_file, dataset.img_suffix, exists))
        loading = {type_name(step['type']) for step in config.get('pipeline') or ()}
        return cls(
            prefix['img_path'],
            prefix['seg_map_path'],
            LabelValues(len(classes), dataset.reduce_zero_label, dataset.ignore_index, dataset.label_map),
            dataset.img_suffix,
            dataset.seg_map_suffix,
            names,
            tuple(classes),
            dataset.ann_file,
            getattr(dataset, 'classes_path', ''),
            tuple(repairs),
            foreign(dataset),
            'LoadAnnotations' in loading,
        )


def check_pairs(
    folders: PairFolders,
    crop_size: tuple[int, int] | None = None,
    workers: int = 1,
    show_progress: bool = False,
) -> CheckReport:
    """Check every image, every mask, and that the two match.

    The files are decoded completely, by the functions that training uses. Sizes are reported as height x
    width.

    Args:
        folders: the folders to check.
        crop_size: ``(height, width)`` in pixels; smaller images are reported, but not as faults.
        workers: number of threads.
        show_progress: show a progress bar on stderr.
    """
    report = CheckReport()
    for folder in (folders.img_dir, folders.ann_dir):
        if not os.path.isdir(folder):
            report.findings.append(Finding(str(folder), MISSING_FOLDER))
    if report.findings:
        return report
    names, findings = match_names(folders)
    report.findings += findings
    if folders.names is not None:
        report.findings += reading_findings(
            folders.ann_file,
            folders.repairs,
            folders.foreign,
            'resformer_mm.SegmentationFolder',
            [(folders.image(name), folders.mask(name)) for name in folders.names],
            lambda info: (info['img_path'], info['seg_map_path']),
        )
    results = check_each(
        lambda name: check_pair(folders, name, crop_size),
        names,
        workers,
        str(folders.img_dir) if show_progress else None,
    )
    values: Counter[int] = Counter()
    sizes = report.sizes.setdefault(str(folders.img_dir), [])
    for found, counts, shape in results:
        report.findings += found
        values.update(counts)
        sizes += [shape] if shape is not None else []
    report.counts_per_class[f'{folders.ann_dir}: pixels'] = _pixels_per_class(folders, values)
    if (absent := absent_classes(values, folders.labels, folders.classes)) is not None:
        detail, is_fault = absent
        kind = WRONG_VALUES if is_fault else NO_PIXEL
        report.findings.append(Finding(str(folders.ann_dir), kind, detail, is_fault))
    report.facts.append(_describe(folders, len(names), values))
    return report


def match_names(folders: PairFolders) -> tuple[list[str], list[Finding]]:
    """Return the names that have both an image and a mask, and findings about the others."""
    files = sorted(_files(folders.img_dir))
    images = _stripped(files, folders.img_suffix)
    masks = _stripped(_files(folders.ann_dir), folders.seg_map_suffix)
    wanted = images if folders.names is None else set(folders.names)
    findings = []
    if not wanted:
        detail = f'contains no *{folders.img_suffix} file' if folders.names is None else 'its list is empty'
        findings.append(Finding(str(folders.img_dir), NO_IMAGES, detail))
    findings += [Finding(folders.image(name), MISSING_IMAGE, 'named in the list') for name in wanted - images]
    findings += [
        Finding(folders.image(name), MISSING_MASK, f'there is no {folders.mask(name)}')
        for name in (wanted & images) - masks
    ]
    if folders.names is None:
        findings += [
            Finding(folders.mask(name), LONE_MASK, f'there is no {folders.image(name)}')
            for name in masks - images
        ]
        findings += _other_images(folders, files, images)
    return sorted(wanted & images & masks), findings


def check_pair(
    folders: PairFolders, name: str, crop_size: tuple[int, int] | None = None
) -> tuple[list[Finding], dict[int, int], tuple[int, int] | None]:
    """Read one image and its mask; return the findings, the pixels of each value, and the size."""
    image, mask = folders.image(name), folders.mask(name)
    findings: list[Finding] = []
    counts: dict[int, int] = {}
    shape: tuple[int, int] | None
    try:
        shape, orientation, darkness = read_facts(image)
    except Exception as error:  # Pillow raises many types for bytes that are not an image
        findings.append(Finding(image, BAD_IMAGE, f'{type(error).__name__}: {error}'))
        shape = darkness = None
    if darkness is not None:
        findings.append(Finding(image, DARK_IMAGE, darkness, is_fault=False))
    try:
        content = read_file(mask)
        values = decode_label_map(content)
        if has_several_channels(content):
            detail = 'one of them is read'
            if folders.is_strict:
                detail = (
                    "LoadAnnotations of mmseg fails: use 'resformer_mm.LoadSegMap', which reads one of them"
                )
            is_fault = folders.is_strict or is_strict()
            findings.append(Finding(mask, EQUAL_CHANNELS, detail, is_fault))
    except NotALabelMapError as error:
        findings.append(Finding(mask, NOT_LABELS, str(error)))
        values = None
    except Exception as error:
        findings.append(Finding(mask, BAD_MASK, f'{type(error).__name__}: {error}'))
        values = None

    if shape is not None and crop_size is not None and np.less(shape, crop_size).any():
        sizes = f'{size_text(shape)}, crop {size_text(crop_size)}'
        detail = f'{sizes}: padded with ignored pixels, unless enlarged before the crop'
        findings.append(Finding(image, SMALL, detail, is_fault=False))
    if shape is not None and values is not None:
        findings += _compare(image, shape, orientation, mask, values.shape)
    if values is not None:
        counts = value_counts(values)
        findings += _check_values(mask, counts, folders.labels)
    return findings, counts, shape


def _compare(
    image: str, shape: tuple[int, int], orientation: int, mask: str, mask_shape: tuple[int, int]
) -> list[Finding]:
    """Compare the sizes of a mask and of its image after EXIF rotation."""
    if mask_shape != shape:
        its_image = f'its image {image} {size_text(shape, orientation)}'
        return [Finding(mask, SIZES_DIFFER, f'{size_text(mask_shape)}, {its_image}')]
    if is_ambiguous(shape, orientation):
        return [
            Finding(
                image,
                AMBIGUOUS,
                f'the image is rotated by its EXIF orientation {orientation}, and the sizes do not show '
                'whether the mask is rotated too: save the image rotated, without the tag',
            )
        ]
    return []


def _check_values(mask: str, counts: dict[int, int], labels: LabelValues) -> list[Finding]:
    """Check the values of a mask, given the number of pixels of each."""
    if unknown := labels.unknown(counts):
        shown = ', '.join(f'{value} ({counts[value]} pixels)' for value in unknown[:MOST_VALUES])
        more = f' and {len(unknown) - MOST_VALUES} more' if len(unknown) > MOST_VALUES else ''
        cause = likely_cause(unknown, counts, labels)
        return [Finding(mask, UNKNOWN_VALUES, f'{shown}{more}; {labels}{cause}')]
    if all(labels.table[value] == MARK for value in counts):
        return [Finding(mask, NO_LABEL, 'all its pixels are ignored', is_fault=False)]
    return []


def _files(folder: str | Path) -> list[str]:
    """List the files that mmsegmentation's data sets find, relative to the folder."""
    return [name for name in list_files(folder) if not is_hidden(name)]


def _stripped(files: Sequence[str], suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in files if name.endswith(suffix)}


def _other_images(folders: PairFolders, files: Sequence[str], images: set[str]) -> list[Finding]:
    """Find images that a data set silently ignores because of their suffix."""
    used: tuple[str, ...] = (folders.img_suffix,)
    if os.path.samefile(folders.img_dir, folders.ann_dir):
        used += (folders.seg_map_suffix,)
    findings = []
    for name in files:
        stem, ending = os.path.splitext(name)
        if name.endswith(used) or ending.lower() not in IMAGE_ENDINGS:
            continue
        path = os.path.join(folders.img_dir, name)
        if stem in images:
            findings.append(Finding(path, SAME_NAME, f'{folders.image(stem)} is used, this file is not'))
        else:
            findings.append(Finding(path, LEFT_OUT, f'only *{folders.img_suffix} files are used'))
    return findings


def _pixels_per_class(folders: PairFolders, values: Mapping[int, int]) -> dict[str, int]:
    number = folders.labels.num_classes
    names = folders.classes or tuple(map(str, range(number)))
    pixels = dict.fromkeys(names, 0)
    for value in values.keys() - set(folders.labels.unknown(values)):
        if (label := int(folders.labels.table[value])) < number:
            pixels[names[label]] += values[value]
    return pixels


def _describe(folders: PairFolders, num_pairs: int, values: Mapping[int, int]) -> str:
    labels = folders.labels
    known = values.keys() - set(labels.unknown(values))
    ignored = sum(values[value] for value in known if labels.table[value] == MARK)
    present = {int(labels.table[value]) for value in known} - {MARK}
    share = 100 * ignored / max(sum(values[value] for value in known), 1)
    return (
        f'{folders.img_dir}: {num_pairs} images with masks, {len(present)} of {labels.num_classes} '
        f'classes occur, {share:.1f} % of the pixels are ignored'
    )
