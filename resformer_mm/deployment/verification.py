"""Comparison of an exported file with PyTorch, at sizes other than that of the export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .model import DeployableModel, ExportError

Size = tuple[int, int]
BATCHES = (1, 2, 5)


@dataclass(frozen=True)
class Difference:
    """The difference between the outputs of a file and of PyTorch at one size.

    Attributes:
        batch: number of images.
        height: height of the images in pixels.
        width: width of the images in pixels.
        value: largest absolute difference of all outputs, see :meth:`DeployableModel.difference`; NaN if one
            of them is not finite.
        magnitude: largest absolute value of PyTorch's outputs.
    """

    batch: int
    height: int
    width: int
    value: float
    magnitude: float


def default_sizes(patch_size: int) -> list[Size]:
    """Return twelve sizes: one patch, rows and columns of patches, squares, rectangles, odd sizes."""
    p = patch_size
    return [
        (p, p),
        (p, 7 * p),
        (6 * p, p),
        (p + 1, p + 3),
        (2 * p + 5, 3 * p + 5),
        (3 * p, 2 * p),
        (4 * p, 4 * p),
        (4 * p + 1, 9 * p - 1),
        (10 * p, 4 * p),
        (6 * p, 8 * p),
        (8 * p, 8 * p),
        (14 * p, 14 * p),
    ]


def check_sizes(sizes: Sequence[Size], patch_size: int) -> None:
    """Check that the model accepts images of these heights and widths.

    Raises:
        ExportError: a size is smaller than a patch.
    """
    for height, width in sizes:
        if height < patch_size or width < patch_size:
            raise ExportError(
                f'size {height}x{width} is smaller than one patch of {patch_size}x{patch_size} pixels: '
                f'give heights and widths of at least {patch_size}'
            )


def compare(
    run: Callable[[Tensor], list[Tensor]], model: DeployableModel, sizes: Sequence[Size]
) -> Iterator[Difference]:
    """Yield the difference from the evaluation in PyTorch at every size, on random pixels.

    The batch size alternates between 1, 2 and 5 if it is free.

    Args:
        run: function from an input to the outputs of the file.
        model: the exported model.
        sizes: heights and widths in pixels.

    Raises:
        ExportError: the file does not run, or the outputs differ in number or shape.
    """
    generator = torch.Generator().manual_seed(0)
    for index, (height, width) in enumerate(sizes):
        batch = BATCHES[index % len(BATCHES)] if 0 in model.axes else 1
        image = model.random_input(batch, height, width, generator)
        # Convolutions of a GPU would round to 10 bits.
        with torch.backends.cudnn.flags(allow_tf32=False):
            try:
                outputs = [x.cpu() for x in run(image.float())]
            except Exception as error:  # runtimes raise errors of any type
                raise ExportError(f'at {batch}x{height}x{width} the file does not run: {error}') from error
            expected = model.predict_as_trained(image)
        try:
            value, magnitude = model.difference(outputs, expected)
        except ExportError as error:
            raise ExportError(f'at {batch}x{height}x{width} {error}') from error
        yield Difference(batch, height, width, value, magnitude)
