"""Annotated images in the form that all formats are read to and written from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resformer_mm.datasets.checks.images import SIZES_DIFFER
from resformer_mm.datasets.checks.report import CheckReport, Finding

Box = tuple[float, float, float, float]
Mask = list[list[float]] | dict[str, Any] | None
NO_FILE = 'file that cannot be read'
UNKNOWN_CLASS = 'class that is not in the list'
NO_OBJECT = 'entry that is not an object'
OUT_OF_RANGE = 'coordinates beyond the image'
NO_IMAGE = 'image that does not exist'
NO_ENTRY = 'annotations without an image'
TWICE = 'listed twice'
UNREAD = 'not read'
UNLISTED = 'images without an entry'
BACKGROUND = 'images without annotations'
CHANGED = 'read otherwise than written'
OTHER_BOXES = 'boxes that are not those around their masks: the masks alone are written'


class FormatError(ValueError):
    """Data that is not of a format, or cannot be written. The message names the file and a remedy."""


@dataclass
class AnnotatedObject:
    """An object in an image.

    Attributes:
        category: name of its class.
        box: ``x, y, width, height`` in pixels, from the upper left corner of the image.
        mask: polygons ``[[x1, y1, x2, y2, ...], ...]`` or a run-length code, as in COCO; None without one.
        is_crowd: whether it is a region of several objects, which are neither learned nor evaluated.
        score: confidence of a prediction, 0 to 1; None for labels.
        attributes: what else a tool knows about it.
        area: area in pixels, if the format has one.
        where: its file, and the place in it.
    """

    category: str
    box: Box
    mask: Mask = None
    is_crowd: bool = False
    score: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    area: float | None = field(default=None, compare=False)
    where: tuple[str, str] = field(default=('', ''), compare=False)


@dataclass
class AnnotatedImage:
    """An image and its objects.

    Attributes:
        file_name: path relative to the folder of its split, with forward slashes.
        height: in pixels, as displayed, that is after any EXIF rotation.
        width: in pixels.
        objects: its objects; empty for background.
        id: its id in the source, if it has one.
    """

    file_name: str
    height: int
    width: int
    objects: list[AnnotatedObject] = field(default_factory=list)
    id: int | str | None = None


@dataclass
class AnnotatedSplit:
    """A part of a data set.

    Attributes:
        name: 'train', 'val', 'test' or another one; '' if the data is not split.
        folder: folder of its images.
        images: the images.
    """

    name: str
    folder: Path
    images: list[AnnotatedImage] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the number of objects of each class that occurs; crowd regions do not count."""
        return dict(
            Counter(thing.category for image in self.images for thing in image.objects if not thing.is_crowd)
        )


@dataclass
class AnnotatedData:
    """A data set.

    Attributes:
        classes: names of the classes, in order.
        splits: its parts, the training first.
        report: what is wrong with it, and what of the source is not read.
    """

    classes: tuple[str, ...] = ()
    splits: list[AnnotatedSplit] = field(default_factory=list)
    report: CheckReport = field(default_factory=CheckReport)

    @property
    def has_masks(self) -> bool:
        """Whether every object has a mask, and there is one."""
        things = [thing for _, _, thing in self.objects()]
        return bool(things) and all(thing.mask for thing in things)

    def objects(self) -> Iterator[tuple[AnnotatedSplit, AnnotatedImage, AnnotatedObject]]:
        """Yield every object with its image and split."""
        for split in self.splits:
            for image in split.images:
                for thing in image.objects:
                    yield split, image, thing

    def fault(self, path: object, kind: str, detail: str) -> None:
        """Add a fault of a file."""
        self.report.findings.append(Finding(str(path), kind, detail))

    def note(self, path: object, kind: str, detail: str) -> None:
        """Add a remark about a file."""
        self.report.findings.append(Finding(str(path), kind, detail, is_fault=False))

    def has_other_size(
        self, path: object, place: str, stated: tuple[object, object], image: AnnotatedImage
    ) -> bool:
        """Return whether annotations are for another height and width than the image has, a fault.

        Args:
            path: the file of the annotations.
            place: the place in it; '' for the whole file.
            stated: height and width that they are for; None if the file does not say it.
            image: the image.
        """
        if None in stated or stated == (image.height, image.width):
            return False
        detail = (
            f'its annotations are for {stated[0]} x {stated[1]}, but {image.file_name} has {image.height} x '
            f'{image.width}: use the image that was labelled'
        )
        self.fault(path, SIZES_DIFFER, f'{place}: {detail}' if place else detail)
        return True

    def counted(self, path: object, kind: str, counts: Counter[str]) -> None:
        """Add one remark for each text that was counted."""
        for text, number in (+counts).items():
            self.note(path, kind, f'{number} {text}')


def training_first(split: AnnotatedSplit) -> tuple[int, str]:
    """Return a key that sorts splits: training, validation, test, others."""
    order = ('train', 'val', 'test')
    return order.index(split.name) if split.name in order else len(order), split.name


def sorted_classes(data: AnnotatedData, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names of a list that comes with the data, and then those that occur without being in it."""
    found = {thing.category for _, _, thing in data.objects()}
    return (*known, *sorted(found - set(known)))
