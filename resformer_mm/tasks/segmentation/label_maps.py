"""Segmentation masks: decoding the files and mapping pixel values to labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from PIL import Image

from resformer_mm.datasets.image_files import EXIF_ORIENTATION, opened_image
from resformer_mm.repairs import repair
from resformer_mm.text import shorten_list

# One integer per pixel: grey levels of 8, 16 or 32 bit, palette indices, and two-level images.
LABEL_MODES = ('L', 'P', '1', 'I', 'I;16', 'I;16L', 'I;16B', 'I;16N')
MARK = 255
"""Label of all ignored pixels after loading, which losses, metrics and padding ignore by default.

mmsegmentation also gives it to pixels of excluded classes and, with ``reduce_zero_label``, to zeros.
"""
MANY_VALUES = 16
CONVERTER = 'tools/dataset_converters/masks_from_colours.py'


class NotALabelMapError(ValueError):
    """An image file that is not a label map."""


@dataclass(frozen=True)
class LabelValues:
    """The valid pixel values of a mask and their labels.

    Args:
        num_classes: labels are 0 to ``num_classes - 1``.
        reduce_zero_label: whether value 0 is ignored, value 1 is label 0, and so on.
        ignore_index: value of ignored pixels in the file, or several; after loading they have the label 255.
        label_map: label in the file -> label, or 255 for an excluded class; applied last.

    Raises:
        ValueError: the classes do not fit into 8 bits, ``ignore_index`` does not either, or it is not 255
            while ``reduce_zero_label`` gives ignored pixels this label.
    """

    num_classes: int
    reduce_zero_label: bool = False
    ignore_index: int | Sequence[int] = MARK
    label_map: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        most = MARK - self.reduce_zero_label
        if not 1 <= self.num_classes <= most:
            raise ValueError(f'num_classes must be in 1..{most} for 8-bit masks, got {self.num_classes}')
        if self.reduce_zero_label and self.ignored != (MARK,):
            raise ValueError(
                f'reduce_zero_label gives ignored pixels the label {MARK}, but ignore_index is '
                f'{self.ignore_index}, so they would not be ignored. Set ignore_index={MARK}'
            )
        if not all(0 <= value <= MARK for value in self.ignored):
            raise ValueError(f'ignore_index must be in 0..{MARK} for 8-bit masks, got {self.ignore_index}')

    @property
    def ignored(self) -> tuple[int, ...]:
        """The values of ignored pixels in the file."""
        return (self.ignore_index,) if isinstance(self.ignore_index, int) else tuple(self.ignore_index)

    @cached_property
    def _labels(self) -> np.ndarray:
        """Label of every value as the file means it, ``(256,)``."""
        labels: np.ndarray = np.arange(256)
        if self.reduce_zero_label:
            labels = np.where((labels == 0) | (labels == 255), MARK, labels - 1)
        if self.label_map is not None:
            labels = np.array([self.label_map.get(int(label), label) for label in labels])
        return labels

    @cached_property
    def _is_ignored(self) -> np.ndarray:
        """Whether a value is ignored, ``(256,)``."""
        is_marked = self._labels == MARK
        is_marked[MARK] = self.reduce_zero_label  # else it is no more than a value of the file
        return is_marked | np.isin(np.arange(256), self.ignored)

    @cached_property
    def table(self) -> np.ndarray:
        """Label of every value after loading, ``(256,)`` uint8."""
        return np.where(self._is_ignored, MARK, self._labels).astype(np.uint8)

    @cached_property
    def forbidden(self) -> np.ndarray:
        """1 for every value that is neither a class nor ignored, ``(256,)`` uint8."""
        return (~((self._labels < self.num_classes) | self._is_ignored)).astype(np.uint8)

    def value_of(self, label: int) -> int | None:
        """Return the value of a class in the file; None if it is ignored."""
        values = np.flatnonzero((self.table == label) & ~self._is_ignored)
        return int(values[0]) if len(values) else None

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
        ignored = ' and '.join(map(str, self.ignored)) + (' are' if len(self.ignored) > 1 else ' is')
        return f'{zero}{first}..{num_classes - 1 + first} are classes, {ignored} ignored'


def decode_label_map(content: bytes, where: object = None) -> np.ndarray:
    """Decode a mask file to its pixel values, integers ``(H, W)``. A palette image gives its indices.

    Of an image whose colour channels are equal, one is taken.

    Args:
        content: the file.
        where: its folder, where a repair is told; None tells nothing.

    Raises:
        OSError: the content is not an image or is truncated.
        ValueError: the image has too many pixels.
        NotALabelMapError: the image has colours, fractional values, or an EXIF orientation.
        StrictError: channels are equal, which strict mode refuses.
    """
    with opened_image(content) as image:
        image.load()
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            raise NotALabelMapError(
                'it has an EXIF orientation, which masks must not have: save it rotated, without the tag'
            )
        if image.mode in LABEL_MODES:
            values = np.array(image)
            return values.astype(np.uint8) if values.dtype == bool else values
        values = _equal_channel(image)
    if where is not None:
        repair(where, 'masks of several equal channels: one of them is read')
    return values


def has_several_channels(content: bytes) -> bool:
    """Whether a mask file has several channels; only its header is read."""
    with opened_image(content) as image:
        return image.mode in ('RGB', 'RGBA', 'LA', 'RGBX')


def _equal_channel(image: Image.Image) -> np.ndarray:
    """Return one of the colour channels, which must be equal; an opacity must be the same everywhere."""
    if image.mode not in ('RGB', 'RGBA', 'LA', 'RGBX'):
        raise NotALabelMapError(
            f'it is an image of mode {image.mode!r} and does not have one integer label per pixel: save it '
            'as a grayscale or palette PNG'
        )
    pixels = np.array(image)
    colours = pixels[..., :1] if image.mode == 'LA' else pixels[..., :3]
    opacity = pixels[..., colours.shape[-1] :]
    if (colours != colours[..., :1]).any():
        rows = colours.reshape(-1, colours.shape[-1])
        shown = ', '.join(str(tuple(colour)) for colour in np.unique(rows[:100_000], axis=0)[:4].tolist())
        raise NotALabelMapError(
            f'it is an image of mode {image.mode!r} with colours, such as {shown}, and does not have one '
            f'integer label per pixel: convert it with a list of the colours, {CONVERTER}'
        )
    if opacity.size and (opacity != opacity.ravel()[0]).any():
        raise NotALabelMapError(
            f'it is an image of mode {image.mode!r} with transparent pixels, and does not have one integer '
            'label per pixel: save it as a grayscale or palette PNG'
        )
    return np.ascontiguousarray(colours[..., 0])


def likely_cause(unknown: Sequence[int], present: Iterable[int], labels: LabelValues) -> str:
    """Return what values that are not classes look like, as an end of a sentence; '' if like nothing known.

    Args:
        unknown: the values that are neither a class nor ignored.
        present: all values that occur.
        labels: the meaning of the values.
    """
    values = sorted(value for value in set(present) if value > 0)
    if len(unknown) > MANY_VALUES:
        return (
            '. So many values are soft edges: a mask must not be a JPEG file, or resized with interpolation'
        )
    if not values or (len(values) == 1 and values[0] < 100):
        return _void_hint(unknown, values, labels)
    steps = {round(value / values[0]) for value in values}
    # 0, 128, 255 are 0, 1, 2 times 127.5.
    scaled = all(
        abs(values[-1] * step / max(steps) - value) <= 1 for step, value in zip(sorted(steps), values)
    )
    if values[0] > labels.num_classes >= max(steps) and len(values) == len(steps) and scaled:
        wanted = ', '.join(str(step) for step in range(int(labels.reduce_zero_label), len(values) + 1))
        shown = ', '.join(map(str, sorted({0, *values})))
        return f'. The values {shown} look like classes stretched for viewing: save them as {wanted}'
    return _void_hint(unknown, values, labels)


def _void_hint(unknown: Sequence[int], present: Sequence[int], labels: LabelValues) -> str:
    """Return what to set if one value that is not a class marks ignored pixels; '' if it cannot."""
    if len(unknown) != 1 or not 0 <= unknown[0] <= MARK:
        return ''
    if labels.reduce_zero_label:
        is_next = unknown[0] == labels.num_classes + 1 and labels.label_map is None
        hint = 'the first line of classes_file must name the ignored value 0'
        return f'. If the classes have the values 1 to {unknown[0]}, {hint}' if is_next else ''
    hint = ''
    if unknown[0] == labels.num_classes and labels.label_map is None:
        hint = (
            f'. If the classes have the values 1 to {unknown[0]}, set reduce_zero_label=True of the data set'
        )
    if labels.ignored == (0,):
        return hint
    ignored = sorted({*unknown, *(value for value in labels.ignored if value in present)})
    value = ignored[0] if len(ignored) == 1 else ignored
    return f'{hint}. If {unknown[0]} marks pixels to ignore, set ignore_index={value} of the data set'


def absent_classes(
    counts: Mapping[int, int], labels: LabelValues, names: Sequence[str] | None = None
) -> tuple[str, bool] | None:
    """Return what the classes without a pixel show, and whether the masks must be wrong; None if all occur.

    Args:
        counts: number of pixels of each value in all masks.
        labels: the meaning of the values.
        names: names of the classes.
    """
    known = {value: number for value, number in counts.items() if number and not labels.unknown([value])}
    occurring = {int(labels.table[value]) for value in known} - {MARK}
    absent = [label for label in range(labels.num_classes) if label not in occurring]
    if not absent or not known:
        return None
    shown = shorten_list(
        [
            f'{label}{f" ({names[label]})" if names else ""} with the value {labels.value_of(label)}'
            for label in absent
        ]
    )
    share = 100 * sum(n for value, n in known.items() if labels.table[value] == MARK) / sum(known.values())
    text = f'no pixel has the class {shown}, while {share:.1f} % of the pixels are ignored'
    if not occurring:
        return f'all pixels of all masks are ignored: {labels}. Correct the masks or these settings', True
    first = set(range(labels.num_classes))
    if labels.reduce_zero_label and first <= set(known) and labels.num_classes not in known:
        return (
            f'{text}. The values are 0 to {labels.num_classes - 1}, so 0 seems to be a class: set '
            'reduce_zero_label=False'
        ), True
    is_export = (
        not labels.reduce_zero_label
        and labels.label_map is None
        and labels.ignored == (MARK,)
        and MARK in known
    )
    if is_export and len(occurring) <= 1 and labels.num_classes > 1:
        values = '/'.join(map(str, sorted(known)))
        return (
            f'{text}. Exported as {values}? Then {MARK} is meant as a class, but ignored: '
            f'save the classes as 0 to {labels.num_classes - 1}'
        ), labels.num_classes == 2
    return text, False


def value_counts(label_map: np.ndarray) -> dict[int, int]:
    """Return the number of pixels for each value that occurs."""
    if label_map.dtype == np.uint8:
        counts = np.bincount(label_map.ravel(), minlength=256)  # several times faster than np.unique
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(label_map, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))
