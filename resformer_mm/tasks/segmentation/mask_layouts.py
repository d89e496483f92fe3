"""Layouts of images with masks: which folders belong together, which names, and what the values mean."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resformer_mm.datasets.checks.images import IMAGE_ENDINGS
from resformer_mm.datasets.image_files import opened_image
from resformer_mm.datasets.label_lists import LabelListError, read_lines
from resformer_mm.datasets.regular_files import list_files, read_file
from resformer_mm.hidden_files import is_hidden

from .label_maps import LABEL_MODES, NotALabelMapError, decode_label_map, value_counts

# In lower case.
IMAGES = ('images', 'img_dir', 'imgs', 'jpegimages', 'image', 'img')
MASKS = ('annotations', 'ann_dir', 'masks', 'labels', 'segmentationclass', 'mask', 'label', 'gt')
LEGENDS = ('labelmap.txt', 'class_dict.csv', 'classes.csv', 'label_colors.txt', 'colors.txt', 'legend.csv')
NAMES = ('classes.txt', '_classes.csv')
_LISTS = 'ImageSets/Segmentation'
_BESIDE = ('_labels', '_masks', '_mask', 'annot', '_annot', '_gt')
_SPLITS = ('train', 'training', 'val', 'valid', 'validation', 'test', 'testing')
_PROBES = 16
_MOST_COLOURS = 256


@dataclass(frozen=True)
class MaskFolders:
    """Images and masks of one split.

    Attributes:
        split: name of the split; '' without splits.
        images: folder of the images.
        masks: folder of the masks; it may be the same.
        img_suffix: suffix of the images.
        mask_suffix: what the masks have in its place.
        ann_file: list of names without suffix; None takes all images.
    """

    split: str
    images: Path
    masks: Path
    img_suffix: str
    mask_suffix: str
    ann_file: Path | None = None

    @property
    def is_mixed(self) -> bool:
        """Whether the suffix of the images is also that of masks in the same folder."""
        return self.images == self.masks and self.mask_suffix.endswith(self.img_suffix)

    def names(self) -> list[str]:
        """Return the names of the images, without suffix."""
        if self.ann_file is not None:
            return [line.strip() for line in read_lines(str(self.ann_file)) if line.strip()]
        return [name.removesuffix(self.img_suffix) for name in self._named(self.images, self.img_suffix)]

    def missing(self) -> list[str]:
        """Return the images that have no mask."""
        masks = set(self._named(self.masks, self.mask_suffix))
        return [name + self.img_suffix for name in self.names() if name + self.mask_suffix not in masks]

    def _named(self, folder: Path, suffix: str) -> list[str]:
        names = [name for name in sorted(list_files(folder, suffix)) if not is_hidden(name)]
        if folder == self.images == self.masks and suffix == self.img_suffix:
            names = [name for name in names if not name.endswith(self.mask_suffix)]
        return names


@dataclass(frozen=True)
class MaskKind:
    """What the masks of a folder hold, by a few of them.

    Attributes:
        kind: 'index' for one number per pixel, 'palette' for numbers with colours, 'colours' for pictures
            that need a list of the colours, 'photos' for pictures with too many colours.
        values: number of pixels of each value of index and palette masks.
    """

    kind: str
    values: dict[int, int]


def pair_folders(root: Path) -> list[tuple[Path, Path]]:
    """Return folders of images and of masks, by their usual names, with the splits that both have."""
    folders = {entry.name.lower(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
    pairs = []
    for images in (folders[name] for name in IMAGES if name in folders):
        for masks in (folders[name] for name in MASKS if name in folders):
            pairs += _splits(images, masks)
    return pairs


def find_masks(root: Path) -> list[MaskFolders]:
    """Return the images with masks of a folder, the training first; empty if it has none.

    Besides folders of images and masks, folders such as ``train`` and ``train_labels`` are known, masks
    beside the images with ``_mask`` in their names (Roboflow), and lists in ``ImageSets/Segmentation``.
    """
    pairs = [(_split_of(images), images, masks) for images, masks in pair_folders(root)]
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir()}
    for split in _SPLITS:
        beside = next((folders[split + end] for end in _BESIDE if split + end in folders), None)
        if split in folders and beside is not None:
            pairs.append((split, folders[split], beside))
    if not pairs:
        candidates = [(split, folders[split]) for split in _SPLITS if split in folders] or [('', root)]
        pairs = [(split, folder, folder) for split, folder in candidates]
    found = []
    for split, images, masks in pairs:
        suffixes = _suffixes(images, masks)
        if suffixes is not None:
            found.append(MaskFolders(split, images, masks, *suffixes))
    lists = [root / _LISTS / f'{split}.txt' for split in _SPLITS]
    lists = [path for path in lists if path.is_file()]
    if len(found) == 1 and lists:
        [only] = found
        return [
            MaskFolders(path.stem, only.images, only.masks, only.img_suffix, only.mask_suffix, path)
            for path in lists
        ]
    return found


def mask_kind(folders: MaskFolders) -> MaskKind:
    """Return what the masks hold.

    Raises:
        OSError: a mask cannot be read.
    """
    names = folders.names()
    counts: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    for name in names[:: max(1, len(names) // _PROBES)]:
        path = folders.masks / (name + folders.mask_suffix)
        if not path.is_file():
            continue
        content = read_file(path)
        with opened_image(content) as image:
            is_palette = image.mode == 'P'
            is_index = image.mode in LABEL_MODES
            colours = None if is_index else image.convert('RGB').getcolors(_MOST_COLOURS)
        if colours is None and not is_index:
            kinds['photos'] += 1
            continue
        # To look for colours by decoding takes far longer.
        if any(len({*colour}) > 1 for _, colour in colours or () if isinstance(colour, tuple)):
            kinds['colours'] += 1
            continue
        try:
            counts.update(value_counts(decode_label_map(content)))
            kinds['palette' if is_palette else 'index'] += 1
        except NotALabelMapError:
            kinds['colours'] += 1
    kind = next((kind for kind in ('photos', 'colours', 'palette', 'index') if kinds[kind]), 'index')
    return MaskKind(kind, dict(sorted(counts.items())) if kind in ('index', 'palette') else {})


def find_legend(root: Path) -> Path | None:
    """Return the list of colours in a folder, by its usual names; None without one."""
    return next((root / name for name in LEGENDS if (root / name).is_file()), None)


def value_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of the values 0, 1, ... from a list in one of the folders; empty without one.

    Raises:
        ValueError: the list cannot be read, or a value has no name.
    """
    for path in (folder / name for folder in folders for name in NAMES):
        if not path.is_file():
            continue
        try:
            lines = [line.strip() for line in read_lines(str(path))]
        except LabelListError as error:
            raise ValueError(str(error)) from error
        if path.suffix == '.txt':
            return tuple(line for line in lines if line)
        rows = [row for row in csv.reader(lines[1:]) if len(row) > 1]
        numbered = {int(row[0]): row[1].strip() for row in rows if row[0].strip().isdecimal()}
        if sorted(numbered) != list(range(len(numbered))):
            raise ValueError(f'{path}: the values must be 0, 1, ..., one a line: correct the file')
        return tuple(numbered[value] for value in range(len(numbered)))
    return ()


def _splits(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return the subfolders that both have, the training first; the folders themselves without any."""
    names = [entry.name for entry in images.iterdir() if entry.is_dir() and not is_hidden(entry.name)]
    shared = sorted(
        (name for name in names if (masks / name).is_dir()), key=lambda name: (name[:2] != 'tr', name)
    )
    return [(images / name, masks / name) for name in shared] or [(images, masks)]


def _split_of(folder: Path) -> str:
    return folder.name if folder.parent.name.lower() in IMAGES else ''


def common_suffix(folder: Path) -> str | None:
    """Return the most frequent suffix of images in a folder and its subfolders; None without images."""
    endings = Counter(
        os.path.splitext(name)[1]
        for _, _, names in os.walk(folder)
        for name in names
        if not is_hidden(name) and name.lower().endswith(IMAGE_ENDINGS)
    )
    return endings.most_common(1)[0][0] if endings else None


def _suffixes(images: Path, masks: Path) -> tuple[str, str] | None:
    """Return the suffixes of images and of their masks; None if names of masks do not begin as those."""
    files = [name for name in sorted(list_files(masks)) if name.lower().endswith(IMAGE_ENDINGS)]
    names = [name for name in sorted(list_files(images)) if name.lower().endswith(IMAGE_ENDINGS)]
    known = set(files)
    rests: Counter[tuple[str, str]] = Counter()
    by_stem: dict[str, list[str]] = {}
    for name in files:
        stem, ending = os.path.splitext(name)
        by_stem.setdefault(stem, []).append(ending)
        head, mark, tail = stem.rpartition('_')
        if mark and '/' not in tail:
            by_stem.setdefault(head, []).append(f'_{tail}{ending}')
    for name in names[:: max(1, len(names) // 200)]:
        stem, ending = os.path.splitext(name)
        for rest in by_stem.get(stem, []):
            if images != masks or (rest.startswith('_mask') and stem + rest in known):
                rests[ending, rest] += 1
    return rests.most_common(1)[0][0] if rests else None
