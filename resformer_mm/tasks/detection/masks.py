"""Masks in COCO's format: polygons and run-length codes, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NO_MASK = 'no mask'
BROKEN_POLYGON = 'broken polygons'
BROKEN_PART = 'broken polygon among others'
NO_POLYGONS = 'mask of another format'
BROKEN_RLE = 'broken run-length code'

UNMASKED = (NO_MASK, BROKEN_POLYGON)
"""Kinds of objects that mmdetection ignores where masks are trained on."""


def mask_problem(segmentation: Any, height: int, width: int) -> tuple[str, str] | None:
    """Return kind and particulars of what is wrong with the mask of an object; None if nothing is.

    Args:
        segmentation: list of polygons ``[x1, y1, x2, y2, ...]``, or ``{'size': ..., 'counts': ...}``.
        height: of the image in pixels.
        width: of the image in pixels.
    """
    if not segmentation:
        return NO_MASK, 'it has no segmentation'
    if isinstance(segmentation, Mapping):
        problem = _code_problem(segmentation, height, width)
        return None if problem is None else (BROKEN_RLE, problem)
    if not isinstance(segmentation, list) or not all(map(_are_numbers, segmentation)):
        return NO_POLYGONS, f'{str(segmentation)[:60]} is neither polygons nor a run-length code'
    bad = [polygon for polygon in segmentation if len(polygon) < 6 or len(polygon) % 2]
    if not bad:
        return None
    return (
        BROKEN_POLYGON if len(bad) == len(segmentation) else BROKEN_PART,
        f'{len(bad)} of {len(segmentation)} polygons, such as {str(bad[0])[:60]}: numbers x, y of at least '
        '3 points are needed',
    )


def _are_numbers(points: Any) -> bool:
    try:
        # COCO has millions of points: a sum takes C's time.
        return isinstance(points, list) and math.isfinite(math.fsum(points))
    except (TypeError, ValueError, OverflowError):
        return False


def _code_problem(code: Mapping, height: int, width: int) -> str | None:
    """Return what is wrong with a run-length code; None if nothing is."""
    size, counts = code.get('size'), code.get('counts')
    if size != [height, width]:
        return f'its size is {size}, the image is {height} x {width}'
    if isinstance(counts, str):
        try:
            counts = run_lengths_of(counts)
        except ValueError as error:
            return str(error)
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        return 'its counts are no run lengths'
    if sum(counts) != height * width:
        return f'its runs cover {sum(counts)} pixels, the image has {height * width}'
    return None


def run_lengths_of(text: str) -> list[int]:
    """Return the run lengths in a compressed code: 5 bits a character, differences from the third on.

    pycocotools decodes a code that is too short to whatever lies in memory, so that it has to be measured.

    Raises:
        ValueError: a character is none of such a code, or the last number is cut off.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f'its counts have a character {character!r}')
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError('its counts are cut off')
    return runs
