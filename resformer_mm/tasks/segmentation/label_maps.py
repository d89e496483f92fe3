"""Segmentation masks: decoding the files and mapping pixel values to labels."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from PIL import Image

from resformer_mm.datasets.decoding import without_pixel_limit
from resformer_mm.datasets.loading import EXIF_ORIENTATION

# One integer per pixel: grey levels of 8, 16 or 32 bit, palette indices, and two-level images.
LABEL_MODES = ('L', 'P', '1', 'I', 'I;16', 'I;16L', 'I;16B', 'I;16N')
MARK = 255
"""Label that mmsegmentation gives to pixels of excluded classes and, with ``reduce_zero_label``, to zeros."""


class NotALabelMapError(ValueError):
    """An image file that is not a label map."""


@dataclass(frozen=True)
class LabelValues:
    """The valid pixel values of a mask and their labels.

    Args:
        num_classes: labels are 0 to ``num_classes - 1``.
        reduce_zero_label: whether value 0 is ignored, value 1 is label 0, and so on.
        ignore_index: label of ignored pixels.
        label_map: label in the file -> label, or 255 for an excluded class; applied last.

    Raises:
        ValueError: the classes do not fit into 8 bits, or ``ignore_index`` is not the label that
            mmsegmentation gives to ignored pixels.
    """

    num_classes: int
    reduce_zero_label: bool = False
    ignore_index: int = MARK
    label_map: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        most = MARK - self.reduce_zero_label
        if not 1 <= self.num_classes <= most:
            raise ValueError(f'num_classes must be in 1..{most} for 8-bit masks, got {self.num_classes}')
        leaves_out = self.reduce_zero_label or MARK in (self.label_map or {}).values()
        if leaves_out and self.ignore_index != MARK:
            raise ValueError(
                f'reduce_zero_label, or the choice of classes, gives ignored pixels the label {MARK}, but '
                f'ignore_index is {self.ignore_index}, so they would not be ignored. Set ignore_index={MARK}'
            )

    @cached_property
    def table(self) -> np.ndarray:
        """Label of every value, ``(256,)`` uint8."""
        table: np.ndarray = np.arange(256)
        if self.reduce_zero_label:
            table = np.where((table == 0) | (table == 255), MARK, table - 1)
        if self.label_map is not None:
            table = np.array([self.label_map.get(int(label), label) for label in table])
        return table.astype(np.uint8)

    @cached_property
    def forbidden(self) -> np.ndarray:
        """1 for every value that is neither a class nor ignored, ``(256,)`` uint8."""
        allowed = (self.table < self.num_classes) | (self.table == self.ignore_index)
        return (~allowed).astype(np.uint8)

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Return the values that are neither a class nor ignored, sorted."""
        return sorted(value for value in values if not 0 <= value <= 255 or self.forbidden[value])

    def unknown_in(self, label_map: np.ndarray) -> list[int]:
        """Return the unknown values in a mask, sorted. It is fast if there are none."""
        if label_map.dtype == np.uint8 and not cv2.LUT(label_map, self.forbidden).any():
            return []
        return self.unknown(value_counts(label_map))

    def apply(self, label_map: np.ndarray) -> np.ndarray:
        """Return the labels ``(H, W)`` uint8 of a mask without unknown values."""
        return cv2.LUT(label_map.astype(np.uint8, copy=False), self.table)

    def __str__(self) -> str:
        """Return a description of the valid values."""
        first = int(self.reduce_zero_label)
        num_classes = self.num_classes if self.label_map is None else len(self.label_map)
        zero = 'reduce_zero_label: 0 is ignored, ' if self.reduce_zero_label else ''
        return f'{zero}{first}..{num_classes - 1 + first} are classes, {self.ignore_index} is ignored'


def decode_label_map(content: bytes) -> np.ndarray:
    """Decode a mask file to its pixel values, integers ``(H, W)``. A palette image gives its indices.

    Raises:
        OSError: the content is not an image or is truncated.
        NotALabelMapError: the image has several channels, fractional values, or an EXIF orientation.
    """
    with without_pixel_limit(), Image.open(io.BytesIO(content)) as image:
        image.load()
        if image.mode not in LABEL_MODES:
            raise NotALabelMapError(
                f'it is an image of mode {image.mode!r} and does not have one integer label per pixel: save '
                'it as a grayscale or palette PNG'
            )
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            raise NotALabelMapError(
                'it has an EXIF orientation, which masks must not have: save it rotated, without the tag'
            )
        values = np.array(image)
    return values.astype(np.uint8) if values.dtype == bool else values


def value_counts(label_map: np.ndarray) -> dict[int, int]:
    """Return the number of pixels for each value that occurs."""
    if label_map.dtype == np.uint8:
        counts = np.bincount(label_map.ravel(), minlength=256)  # several times faster than np.unique
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(label_map, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))
