"""Writes pictures of single objects as an image folder: ``ROOT/{train,val}/CLASS/*.jpg``."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

from .render import render_image
from .scene import CLASSES, Scene, sample_scene
from .writing import check_at_least, encode_jpeg, write_once

SPLITS = ('train', 'val')


def classification_scene(seed: int, split: str, index: int) -> tuple[Scene, int]:
    """The scene and the label of one picture; it depends on nothing but the arguments.

    Args:
        seed: Seed of the data set, not negative.
        split: ``'train'`` or ``'val'``.
        index: Number of the picture; labels take turns, so that every ten pictures have all.
    """
    label = index % len(CLASSES)
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    return sample_scene(rng, [label]), label


def _picture_paths(root: Path, picture: tuple[str, int]) -> list[Path]:
    split, index = picture
    name = CLASSES[index % len(CLASSES)]
    return [root / split / name / f'{name}_{index:06d}.jpg']


def _write_picture(root: Path, seed: int, size: int, picture: tuple[str, int]) -> None:
    scene, _ = classification_scene(seed, *picture)
    [path] = _picture_paths(root, picture)
    path.write_bytes(encode_jpeg(render_image(scene, size)))


def write_image_folder(
    root: str | os.PathLike,
    num_train: int = 2000,
    num_val: int = 500,
    seed: int = 0,
    size: int = 128,
    workers: int = 1,
) -> bool:
    """Writes the classification data set, unless it is there already.

    The files depend on the settings alone, not on ``workers`` nor on an interruption:
    an unfinished run is completed by calling again. ``manifest.json``, written last, records the
    settings. Nothing is ever deleted.

    Args:
        root: Folder to write; absent, empty, or written by this function with the same settings.
        num_train: Number of training pictures; labels are balanced.
        num_val: Number of validation pictures.
        seed: Seed of all randomness.
        size: Height and width in pixels.
        workers: Number of processes. More than one needs a calling script whose own work stands
            under ``if __name__ == '__main__':``.

    Returns:
        True if the pictures were written, False if they were there.

    Raises:
        ValueError: If a number is out of range.
        FolderConflictError: If ``root`` is a file, or holds anything else or other settings.
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
    pictures = [
        (split, index)
        for split, count in zip(SPLITS, (num_train, num_val), strict=True)
        for index in range(count)
    ]
    folders = [f'{split}/{name}' for split in SPLITS for name in CLASSES]
    write = functools.partial(_write_picture, root, seed, size)
    return write_once(root, settings, folders, pictures, _picture_paths, write, workers)
