"""Grids of overlapping slices that cover an image, and their weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

DEFAULT_OVERLAP = 0.2
_MOST_OVERLAP = 0.9

Span = tuple[int, int]


class Region(NamedTuple):
    """A rectangle of an image in pixels; ``right`` and ``bottom`` are not part of it."""

    left: int
    top: int
    right: int
    bottom: int


def check_slices(size: int, overlap: float, patch_size: int | None) -> None:
    """Check the side and the overlap of slices.

    Raises:
        ValueError: the side is not an integer of at least one patch, or the overlap is not from 0 to 0.9.
    """
    smallest = patch_size or 1
    if isinstance(size, bool) or not isinstance(size, int) or size < smallest:
        raise ValueError(
            f'slice={size!r} must be an integer of at least {smallest}, the side of a patch, in pixels'
        )
    if not 0 <= overlap <= _MOST_OVERLAP:  # also refuses NaN
        raise ValueError(
            f'overlap={overlap!r} must be from 0 to {_MOST_OVERLAP}: the part of a slice that the next shows'
        )


def spans(length: int, size: int, overlap: float) -> list[Span]:
    """Return the start and stop of slices along one side of an image.

    All have the same length: ``size``, or that of the side if it is shorter. They are as few as cover the
    side with this overlap, at even distances from border to border. If only the last one moved back, it might
    overlap its neighbour almost completely, and the scores of the overlap would take that much memory.

    Args:
        length: side of the image in pixels.
        size: side of a slice in pixels.
        overlap: the least part of a slice that the next one also covers.
    """
    size = min(size, length)
    room, stride = length - size, max(1, round(size * (1 - overlap)))
    gaps = -(-room // stride)
    starts = [room * number // max(1, gaps) for number in range(gaps + 1)]
    return [(start, start + size) for start in starts]


def span_weights(covering: list[Span], length: int) -> list[np.ndarray]:
    """Return the weight of every pixel of every span along one side, float32; they sum to 1 at every pixel.

    A weight is proportional to the distance from the nearest end of the span that is not an end of the image:
    scores are the worse, the less a model sees around a pixel, and the transition has no step. Where only one
    span covers a pixel, its weight is exactly 1.
    """
    weights, total = [], np.zeros(length)
    for start, stop in covering:
        centres = np.arange(start, stop) + 0.5
        left = centres - start if start > 0 else np.inf
        right = stop - centres if stop < length else np.inf
        nearest = np.minimum(left, right) * np.ones(stop - start)
        weight = np.where(np.isinf(nearest), 1.0, nearest)
        total[start:stop] += weight
        weights.append(weight)
    return [
        (weight / total[start:stop]).astype(np.float32) for weight, (start, stop) in zip(weights, covering)
    ]


@dataclass(frozen=True)
class SliceGrid:
    """Slices of one size that cover every pixel of an image.

    Attributes:
        height: of the image in pixels.
        width: of the image in pixels.
        size: side of a slice in pixels. A slice is not larger than the image.
        overlap: the least part of a slice that the next one also covers.
    """

    height: int
    width: int
    size: int
    overlap: float

    @cached_property
    def rows(self) -> list[Span]:
        """Start and stop of the slices from top to bottom."""
        return spans(self.height, self.size, self.overlap)

    @cached_property
    def columns(self) -> list[Span]:
        """Start and stop of the slices from left to right."""
        return spans(self.width, self.size, self.overlap)

    @cached_property
    def regions(self) -> list[Region]:
        """The slices, band after band; bands run along the short side, because open bands take memory."""
        if self.width <= self.height:
            return [Region(x, y, right, bottom) for y, bottom in self.rows for x, right in self.columns]
        return [Region(x, y, right, bottom) for x, right in self.columns for y, bottom in self.rows]

    @property
    def is_single(self) -> bool:
        """Whether one slice covers the image."""
        return len(self.rows) == len(self.columns) == 1


class SliceMerger(ABC):
    """The predictions on the slices of an image, merged into one.

    Args:
        grid: the slices, at least two.
        model: the model that predicts.
    """

    @abstractmethod
    def __init__(self, grid: SliceGrid, model: BaseModel) -> None: ...

    @abstractmethod
    def add(self, region: Region, sample: BaseDataElement) -> None:
        """Take over the prediction on a slice; the slices come in the order of ``grid.regions``."""

    @abstractmethod
    def merged(self) -> BaseDataElement:
        """Return the data sample of the image, without the fields that describe its file."""
