"""Synthetic detection data set in COCO's layout, with boxes, polygons and crowd regions."""

from __future__ import annotations

import functools
import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from .render import render_image, render_masks, shares_in_sight
from .scene import CLASSES, Scene, sample_object, sample_scene
from .writing import Track, check_at_least, encode_jpeg, untracked, write_once

DETECTION_SPLITS = ('train2017', 'val2017')

DETECTION_CATEGORIES = {'disc': 1, 'triangle': 3, 'star': 4, 'square': 8, 'cross': 9}
"""Category name, which is the shape of an object -> category id in the annotation files. As in COCO, the ids
have gaps."""

DETECTION_SIZE_RANGE = (0.25, 0.6)
"""Smallest and largest object; see :attr:`Instance.size`."""

MOST_OBJECTS = 3
LONGEST = 1.6
_EMPTY, _CROWDED = 0.06, 0.1  # fraction of the images without an object, and of those with a crowd
_CROWD_COUNT = (5, 9)
_CROWD_SIZE = (0.06, 0.1)
_IN_SIGHT = 0.7  # required visible fraction of every object's area
_TRIES = 20  # after so many attempts, the last scene is used anyway
_SPECK = 4  # parts with fewer pixels are removed
_FINER = 4  # outlines are traced on a grid finer by this factor, along the edges of pixels, not their centres
_FIRST_ID = {'train2017': 1, 'val2017': 1_000_001}
_MOST_ANNOTATIONS = 100  # per image; distance between the first ids of successive images


@dataclass(frozen=True, eq=False)
class DetectionScene:
    """A scene to render, with its crowd.

    Args:
        scene: the scene.
        short_side: the shorter side of the image in pixels.
        crowd: indices of the members of the crowd in ``scene.instances``.
    """

    scene: Scene
    short_side: int
    crowd: range


def detection_scene(seed: int, split: str, index: int, size: int = 128) -> DetectionScene:
    """Return the scene of one image. It depends only on the arguments.

    The scene has one to three objects in front of a cluttered background, in portrait or landscape format.
    Some images also have a crowd, which is many small objects of one class close together, and some contain
    only clutter.

    Args:
        seed: Seed of the data set, not negative.
        split: ``'train2017'`` or ``'val2017'``.
        index: Index of the image; the category of one object repeats cyclically.
        size: Mean shorter side in pixels; the sizes vary from 3/4 to 5/4 of it.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, DETECTION_SPLITS.index(split), index]))
    short_side = int(rng.integers(round(0.75 * size), round(1.25 * size), endpoint=True))
    extent = (math.exp(rng.uniform(0, math.log(LONGEST))), 1.0)
    if rng.uniform() < 0.3:
        extent = extent[::-1]
    labels, is_crowded = [], False
    if rng.uniform() >= _EMPTY:
        shapes = [list(DETECTION_CATEGORIES)[index % len(DETECTION_CATEGORIES)]]
        shapes += rng.choice(list(DETECTION_CATEGORIES), rng.integers(MOST_OBJECTS)).tolist()
        labels = rng.permutation([_any_of_shape(rng, shape) for shape in shapes]).tolist()
        is_crowded = rng.uniform() < _CROWDED
    for _ in range(_TRIES):
        scene, crowd = sample_scene(rng, labels, extent, DETECTION_SIZE_RANGE), range(0)
        if is_crowded:
            scene, crowd = _add_crowd(rng, scene)
        objects = [
            place
            for place, item in enumerate(scene.instances)
            if item.label >= 0 and place not in crowd  # members of a crowd may occlude each other
        ]
        if not objects or shares_in_sight(scene)[objects].min() >= _IN_SIGHT:
            break
    return DetectionScene(scene, short_side, crowd)


def _any_of_shape(rng: np.random.Generator, shape: str) -> int:
    return int(rng.choice([label for label in range(len(CLASSES)) if _shape_of(label) == shape]))


def _shape_of(label: int) -> str:
    return CLASSES[label].partition('_')[0]


def _add_crowd(rng: np.random.Generator, scene: Scene) -> tuple[Scene, range]:
    """Insert small objects of one class between clutter and objects; return the scene and their indices."""
    label = int(rng.integers(len(CLASSES)))
    spread = 0.15
    middle = [rng.uniform(spread, length - spread) for length in scene.extent]
    members = []
    for _ in range(rng.integers(*_CROWD_COUNT, endpoint=True)):
        member = sample_object(rng, label, scene.extent, _CROWD_SIZE)
        offset = rng.uniform(-spread, spread, 2)
        members.append(replace(member, centre=(middle[0] + offset[0], middle[1] + offset[1])))
    start = next(index for index, item in enumerate(scene.instances) if item.label >= 0)
    instances = (*scene.instances[:start], *members, *scene.instances[start:])
    return replace(scene, instances=instances), range(start, start + len(members))


def detection_annotations(picture: DetectionScene, image_id: int) -> tuple[dict, list[dict]]:
    """Return the ``images`` entry of an image and the ``annotations`` entries of its objects, in COCO format.

    An object is annotated by its visible pixels. There is one polygon per part, without holes, along the
    edges of the pixels; box and area are those of these pixels. A crowd is one region, run-length encoded,
    with ``iscrowd`` 1.

    Args:
        picture: The scene of the image.
        image_id: Its id.
    """
    masks = render_masks(picture.scene, picture.short_side) >= 0.5
    height, width = masks.shape[1:]
    image = {'id': image_id, 'file_name': f'{image_id:012d}.jpg', 'height': height, 'width': width}
    found: list[tuple[int, np.ndarray, dict | list]] = []
    if len(picture.crowd):
        together = np.any(masks[list(picture.crowd)], axis=0)
        if together.any():
            label = picture.scene.instances[picture.crowd.start].label
            found.append((label, together, {'size': [height, width], 'counts': run_lengths(together)}))
    for index, item in enumerate(picture.scene.instances):
        if item.label < 0 or index in picture.crowd:
            continue
        polygons, mask = outline_parts(masks[index])
        if polygons:
            found.append((item.label, mask, polygons))
    annotations = [
        {
            'id': image_id * _MOST_ANNOTATIONS + number,
            'image_id': image_id,
            'category_id': DETECTION_CATEGORIES[_shape_of(label)],
            'iscrowd': int(isinstance(segmentation, dict)),
            'bbox': _box(mask),
            'area': int(mask.sum()),
            'segmentation': segmentation,
        }
        for number, (label, mask, segmentation) in enumerate(found)
    ]
    return image, annotations


def outline_parts(mask: np.ndarray) -> tuple[list[list[float]], np.ndarray]:
    """Return polygons ``[x1, y1, x2, y2, ...]`` around the parts of a mask, and the mask that they enclose.

    Holes are filled, and specks are removed.

    Args:
        mask: ``(H, W)`` bool.
    """
    filled = np.zeros(mask.shape, np.uint8)
    for contour in cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
        part = cv2.drawContours(np.zeros_like(filled), [contour], -1, 1, cv2.FILLED)
        if part.sum() >= _SPECK:
            filled |= part
    fine: np.ndarray = np.kron(filled, np.ones((_FINER, _FINER), np.uint8))
    contours = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return [((points + 0.5) / _FINER).ravel().tolist() for points in contours], filled.astype(bool)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return COCO's run-length code of a mask: lengths of runs of zeros, ones, zeros, ..., by column.

    Args:
        mask: ``(H, W)`` bool.
    """
    pixels = mask.T.ravel()
    ends = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff(np.concatenate([[0], ends, [pixels.size]])).tolist()
    return [0, *runs] if pixels[0] else runs


def _box(mask: np.ndarray) -> list[int]:
    """Return ``[x, y, width, height]`` of the pixels of a mask."""
    (top, bottom), (left, right) = (np.flatnonzero(mask.any(axis=axis))[[0, -1]].tolist() for axis in (1, 0))
    return [left, top, right - left + 1, bottom - top + 1]


def _paths(root: Path, item: tuple[str, int | None]) -> list[Path]:
    split, index = item
    if index is None:
        return [root / 'annotations' / f'instances_{split}.json']
    return [root / split / f'{_FIRST_ID[split] + index:012d}.jpg']


def _write(root: Path, seed: int, size: int, counts: dict[str, int], item: tuple[str, int | None]) -> None:
    """Write one image, or the annotation file of a split."""
    split, index = item
    [path] = _paths(root, item)
    if index is not None:
        picture = detection_scene(seed, split, index, size)
        path.write_bytes(encode_jpeg(render_image(picture.scene, picture.short_side)))
        return
    content: dict[str, list] = {'images': [], 'annotations': [], 'categories': []}
    for number in range(counts[split]):
        picture = detection_scene(seed, split, number, size)
        image, annotations = detection_annotations(picture, _FIRST_ID[split] + number)
        content['images'].append(image)
        content['annotations'] += annotations
    content['categories'] = [{'id': number, 'name': name} for name, number in DETECTION_CATEGORIES.items()]
    path.write_text(json.dumps(content))


def write_detection(
    root: str | os.PathLike,
    num_train: int = 800,
    num_val: int = 100,
    seed: int = 0,
    size: int = 128,
    workers: int = 1,
    track: Track = untracked,
) -> bool:
    """Write the detection data set, unless it already exists.

    Creates ``ROOT/{train2017,val2017}/*.jpg`` and ``ROOT/annotations/instances_{train2017,val2017}.json``.
    The objects are those of :func:`write_image_folder`; their category is their shape alone, regardless of
    their texture. Arguments, result and errors are those of :func:`write_segmentation`. As there, the files
    depend only on the settings, calling again completes an unfinished run, and nothing is ever deleted.
    """
    check_at_least(
        num_train=(num_train, 1), num_val=(num_val, 1), seed=(seed, 0), size=(size, 32), workers=(workers, 1)
    )
    root = Path(root)
    counts = dict(zip(DETECTION_SPLITS, (num_train, num_val), strict=True))
    settings = {
        'task': 'detection',
        'seed': seed,
        'num_train': num_train,
        'num_val': num_val,
        'size': size,
        'classes': list(DETECTION_CATEGORIES),
    }
    # The annotation files take longest, so they come first.
    items: list[tuple[str, int | None]] = [(split, None) for split in DETECTION_SPLITS]
    items += [(split, index) for split, count in counts.items() for index in range(count)]
    write = functools.partial(_write, root, seed, size, counts)
    return write_once(
        root, settings, ('annotations', *DETECTION_SPLITS), items, _paths, write, workers, track=track
    )
