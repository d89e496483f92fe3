"""Writes pictures of single objects as an image folder: ``ROOT/{train,val}/CLASS/*.jpg``."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from .render import render_image
from .scene import CLASSES, Scene, sample_scene

GENERATOR_VERSION = 1
"""To be raised by every change that alters the pictures of a seed."""

SPLITS = ('train', 'val')

_MANIFEST = 'manifest.json'
_UNFINISHED = 'manifest.unfinished.json'
_JPEG_QUALITY = 95


class FolderConflictError(RuntimeError):
    """The target folder holds something else than what was asked for."""


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


def _picture_path(root: Path, split: str, index: int) -> Path:
    name = CLASSES[index % len(CLASSES)]
    return root / split / name / f'{name}_{index:06d}.jpg'


def _write_picture(root: Path, seed: int, size: int, picture: tuple[str, int]) -> None:
    split, index = picture
    scene, _ = classification_scene(seed, split, index)
    image = cv2.cvtColor(render_image(scene, size), cv2.COLOR_RGB2BGR)
    # Chroma in full resolution: texture may consist of colour alone.
    options = [
        cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    encoded, data = cv2.imencode('.jpg', image, options)
    if not encoded:
        raise RuntimeError('this OpenCV cannot write JPEG; install a build that can')
    _picture_path(root, split, index).write_bytes(data.tobytes())


def _read_settings(path: Path) -> dict | None:
    """The settings in a manifest; None where there is none that can be read."""
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return settings if isinstance(settings, dict) else None


def _check_counts(num_train: int, num_val: int, seed: int, size: int, workers: int) -> None:
    for name, value, least in (
        ('num_train', num_train, 1),
        ('num_val', num_val, 1),
        ('seed', seed, 0),
        ('size', size, 16),
        ('workers', workers, 1),
    ):
        if value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')


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
    _check_counts(num_train, num_val, seed, size, workers)
    root = Path(root)
    settings = {
        'generator': 'resformer_mm.datasets.synthetic',
        'version': GENERATOR_VERSION,
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
    remedy = 'choose another folder, or remove this one if nothing in it is needed'
    if root.exists() and not root.is_dir():
        raise FolderConflictError(f'{root} is a file, not a folder: {remedy}')
    if root.is_dir() and any(root.iterdir()):
        finished = _read_settings(root / _MANIFEST)
        found = finished or _read_settings(root / _UNFINISHED)
        if found is None:
            raise FolderConflictError(f'{root} is not empty and was not written by this generator: {remedy}')
        if found != settings:
            differing = sorted(
                key for key in settings.keys() | found.keys() if settings.get(key) != found.get(key)
            )
            changes = ', '.join(f'{k} {found.get(k)} not {settings.get(k)}' for k in differing)
            raise FolderConflictError(f'{root} holds a data set of other settings ({changes}): {remedy}')
        if finished and all(_picture_path(root, *picture).is_file() for picture in pictures):
            return False

    for split in SPLITS:
        for name in CLASSES:
            (root / split / name).mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=2) + '\n'
    (root / _UNFINISHED).write_text(text)
    write = functools.partial(_write_picture, root, seed, size)
    if workers == 1:
        for picture in pictures:
            write(picture)
    else:
        # Fresh interpreters: a fork of a process with running threads (PyTorch's) may hang.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for _ in pool.map(write, pictures, chunksize=16):
                pass
    os.replace(root / _UNFINISHED, root / _MANIFEST)
    return True
