"""Boxes and masks of objects: corners, outlines, run-length codes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from resformer_mm.tasks.detection.masks import BROKEN_PART, mask_problem

from .annotated import AnnotatedImage, AnnotatedObject, Box, Mask

Points = Sequence[tuple[float, float]]


def box_around(points: Points) -> Box:
    """Return the box around points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def box_of_corners(x1: float, y1: float, x2: float, y2: float) -> Box:
    """Return the box of two opposite corners, in any order."""
    return box_around([(x1, y1), (x2, y2)])


def box_of_mask(mask: Mask) -> Box | None:
    """Return the box around a mask; None without one."""
    if isinstance(mask, dict):
        x, y, width, height = coco_mask.toBbox(compressed(mask)).tolist()
        return x, y, width, height
    return box_around([point for polygon in mask for point in points_of(polygon)]) if mask else None


def rotated(box: Box, degrees: float, around_centre: bool) -> list[tuple[float, float]]:
    """Return the corners of a box that is turned clockwise.

    Args:
        box: the box before the rotation.
        degrees: the angle.
        around_centre: turn it around its centre, else around its upper left corner.
    """
    x, y, width, height = box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    fixed = (x + width / 2, y + height / 2) if around_centre else (x, y)
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    away = [(u - fixed[0], v - fixed[1]) for u, v in corners]
    return [(fixed[0] + u * cosine - v * sine, fixed[1] + u * sine + v * cosine) for u, v in away]


def points_of(polygon: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points of ``[x1, y1, x2, y2, ...]``."""
    return list(zip(polygon[::2], polygon[1::2]))


def flat(points: Points) -> list[float]:
    """Return ``[x1, y1, x2, y2, ...]`` of points."""
    return [coordinate for point in points for coordinate in point]


def compressed(code: dict[str, Any]) -> dict[str, Any]:
    """Return a run-length code in the form that pycocotools computes with."""
    counts = code['counts']
    return coco_mask.frPyObjects(code, *code['size']) if isinstance(counts, list) else code


def is_empty(mask: Mask) -> bool:
    """Whether a run-length code has no pixel."""
    return isinstance(mask, dict) and not coco_mask.area(compressed(mask))


def encode(pixels: np.ndarray) -> dict[str, Any]:
    """Return the run-length code of a mask ``(H, W)``."""
    code = coco_mask.encode(np.asfortranarray(pixels, np.uint8))
    return {'size': list(code['size']), 'counts': code['counts'].decode()}


def decode(mask: Mask, height: int, width: int) -> np.ndarray:
    """Return the pixels ``(H, W)`` uint8 of polygons or a run-length code.

    Raises:
        ValueError: it is neither, or its outline is so long that it would fill the memory.
    """
    if (problem := mask_problem(mask, height, width)) is not None and problem[0] != BROKEN_PART:
        raise ValueError(problem[1])
    if isinstance(mask, dict):
        return coco_mask.decode(compressed(mask))
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(mask, height, width)))


def runs_of(pixels: np.ndarray) -> list[int]:
    """Return the lengths of the runs of 0 and 1 in turn, row by row, beginning with 0."""
    values = pixels.ravel()
    changes = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff([0, *changes, values.size]).tolist()
    return [0, *runs] if values.size and values[0] else runs


def pixels_of_runs(runs: Sequence[int], height: int, width: int) -> np.ndarray:
    """Return the pixels ``(H, W)`` uint8 of runs of 0 and 1 in turn, row by row; what is missing is 0.

    Raises:
        ValueError: a run is negative, or they cover more than the pixels.
    """
    if any(run < 0 for run in runs) or sum(runs) > height * width:
        raise ValueError(f'its runs cover {sum(runs)} pixels, but the mask is {height} x {width}')
    values = np.zeros(height * width, np.uint8)
    ends = np.cumsum(runs)
    for start, end in zip(ends[::2], ends[1::2]):
        values[start:end] = 1
    return values.reshape(height, width)


def outlines(pixels: np.ndarray) -> list[list[float]]:
    """Return the outlines of a mask ``(H, W)`` along the edges of pixels, those of holes anticlockwise."""
    mask = np.pad(pixels > 0, 1)
    ends: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    # Neighbour that is outside -> where the edge begins and ends, so that the mask lies to the right of it.
    for (down, across), begin, end in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((0, -1), (0, 1), (0, 0)),
    ):
        ys, xs = np.nonzero(mask & ~np.roll(mask, (-down, -across), (0, 1)))
        for x, y in zip((xs - 1).tolist(), (ys - 1).tolist()):
            ends[x + begin[0], y + begin[1]].append((x + end[0], y + end[1]))
    found = []
    while ends:
        start = point = next(iter(ends))
        loop: list[tuple[int, int]] = []
        while not loop or point != start:
            loop.append(point)
            following = ends[point].pop()
            if not ends[point]:
                del ends[point]
            point = following
        found.append(flat(_corners(loop)))
    return found


def _corners(loop: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    """Return the points of a loop of steps where it turns."""
    around = zip(loop, [*loop[1:], *loop[:1]], [*loop[-1:], *loop[:-1]])
    return [
        (x, y) for (x, y), after, before in around if not (before[0] == after[0] or before[1] == after[1])
    ]


def joined(polygons: Sequence[Sequence[float]]) -> list[float]:
    """Return one polygon of several, connected by lines that run forth and back."""
    parts = [points_of(polygon) for polygon in polygons]
    first = parts[0][0]
    points = [*parts[0], first]
    for part in parts[1:]:
        points += [*part, part[0], first]
    return flat(points if len(parts) > 1 else parts[0])


def clockwise(polygon: Sequence[float]) -> list[float]:
    """Return a polygon whose points run clockwise in the image."""
    points = points_of(polygon)
    twice = sum(x * v - u * y for (x, y), (u, v) in zip(points, [*points[1:], *points[:1]]))
    return flat(points if twice >= 0 else points[::-1])


def merged(first: AnnotatedObject, other: AnnotatedObject, image: AnnotatedImage) -> AnnotatedObject:
    """Return the first object with the box and the mask of both; polygons stay polygons.

    Raises:
        ValueError: see :func:`decode`.
    """
    masks = [thing.mask for thing in (first, other) if thing.mask]
    corners = [(x, y) for x, y, _, _ in (first.box, other.box)]
    corners += [(x + width, y + height) for x, y, width, height in (first.box, other.box)]
    mask: Mask = masks[0] if masks else None
    if len(masks) == 2:
        if all(isinstance(part, list) for part in masks):
            mask = [*masks[0], *masks[1]]
        else:
            mask = encode(np.maximum(*(decode(part, image.height, image.width) for part in masks)))
    return replace(first, box=box_around(corners), mask=mask)


def has_other_box(box: Box, mask: Mask) -> bool:
    """Whether a box differs from that around its mask by more than a pixel."""
    around = box_of_mask(mask)
    return around is not None and max(abs(a - b) for a, b in zip(box, around)) > 1
