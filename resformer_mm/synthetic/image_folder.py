"""Synthetic classification data set: images of single objects in one folder per class."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

from .render import render_image
from .scene import CLASSES, Scene, sample_scene
from .writing import Track, check_at_least, encode_jpeg, untracked, write_once

SPLITS = ('train', 'val')


def classification_scene(seed: int, split: str, index: int) -> tuple[Scene, int]:
    """Return the scene and the label of one image. They depend only on the arguments.

    Args:
        seed: Seed of the data set, not negative.
        split: ``'train'`` or ``'val'``.
        index: Index of the image; labels repeat cyclically, so any ten successive images show all classes.
    """
    label = index % len(CLASSES)
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    return sample_scene(rng, [label]), label


def _image_paths(root: Path, item: tuple[str, int]) -> list[Path]:
    split, index = item
    name = CLASSES[index % len(CLASSES)]
    return [root / split / name / f'{name}_{index:06d}.jpg']


def _write_image(root: Path, seed: int, size: int, item: tuple[str, int]) -> None:
    scene, _ = classification_scene(seed, *item)
    [path] = _image_paths(root, item)
    path.write_bytes(encode_jpeg(render_image(scene, size)))


def write_image_folder(
    root: str | os.PathLike,
    num_train: int = 2000,
    num_val: int = 500,
    seed: int = 0,
    size: int = 128,
    workers: int = 1,
    track: Track = untracked,
) -> bool:
    """Write the classification data set ``ROOT/{train,val}/CLASS/*.jpg``, unless it already exists.

    The files depend only on the settings, not on ``workers`` or on interruptions. Calling again completes an
    unfinished run. ``manifest.json``, written last, records the settings. Nothing is ever deleted.

    Args:
        root: Folder to write; absent, empty, or written by this function with the same settings.
        num_train: Number of training images; labels are balanced.
        num_val: Number of validation images.
        seed: Seed of all randomness.
        size: Height and width in pixels.
        workers: Number of processes. With more than one, the code of the calling script must be guarded by
            ``if __name__ == '__main__':``.
        track: Function of finished images, a title and their number that yields the images and shows how
            many there are, as :func:`resformer_mm.progress.track` does.

    Returns:
        True if the images were written, False if they already existed.

    Raises:
        ValueError: If a number is out of range.
        FolderConflictError: If ``root`` is a file, or contains other files or other settings.
    """
    check_at_least(
        num_train=(num_train, 1), num_val=(num_val, 1), seed=(seed, 0), size=(size, 16), workers=(workers, 1)
    )
    root = Path(root)
    settings = {
        'seed': seed,
        'num_train': num_train,
        'num_val': num_val,
        'size': size,
        'classes': list(CLASSES),
    }
    items = [
        (split, index)
        for split, count in zip(SPLITS, (num_train, num_val), strict=True)
        for index in range(count)
    ]
    folders = [f'{split}/{name}' for split in SPLITS for name in CLASSES]
    write = functools.partial(_write_image, root, seed, size)
    return write_once(root, settings, folders, items, _image_paths, write, workers, track=track)
