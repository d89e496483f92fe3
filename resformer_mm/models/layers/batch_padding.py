"""Padding of batches whose images have different sizes: masks and image-wise computation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .grids import Grid


class BatchPadding(NamedTuple):
    """The real part of a batch of images that were padded to one size, at the bottom and the right.

    Attributes:
        grids: the token grid ``(H_i, W_i)`` of each image.
        valid: whether a patch token of the batch's grid belongs to its image, ``(B, H * W)``, row by row.
    """

    grids: tuple[Grid, ...]
    valid: Tensor

    def of_samples(self, numbers: Tensor) -> BatchPadding:
        """Return the padding of some images, given by their numbers in the batch."""
        return BatchPadding(tuple(self.grids[number] for number in numbers.tolist()), self.valid[numbers])


def token_grids(sizes: Sequence[Grid], patch_size: int) -> tuple[Grid, ...]:
    """Return the token grid ``(H, W)`` of images of these heights and widths in pixels."""
    return tuple(
        ((height + patch_size - 1) // patch_size, (width + patch_size - 1) // patch_size)
        for height, width in sizes
    )


def inside(sizes: Sequence[Grid], extent: Grid, device: torch.device) -> Tensor:
    """Return whether a position of a map lies inside its image, ``(B, H, W)``.

    Args:
        sizes: height and width of each of the B images, in positions of the map; plain integers, which need
            no synchronisation with the device.
        extent: ``(H, W)`` of the map.
        device: device of the result.
    """
    heights, widths = torch.tensor(sizes).to(device, non_blocking=True).unbind(1)
    rows = torch.arange(extent[0], device=device) < heights[:, None]
    columns = torch.arange(extent[1], device=device) < widths[:, None]
    return rows[:, :, None] & columns[:, None, :]


def extend_edges(x: Tensor, sizes: Sequence[Grid]) -> Tensor:
    """Return a map ``(B, C, H, W)`` in which the first position beyond an edge has the value at the edge.

    Interpolation at the edge of an image then gives the same result as for the image alone.

    Args:
        x: the map, zero beyond the images.
        sizes: height and width of each of the B images, in positions of the map.
    """
    extent = (x.shape[2], x.shape[3])
    if all(tuple(size) == extent for size in sizes):
        return x
    images = []
    for image, (height, width) in zip(x.split(1), sizes):
        if (height, width) != extent:
            image = image[:, :, :height, :width]
            if height < extent[0]:
                image = torch.cat((image, image[:, :, -1:]), dim=2)
            if width < extent[1]:
                image = torch.cat((image, image[..., -1:]), dim=3)
            image = _pad_map(image, extent)
        images.append(image)
    return torch.cat(images).contiguous()


def _pad_map(x: Tensor, extent: Grid) -> Tensor:
    return F.pad(x, (0, extent[1] - x.shape[3], 0, extent[0] - x.shape[2]))


class ImageGroups:
    """The images of a padded batch, in groups of one size, without their padding.

    What is computed for each group costs what the images alone cost.

    Args:
        sizes: height and width of each of the B images, in positions of a map.
    """

    def __init__(self, sizes: Sequence[Grid]) -> None:
        groups: dict[Grid, list[int]] = {}
        for index, (height, width) in enumerate(sizes):
            groups.setdefault((height, width), []).append(index)
        self.sizes = list(groups)
        self._indices = list(groups.values())
        order = [index for indices in self._indices for index in indices]
        self._places = [order.index(index) for index in range(len(order))]

    def with_sizes(self, sizes: Sequence[Grid]) -> ImageGroups:
        """Return the same groups of images, whose maps have other sizes, one for each group."""
        groups = copy(self)
        groups.sizes = list(sizes)
        return groups

    def cut(self, x: Tensor, scale: int = 1) -> list[Tensor]:
        """Return ``(B_i, C, h_i, w_i)`` of every group of a batch ``(B, C, h, w)``.

        Args:
            x: the batch.
            scale: how many pixels of it make a position along each side, for sizes in positions.
        """
        images = x.split(1)
        groups = []
        for indices, (height, width) in zip(self._indices, self.sizes):
            own = [images[index][:, :, : scale * height, : scale * width] for index in indices]
            groups.append(torch.cat(own) if len(own) > 1 else own[0])
        return groups

    def join(self, groups: Sequence[Tensor]) -> Tensor:
        """Return a batch ``(B, ...)`` in its order, of one tensor ``(B_i, ...)`` for every group."""
        images = [image for group in groups for image in group.split(1)]
        return torch.cat([images[place] for place in self._places])

    def join_maps(self, groups: Sequence[Tensor], extent: Grid) -> Tensor:
        """Return ``(B, C, H, W)``, zero in the padding, of maps ``(B_i, C, H_i, W_i)``.

        Args:
            groups: the maps of every group.
            extent: ``(H, W)``.
        """
        # Padding takes a map of one position for a channels-last one, which RoIAlign of mmcv misreads.
        return self.join([_pad_map(x, extent) for x in groups]).contiguous()

    def join_tokens(self, groups: Sequence[Tensor], extent: Grid, num_prefix_tokens: int) -> Tensor:
        """Return tokens ``(B, N, C)``, zero in the padding, of ``(B_i, N_i, C)``.

        Args:
            groups: tokens of every group, whose sizes are grids.
            extent: token grid ``(H, W)`` of the batch.
            num_prefix_tokens: number of tokens before the patch tokens.
        """
        first = num_prefix_tokens
        padded = []
        for tokens, own in zip(groups, self.sizes):
            if own != extent:
                tokens = torch.cat((tokens[:, :first], _extend(tokens[:, first:], own, extent)), dim=1)
            padded.append(tokens)
        return self.join(padded)


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


def image_by_image(
    function: Callable[..., tuple[Tensor, ...]],
    tensors: Sequence[Tensor],
    grid: Grid,
    grids: Sequence[Grid],
) -> tuple[Tensor, ...]:
    """Apply a function of patch tokens to each image of a batch separately; the padding becomes zero.

    Args:
        function: takes patch tokens ``(1, ..., H_i * W_i, C)`` of one image, one tensor for each in
            ``tensors``, and its grid. It returns tensors of the same shapes, or nothing for every image.
        tensors: ``(B, ..., H * W, C)`` each.
        grid: ``(H, W)`` of the batch.
        grids: the token grid ``(H_i, W_i)`` of each of the B images.

    Returns:
        Tensors of the shapes of ``tensors``, as many as the function returns.
    """
    images = []
    for index, own in enumerate(grids):
        alone = [_crop(x[index : index + 1], grid, own) for x in tensors]
        images.append([_extend(x, own, grid) for x in function(*alone, own)])
    return tuple(torch.cat(batch) for batch in zip(*images))


def _crop(tokens: Tensor, grid: Grid, own: Grid) -> Tensor:
    return tokens.unflatten(-2, grid)[..., : own[0], : own[1], :].flatten(-3, -2)


def _extend(tokens: Tensor, own: Grid, grid: Grid) -> Tensor:
    bottom, right = grid[0] - own[0], grid[1] - own[1]
    return F.pad(tokens.unflatten(-2, own), (0, 0, 0, right, 0, bottom)).flatten(-3, -2)


def place_pairs(pairs: Tensor, own: Grid, grid: Grid, with_cls_token: bool) -> Tensor:
    """Place values for the pairs of tokens of one image among the pairs of a batch, zero for other pairs.

    Args:
        pairs: broadcastable to ``(1, D, n, n)`` with n = H_i * W_i, plus one with a class token, which comes
            first.
        own: ``(H_i, W_i)``, the grid of the image.
        grid: ``(H, W)``, the grid of the batch.
        with_cls_token: whether there is a class token.

    Returns:
        The placed values, ``(1, D, N, N)`` with N = H * W, plus one with a class token.
    """
    tokens = torch.arange(grid[0] * grid[1], device=pairs.device).view(grid)[: own[0], : own[1]].flatten()
    if with_cls_token:
        tokens = F.pad(tokens + 1, (1, 0))
    pairs = pairs[(None,) * (4 - pairs.ndim)]
    length = grid[0] * grid[1] + with_cls_token
    placed = pairs.new_zeros(*pairs.shape[:2], length, length)
    placed[..., tokens[:, None], tokens] = pairs.expand(-1, -1, len(tokens), len(tokens))
    return placed
