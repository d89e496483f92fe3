"""Synthetic segmentation data set in ADE20K's layout."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

import numpy as np

from .render import render_image, render_masks, shares_in_sight
from .scene import CLASSES, Scene, sample_scene
from .writing import Track, check_at_least, encode_jpeg, encode_png, untracked, write_once

SEGMENTATION_SPLITS = ('training', 'validation')

SEGMENTATION_CLASSES = ('background', *CLASSES)
"""Class names; a label is an index into this tuple, and the mask value is the label plus one."""

UNLABELLED = 0
"""Mask value of border pixels, which no label fills."""

SEGMENTATION_SIZE_RANGE = (0.24, 0.64)
"""Smallest and largest object, smaller than in images of single objects; see :attr:`Instance.size`."""

MOST_OBJECTS = 4
LONGEST = 1.6
_PURE = 0.9  # fraction of a pixel that a label must fill
_IN_SIGHT = 0.35  # required visible fraction of every object's area
_TRIES = 20  # after so many attempts, the last scene is used anyway


def segmentation_scene(seed: int, split: str, index: int, size: int = 128) -> tuple[Scene, int]:
    """Return the scene of one image and its shorter side in pixels. They depend only on the arguments.

    The scene has one to four objects of different classes in front of a cluttered background, in portrait or
    landscape format.

    Args:
        seed: Seed of the data set, not negative.
        split: ``'training'`` or ``'validation'``.
        index: Index of the image; the class of one object repeats cyclically, so any ten successive images
            show all classes.
        size: Mean shorter side in pixels; the sizes vary from 3/4 to 5/4 of it.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, SEGMENTATION_SPLITS.index(split), index]))
    short_side = int(rng.integers(round(0.75 * size), round(1.25 * size), endpoint=True))
    extent = (math.exp(rng.uniform(0, math.log(LONGEST))), 1.0)
    if rng.uniform() < 0.3:
        extent = extent[::-1]
    others = [label for label in range(len(CLASSES)) if label != index % len(CLASSES)]
    chosen = rng.choice(others, rng.integers(MOST_OBJECTS), replace=False).tolist()
    labels = rng.permutation([index % len(CLASSES), *chosen]).tolist()
    for _ in range(_TRIES):
        scene = sample_scene(rng, labels, extent, SEGMENTATION_SIZE_RANGE)
        if _in_sight(scene) >= _IN_SIGHT:
            break
    return scene, short_side


def _in_sight(scene: Scene) -> float:
    """Return the smallest visible fraction of an object's area."""
    shares = shares_in_sight(scene)
    return min(share for share, item in zip(shares, scene.instances, strict=True) if item.label >= 0)


def render_labels(scene: Scene, size: int) -> np.ndarray:
    """Render the mask of a scene.

    Args:
        scene: The scene.
        size: Shorter side in pixels.

    Returns:
        (H, W) uint8: 1 for the background, which includes clutter, 2 to 11 for the classes in the order of
        ``CLASSES``, and 0 for pixels on a border.

    Raises:
        ValueError: If the size is not positive.
    """
    masks = render_masks(scene, size)
    shares = np.zeros((len(SEGMENTATION_CLASSES), *masks.shape[1:]), np.float32)
    for item, mask in zip(scene.instances, masks, strict=True):
        if item.label >= 0:
            shares[item.label + 1] += mask
    shares[0] = 1 - shares.sum(axis=0)
    labels = shares.argmax(axis=0) + 1
    return np.where(shares.max(axis=0) >= _PURE, labels, UNLABELLED).astype(np.uint8)


def _pair_paths(root: Path, pair: tuple[str, int]) -> list[Path]:
    split, index = pair
    name = f'{split}_{index:06d}'
    return [root / 'images' / split / f'{name}.jpg', root / 'annotations' / split / f'{name}.png']


def _write_pair(root: Path, seed: int, size: int, pair: tuple[str, int]) -> None:
    scene, short_side = segmentation_scene(seed, *pair, size)
    image, mask = _pair_paths(root, pair)
    image.write_bytes(encode_jpeg(render_image(scene, short_side)))
    mask.write_bytes(encode_png(render_labels(scene, short_side)))


def write_segmentation(
    root: str | os.PathLike,
    num_train: int = 400,
    num_val: int = 100,
    seed: int = 0,
    size: int = 128,
    workers: int = 1,
    track: Track = untracked,
) -> bool:
    """Write the segmentation data set, unless it already exists.

    Creates ``ROOT/images/{training,validation}/*.jpg``, their masks
    ``ROOT/annotations/{training,validation}/*.png`` and ``ROOT/classes.txt``, whose lines name the mask
    values from 0. The classes after ``background`` are those of :func:`write_image_folder`. As there, the
    files depend only on the settings, calling again completes an unfinished run, and nothing is ever deleted.

    Args:
        root: Folder to write; absent, empty, or written by this function with the same settings.
        num_train: Number of training images.
        num_val: Number of validation images.
        seed: Seed of all randomness.
        size: Mean shorter side in pixels; the sizes vary from 3/4 to 5/4 of it.
        workers: Number of processes. With more than one, the code of the calling script must be guarded by
            ``if __name__ == '__main__':``.
        track: See :func:`write_image_folder`.

    Returns:
        True if the images were written, False if they already existed.

    Raises:
        ValueError: If a number is out of range.
        FolderConflictError: If ``root`` is a file, or contains other files or other settings.
    """
    check_at_least(
        num_train=(num_train, 1), num_val=(num_val, 1), seed=(seed, 0), size=(size, 32), workers=(workers, 1)
    )
    root = Path(root)
    settings = {
        'task': 'segmentation',
        'seed': seed,
        'num_train': num_train,
        'num_val': num_val,
        'size': size,
        'classes': list(SEGMENTATION_CLASSES),
    }
    pairs = [
        (split, index)
        for split, count in zip(SEGMENTATION_SPLITS, (num_train, num_val), strict=True)
        for index in range(count)
    ]
    folders = [f'{kind}/{split}' for kind in ('images', 'annotations') for split in SEGMENTATION_SPLITS]
    write = functools.partial(_write_pair, root, seed, size)
    names = ('unlabelled', *SEGMENTATION_CLASSES)
    texts = {'classes.txt': ''.join(f'{name}\n' for name in names)}
    return write_once(root, settings, folders, pairs, _pair_paths, write, workers, texts, track=track)
