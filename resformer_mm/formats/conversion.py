"""Reading and writing of data sets in any of the formats."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from resformer_mm.progress import track
from resformer_mm.text import shorten_list

from . import coco, cvat, label_maps, labelme, labelstudio, visdrone, voc, yolo
from .annotated import UNLISTED, AnnotatedData, AnnotatedImage, AnnotatedSplit, FormatError
from .checking import check_objects
from .images import ImageIndex, inside, unpacked

IMAGES = ('copy', 'link', 'none')


@dataclass(frozen=True)
class Target:
    """What data can be written as.

    Attributes:
        write: function of data and a folder that writes annotations and returns what is lost, with counts.
        image_path: function from a split and a file name to the place of the image in what is written.
    """

    write: Callable[[AnnotatedData, Path], Counter[str]]
    image_path: Callable[[str, str], str]


@dataclass(frozen=True)
class Source:
    """What data can be read from.

    Attributes:
        is_found: whether a folder has it.
        read: function from a folder to its data.
    """

    is_found: Callable[[Path], bool]
    read: Callable[[Path], AnnotatedData]


@dataclass(frozen=True)
class Format(Source, Target):
    """A format of annotations that is read and written."""


FORMATS = {
    'coco': Format(coco.write, coco.image_path, coco.is_found, coco.read),
    'yolo': Format(yolo.write, yolo.image_path, yolo.is_found, yolo.read),
    'voc': Format(voc.write, voc.image_path, voc.is_found, voc.read),
    'labelme': Format(labelme.write, labelme.image_path, labelme.is_found, labelme.read),
    'cvat': Format(cvat.write, cvat.image_path, cvat.is_found, cvat.read),
    'labelstudio': Format(labelstudio.write, labelstudio.image_path, labelstudio.is_found, labelstudio.read),
}
SOURCES: dict[str, Source] = {**FORMATS, 'visdrone': Source(visdrone.is_found, visdrone.read)}
TARGETS: dict[str, Target] = {**FORMATS, 'masks': Target(label_maps.write, label_maps.image_path)}


def formats_of(root: Path) -> list[str]:
    """Return the names of the formats that a folder has.

    Raises:
        FileNotFoundError: there is no such folder.
        FormatError: the folder has several YAML files of classes.
    """
    root = folder_of(root)
    return [name for name, kind in SOURCES.items() if kind.is_found(root)]


def folder_of(root: str | Path) -> Path:
    """Return a folder of data, or that inside it if it has nothing else.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        hint = ': unpack it, and give the folder' if root.is_file() else ''
        raise FileNotFoundError(f'{root} is not a folder{hint}')
    return unpacked(root)


def read_annotations(root: str | Path, name: str = 'auto') -> AnnotatedData:
    """Read the annotations of a folder.

    What cannot be read is left out and reported: faults with file, place and remedy, and notes on what is
    read otherwise than it is written.

    Args:
        root: the folder of annotations and images; no file outside of it is used.
        name: name of the format; 'auto' finds it out.

    Raises:
        FileNotFoundError: there is no such folder.
        FormatError: the folder has no known format, or several, or not the parts of the format.
    """
    root = folder_of(root)
    if name == 'auto':
        found = formats_of(root)
        if len(found) != 1:
            known = ', '.join(SOURCES)
            what = f'several formats: {", ".join(found)}' if found else f'none of the formats {known}'
            raise FormatError(f'{root} has {what}. Choose one with --from')
        [name] = found
    data = SOURCES[name].read(root)
    check_objects(data)
    _note_unlisted(data, root)
    for split in data.splits:
        _rebase(split)
    if not any(split.images for split in data.splits) and data.report.is_sound:
        raise FormatError(f'{root} has no annotated images in the format {name}: check the folder')
    return data


def write_annotations(
    data: AnnotatedData,
    out: str | Path,
    name: str,
    images: str = 'copy',
    image_prefix: str | None = None,
    boxes_only: bool = False,
    show_progress: bool = False,
) -> Counter[str]:
    """Write data in a format; return what is lost, with counts.

    Args:
        data: the data.
        out: a new or empty folder.
        name: key of :data:`TARGETS`.
        images: 'copy', 'link' (symbolic links) or 'none'.
        image_prefix: for Label Studio, what precedes the names of the images in their addresses.
        boxes_only: write boxes without masks.
        show_progress: show the progress of the images on stderr.

    Raises:
        FileExistsError: the folder is not empty.
        FormatError: there are no images, or the format cannot have them.
    """
    out = Path(out)
    check_new(out)
    if not any(split.images for split in data.splits):
        raise FormatError('there are no images to write')
    lost: Counter[str] = Counter()
    kind = TARGETS[name]
    data, places = _renamed(data, kind)
    if boxes_only:
        lost['masks: left out, as asked for'] = sum(bool(thing.mask) for _, _, thing in data.objects())
        for split in data.splits:
            for image in split.images:
                image.objects = [replace(thing, mask=None, area=None) for thing in image.objects]
    write = kind.write
    if name == 'labelstudio' and image_prefix is not None:
        write = partial(labelstudio.write, image_prefix=image_prefix)
    lost += write(data, out)
    if images != 'none':
        with closing(track(places.items(), 'images', shown=show_progress)) as tracked:
            for place, source in tracked:
                _place(source, out / place, images)
    return +lost


def check_new(out: Path) -> None:
    """Check that a folder does not exist yet, or is empty.

    Raises:
        FileExistsError: it is not empty, or a file.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f'{out} is not empty: give a new folder, nothing is overwritten')


def summary(data: AnnotatedData) -> str:
    """Return the classes, and images and objects per split, in lines."""
    lines = []
    for split in data.splits:
        counts = split.counts()
        things = [thing for image in split.images for thing in image.objects]
        masks = sum(bool(thing.mask) and not thing.is_crowd for thing in things)
        crowds = sum(thing.is_crowd for thing in things)
        empty = sum(not image.objects for image in split.images)
        lines.append(
            f'{split.name or "all"}: {len(split.images)} images, {empty} of them background; '
            f'{len(things) - crowds} objects, {masks} with masks; {crowds} crowd regions'
        )
        data.report.counts_per_class[f'{split.name or "all"}: objects'] = {
            name: counts.get(name, 0) for name in data.classes
        }
    return '\n'.join(lines)


def _note_unlisted(data: AnnotatedData, root: Path) -> None:
    """Tell which images have no annotations at all, and are not used."""
    listed = {image.file_name for split in data.splits for image in split.images}
    faulty = {finding.path for finding in data.report.findings if finding.is_fault}
    unlisted = [
        name
        for name in ImageIndex(root).names
        if name not in listed and 'Segmentation' not in name and str(root / name) not in faulty
    ]
    if unlisted and listed:
        data.note(root, UNLISTED, f'{len(unlisted)}, which are not used: {shorten_list(unlisted)}')


def _rebase(split: AnnotatedSplit) -> None:
    """Make the folder of a split the innermost one that has all of its images."""
    folders = [image.file_name.rpartition('/')[0] for image in split.images]
    if not folders or '' in folders:
        return
    common = os.path.commonpath(folders)
    if common:
        split.folder = split.folder / common
        for image in split.images:
            image.file_name = image.file_name[len(common) + 1 :]


def _renamed(data: AnnotatedData, kind: Target) -> tuple[AnnotatedData, dict[str, Path]]:
    """Return the data with file names for what is written, and place of each image -> image file.

    Names lose what leads out of the folder. Where splits have images of the same names and the format does
    not separate them, the names get the split in front.
    """

    def place(split: AnnotatedSplit, image: AnnotatedImage, front: str = '') -> str:
        return kind.image_path(split.name, front + inside(image.file_name))

    parts = [{place(split, image) for image in split.images} for split in data.splits]
    is_shared = sum(map(len, parts)) > len(set().union(*parts))
    places: dict[str, Path] = {}
    splits = []
    for split in data.splits:
        front = f'{split.name}/' if is_shared else ''
        for image in split.images:
            source, target = split.folder / image.file_name, place(split, image, front)
            if places.setdefault(target, source) != source:
                raise FormatError(f'{places[target]} and {source} would both be {target}: rename one')
        images = [replace(image, file_name=front + inside(image.file_name)) for image in split.images]
        splits.append(replace(split, images=images))
    return replace(data, splits=splits), places


def _place(source: Path, target: Path, how: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    if how == 'link':
        target.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
    else:
        shutil.copyfile(source, target)
