"""Drawing of label maps, objects and names onto images with OpenCV and Pillow.

A drawing takes the time and memory of a few copies of the image, whatever the number of classes, and of one
mask at a time. Images are RGB uint8 arrays ``(H, W, 3)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from resformer_mm.picture_text import font, one_line

Colour = Sequence[int]

_COARSE = 192  # longer side in pixels of the map in which places for names are searched
_SMALLEST_REGION = 4  # radius in pixels of this map of the smallest region with a name
_BAND = 256  # rows of a label map that are coloured at a time
_MARGIN = 2
_SMALLEST_TEXT = 7


def text_size(picture: np.ndarray) -> int:
    """Return the height of letters in pixels for an image."""
    return int(np.clip(min(picture.shape[:2]) / 36, 10, 48))


def fitting_size(picture: np.ndarray, text: object, margin: int) -> int:
    """Return the height of letters of a text that fits into the width of an image, if it is legible then."""
    line, size = one_line(text), int(np.clip(min(picture.shape[:2]) / 18, 11, 64))
    room = picture.shape[1] - 2 * (margin + _MARGIN)
    length = font(line, size).getlength(line)
    return size if length <= room else max(_SMALLEST_TEXT, int(size * room / length))


def draw_text(
    picture: np.ndarray,
    text: object,
    place: tuple[float, float],
    size: int,
    colour: Colour = (255, 255, 255),
    background: Colour = (0, 0, 0),
    is_centred: bool = False,
) -> None:
    """Draw one line of text on a background, moved into the image if it would leave it.

    Args:
        picture: the image.
        text: the text.
        place: x and y of its upper left corner, or of its centre.
        size: height of the letters in pixels.
        colour: RGB of the letters.
        background: RGB of the background.
        is_centred: whether ``place`` is the centre.
    """
    line = one_line(text)
    chosen = font(line, size)
    left, top, right, bottom = (round(side) for side in chosen.getbbox(line or ' '))
    height, width = bottom - top + 2 * _MARGIN, right - left + 2 * _MARGIN
    x, y = (round(float(value)) for value in place)
    if is_centred:
        x, y = x - width // 2, y - height // 2
    x = max(0, min(x, picture.shape[1] - width))
    y = max(0, min(y, picture.shape[0] - height))
    region = picture[y : y + height, x : x + width]
    if not region.size:
        return
    label = Image.new('RGB', (width, height), tuple(int(value) for value in background))
    ImageDraw.Draw(label).text((_MARGIN - left, _MARGIN - top), line, tuple(map(int, colour)), chosen)
    region[:] = np.asarray(label)[: region.shape[0], : region.shape[1]]


def draw_label_map(
    picture: np.ndarray,
    labels: np.ndarray,
    palette: Sequence[Colour],
    alpha: float,
    classes: Sequence[str] | None = None,
) -> np.ndarray:
    """Return the image overlaid with the colour of each pixel's class, and the names of the classes.

    A name is written once per class, at the point of its regions that is farthest from their border.

    Args:
        picture: the image.
        labels: label of every pixel, integers ``(H, W)``. Others than classes are drawn black.
        palette: RGB of each class.
        alpha: opacity of the colours, 0 to 1.
        classes: names of the classes; None writes none.
    """
    number = len(palette)
    colours = np.zeros((number + 1, 3), np.uint8)
    colours[:-1] = np.asarray(palette, np.uint8).reshape(number, 3)
    drawn = np.empty_like(picture)
    for start in range(0, len(labels), _BAND):  # what is needed besides the picture is small
        band = np.s_[start : start + _BAND]
        known = _known(labels[band], number)
        cv2.addWeighted(picture[band], 1 - alpha, colours[known], alpha, 0, drawn[band])
    if classes is not None:
        size = text_size(drawn)
        for label, place in _places(labels, number):
            draw_text(drawn, classes[label], place, size, background=palette[label], is_centred=True)
    return drawn


def _known(labels: np.ndarray, number: int) -> np.ndarray:
    """Return the labels as uint16, with ``number`` in place of those that are not classes."""
    labels = labels.astype(np.int64)
    return np.where((labels >= 0) & (labels < number), labels, number).astype(np.uint16)


def _places(labels: np.ndarray, number: int) -> list[tuple[int, tuple[float, float]]]:
    """Return for every class with a region of some size its label, and x and y of a point inside."""
    height, width = labels.shape
    scale = min(1.0, _COARSE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rows, columns = (np.arange(few) * many // few for few, many in ((size[1], height), (size[0], width)))
    coarse = _known(labels[np.ix_(rows, columns)], number)
    places = []
    present = np.unique(coarse)
    for label in present[present < number].tolist():
        mask = np.pad((coarse == label).astype(np.uint8), 1)  # the edge of the image is a border, too
        _, radius, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(mask, cv2.DIST_L2, 3))
        if radius >= min(_SMALLEST_REGION, *(side / 2 for side in size)) or len(present) == 1:
            places.append((label, ((x - 0.5) * width / size[0], (y - 0.5) * height / size[1])))
    return places


def draw_mask(picture: np.ndarray, mask: np.ndarray, colour: Colour, alpha: float) -> None:
    """Overlay the pixels of a mask ``(H, W)`` with a colour, and outline them in white."""
    mask = mask.view(np.uint8) if mask.dtype == bool else mask.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return
    part = np.s_[y : y + height, x : x + width]
    inside = np.ascontiguousarray(mask[part])
    region = picture[part]
    plain = np.empty_like(region)
    plain[:] = np.asarray(colour, np.uint8)
    cv2.copyTo(cv2.addWeighted(region, 1 - alpha, plain, alpha, 0), inside, region)
    outlines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outlined = np.ascontiguousarray(region)
    cv2.drawContours(outlined, outlines, -1, (255, 255, 255), 1)
    region[:] = outlined


def draw_box(picture: np.ndarray, box: Sequence[float], colour: Colour, line_width: int) -> None:
    """Draw the outline of a box ``[x1, y1, x2, y2]``."""
    left, top, right, bottom = (round(float(value)) for value in np.clip(box, -(2**14), 2**14))
    cv2.rectangle(picture, (left, top), (right, bottom), tuple(map(int, colour)), max(1, line_width))
