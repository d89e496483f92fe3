"""Crops that are drawn from the size of an image, before its pixels are known."""

from __future__ import annotations

from typing import NamedTuple


class Crop(NamedTuple):
    """A box of an image, and the size to which its pixels are resized.

    Attributes:
        top: first row, in pixels.
        left: first column, in pixels.
        height: number of rows.
        width: number of columns.
        output: height and width after resizing, in pixels.
    """

    top: int
    left: int
    height: int
    width: int
    output: tuple[int, int]

    @property
    def oversampling(self) -> float:
        """Pixels of the image per pixel of the output, in the direction where they are fewer."""
        return min(self.height / self.output[0], self.width / self.output[1])

    def reduced(self, denominator: int) -> Crop:
        """Return the crop in an image of 1/``denominator`` of the height and width, to the nearest pixel."""
        top, left = round(self.top / denominator), round(self.left / denominator)
        bottom = round((self.top + self.height) / denominator)
        right = round((self.left + self.width) / denominator)
        return Crop(top, left, bottom - top, right - left, self.output)
