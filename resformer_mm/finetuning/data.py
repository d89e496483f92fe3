"""What a fine-tuning has to know of its data, whatever the task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from resformer_mm.formats.labelled_files import LabelledFiles

# Images whose headers are read for their sizes.
MOST_SIZES = 500


@dataclass
class FinetuningData:
    """Data of a task with a training and a validation split.

    Attributes:
        task: name of the task.
        root: folder that relative paths in the settings start from.
        classes: names of the classes.
        train: settings of the data set to train on, without the pipeline.
        val: settings of the data set to validate on.
        num_train: number of training samples.
        num_val: number of validation samples.
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


def pick_splits(names: Iterable[str]) -> tuple[int | None, int | None]:
    """Return the places of the names of training and validation; test data is the second choice."""
    lowered = [name.lower() for name in names]

    def find(*words: str) -> int | None:
        return next((place for word in words for place, name in enumerate(lowered) if word in name), None)

    return find('train'), find('val', 'test')
