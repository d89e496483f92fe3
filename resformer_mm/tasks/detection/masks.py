"""Validation of masks in COCO format: polygons and run-length codes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

NO_MASK = 'no mask'
BROKEN_POLYGON = 'broken polygons'
BROKEN_PART = 'broken polygon among others'
NO_POLYGONS = 'unsupported mask format'
BROKEN_RLE = 'broken run-length code'
TOO_LONG = 'outline too long'

LONGEST_OUTLINE = 2**24
"""Pixels along all polygons of an object. pycocotools takes 40 bytes for each, and counts them in 32 bits."""
_MOST_SHIFT = 60  # a longer number in a run-length code is more than any image has

UNMASKED = (NO_MASK, BROKEN_POLYGON)
"""Kinds of objects that mmdetection ignores when it trains on masks."""


def mask_problem(segmentation: Any, height: int, width: int) -> tuple[str, str] | None:
    """Return kind and details of the problem with the mask of an object; None if it is valid.

    Args:
        segmentation: list of polygons ``[x1, y1, x2, y2, ...]``, or ``{'size': ..., 'counts': ...}``.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    if not segmentation:
        return NO_MASK, 'it has no segmentation'
    if isinstance(segmentation, Mapping):
        problem = _code_problem(segmentation, height, width)
        return None if problem is None else (BROKEN_RLE, problem)
    points = segmentation if isinstance(segmentation, list) else [None]
    sums = [total for total in map(_absolute_sum, points) if total is not None]
    if len(sums) < len(points):
        return NO_POLYGONS, f'{str(segmentation)[:60]} is neither polygons nor a run-length code'
    # The sum is a bound that takes little time.
    length = sum(map(_outline, segmentation)) if 2 * sum(sums) > LONGEST_OUTLINE else 0
    if length > LONGEST_OUTLINE:
        return (
            TOO_LONG,
            f'its polygons have {length:.3g} pixels along their lines, the limit is {LONGEST_OUTLINE}',
        )
    bad = [polygon for polygon in segmentation if len(polygon) < 6 or len(polygon) % 2]
    if not bad:
        return None
    return (
        BROKEN_POLYGON if len(bad) == len(segmentation) else BROKEN_PART,
        f'{len(bad)} of {len(segmentation)} polygons, such as {str(bad[0])[:60]}: a polygon needs x and y of '
        'at least 3 points',
    )


def _outline(points: Sequence[float]) -> float:
    """Return the pixels along a polygon ``[x1, y1, x2, y2, ...]``, as pycocotools draws it."""
    xs, ys = points[::2], points[1::2]
    around = zip(xs, ys, [*xs[1:], *xs[:1]], [*ys[1:], *ys[:1]])
    return sum(max(abs(x - u), abs(y - v)) for x, y, u, v in around)


def _absolute_sum(points: Any) -> float | None:
    """Return the sum of the absolute values of a list of finite numbers; None if it is not one."""
    try:
        # COCO has millions of points, and math.fsum runs at C speed.
        total = math.fsum(map(abs, points)) if isinstance(points, list) else math.nan
    except (TypeError, ValueError, OverflowError):
        return None
    return total if math.isfinite(total) else None


def _code_problem(code: Mapping, height: int, width: int) -> str | None:
    """Return the problem with a run-length code; None if it is valid."""
    size, counts = code.get('size'), code.get('counts')
    if size != [height, width]:
        return f'its size is {size}, but the image is {height} x {width}'
    if isinstance(counts, str):
        try:
            counts = run_lengths_of(counts)
        except ValueError as error:
            return str(error)
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        return 'its counts are not run lengths'
    if sum(counts) != height * width:
        return f'its runs cover {sum(counts)} pixels, but the image has {height * width}'
    return None


def run_lengths_of(text: str) -> list[int]:
    """Return the run lengths in a compressed code: 5 bits per character, differences from the third run on.

    For a code that is too short, pycocotools returns uninitialised memory, so its length must be checked.

    Raises:
        ValueError: a character is invalid, or the last number is truncated.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f'its counts contain the invalid character {character!r}')
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            if shift > _MOST_SHIFT:
                raise ValueError('its counts contain a number that is too large')
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError('its counts are truncated')
    return runs
