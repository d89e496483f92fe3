"""What a fine-tuning has to know of its data, whatever the task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from resformer_mm.datasets.labelled_files import LabelledFiles
from resformer_mm.text import shorten_list

# Images whose headers are read for their sizes.
MOST_SIZES = 500


@dataclass
class FinetuningData:
    """Data of a task with a training and a validation split, and perhaps a test split.

    Attributes:
        task: name of the task.
        root: folder that relative paths in the settings start from.
        classes: names of the classes.
        train: settings of the data set to train on, without the pipeline.
        val: settings of the data set to validate on.
        num_train: number of training samples.
        num_val: number of validation samples.
        test: settings of the data set for the evaluation after the training; None takes the validation.
        num_test: number of its samples.
        sizes: ``(height, width)`` of training images, or of some of them, in pixels.
        fewest: number of training samples of the rarest class.
        has_masks: whether detected objects have masks.
        notes: what was found and decided, one line each.
    """

    task: str
    root: str
    classes: tuple[str, ...]
    train: dict[str, Any]
    val: dict[str, Any]
    num_train: int
    num_val: int
    sizes: list[tuple[int, int]]
    fewest: int
    test: dict[str, Any] | None = None
    num_test: int = 0
    has_masks: bool = False
    notes: list[str] = field(default_factory=list)


def image_sizes(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Return height and width of images, evenly chosen if there are many, as they are displayed."""
    chosen = paths[:: max(1, -(-len(paths) // MOST_SIZES))]
    return [_displayed_size(path) for path in chosen]


def _displayed_size(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        width, height = image.size
        is_turned = image.getexif().get(0x0112, 1) >= 5
    return (width, height) if is_turned else (height, width)


def write_labelled(files: LabelledFiles, classes: Sequence[str], path: Path) -> Path:
    """Write a list of files with the numbers of their classes; return its path."""
    numbers = {name: number for number, name in enumerate(classes)}
    lines = [f'{Path(file).as_posix()} {numbers[name]}\n' for file, name in files.files]
    path.write_text(''.join(lines), encoding='utf-8')
    return path


@dataclass(frozen=True)
class Roles:
    """Which splits train, validate and test, as places in a list.

    Attributes:
        train: the split to train on.
        val: the split that validates; None holds back a part of the training split.
        test: the split for the evaluation after the training; None takes the validation.
        notes: what else there is to say, one line each.
    """

    train: int
    val: int | None
    test: int | None
    notes: tuple[str, ...]


def assign_roles(names: Sequence[str]) -> Roles:
    """Decide by their names what splits are for.

    Without a validation split, the test split validates. Without a training split, the validation split is
    trained on, and the test split stays one.

    Args:
        names: names of files, folders or splits; the last word that names a split counts.
    """
    kinds = [split_kind(name) for name in names]
    places = {kind: kinds.index(kind) for kind in dict.fromkeys(kinds)}
    train, val, test = (places.get(kind) for kind in ('train', 'val', 'test'))
    notes = []
    if train is None:
        train = places.get('')
    if train is not None and val is None:
        val, test = test, None
    elif train is None and val is not None:
        train, val = val, None
        notes.append(f'there is no training split: {names[train]} is divided')
    elif train is None:
        train, test = places['test'], None
    if test is not None:
        notes.append(f'evaluation after the training: {names[test]}')
    if unused := [name for place, name in enumerate(names) if place not in (train, val, test)]:
        notes.append(f'not used, since another split has this part: {shorten_list(unused)}')
    return Roles(train, val, test, tuple(notes))


def split_kind(name: str) -> str:
    """Return 'train', 'val' or 'test' by the last word of a name that says so, or '' for other names."""
    words = re.findall('[a-z]+', name.lower())
    kinds = (kind for word in reversed(words) for kind in ('train', 'val', 'test') if word.startswith(kind))
    return next(kinds, '')
