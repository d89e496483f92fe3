"""What lies inside the images of a batch, and what is padding that their batch mates force on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]


class BatchPadding(NamedTuple):
    """The real part of a batch of images that were padded to one size, at the bottom and the right.

    Attributes:
        grids: the token grid ``(H_i, W_i)`` that each image has alone.
        valid: whether a patch token of the batch's grid belongs to its image, ``(B, H * W)``, row by row.
    """

    grids: tuple[Grid, ...]
    valid: Tensor


def token_grids(sizes: Sequence[Grid], patch_size: int) -> tuple[Grid, ...]:
    """Return the token grid ``(H, W)`` of images of these heights and widths in pixels."""
    return tuple(
        ((height + patch_size - 1) // patch_size, (width + patch_size - 1) // patch_size)
        for height, width in sizes
    )


def inside(sizes: Sequence[Grid], extent: Grid, device: torch.device) -> Tensor:
    """Return whether a position of a map lies inside its image, ``(B, H, W)``.

    Args:
        sizes: height and width of each of the B images, in positions of the map; plain integers, so that
            nothing waits for the device.
        extent: ``(H, W)`` of the map.
        device: of the result.
    """
    heights, widths = torch.tensor(sizes).to(device, non_blocking=True).unbind(1)
    rows = torch.arange(extent[0], device=device) < heights[:, None]
    columns = torch.arange(extent[1], device=device) < widths[:, None]
    return rows[:, :, None] & columns[:, None, :]


def extend_edges(x: Tensor, sizes: Sequence[Grid]) -> Tensor:
    """Return a map ``(B, C, H, W)`` in which the first position beyond an edge has the value at the edge.

    An interpolation at the edge of an image is then that of the image alone, where it stops at the edge.

    Args:
        x: the map, zero beyond the images.
        sizes: height and width of each of the B images, in positions of the map.
    """
    if all(tuple(size) == (x.shape[2], x.shape[3]) for size in sizes):
        return x
    heights, widths = torch.tensor(sizes).to(x.device, non_blocking=True).unbind(1)
    below = torch.arange(x.shape[2], device=x.device) == heights[:, None]
    x = x + F.pad(x, (0, 0, 1, 0))[:, :, :-1] * below[:, None, :, None]
    right = torch.arange(x.shape[3], device=x.device) == widths[:, None]
    return x + F.pad(x, (1, 0))[..., :-1] * right[:, None, None, :]


def separate_padding(
    image: Tensor, sizes: Sequence[Grid], patch_size: int
) -> tuple[Tensor, BatchPadding | None]:
    """Return a batch with zeros in its padding, and its padding tokens; None if every image fills the grid.

    Args:
        image: ``(B, C, h, w)``.
        sizes: real height and width in pixels of each image.
        patch_size: side of a patch in pixels.

    Raises:
        ValueError: the sizes do not fit the batch.
    """
    extent = (image.shape[2], image.shape[3])
    fits = all(0 < height <= extent[0] and 0 < width <= extent[1] for height, width in sizes)
    if len(sizes) != image.shape[0] or not fits:
        raise ValueError(
            f'sizes={list(sizes)} must give a height and a width for each of the {image.shape[0]} images of '
            f'the batch, from 1 to {extent[0]} x {extent[1]} pixels: the img_shape of its data samples'
        )
    if any(tuple(size) != extent for size in sizes):
        image = image.masked_fill(~inside(sizes, extent, image.device).unsqueeze(1), 0)
    grids, (grid,) = token_grids(sizes, patch_size), token_grids([extent], patch_size)
    if all(own == grid for own in grids):
        return image, None
    return image, BatchPadding(grids, inside(grids, grid, image.device).flatten(1))
