"""Projection of patches of pixels to tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_compiling, is_exporting

from .grids import Grid


class PatchEmbed(nn.Module):
    """Cut an image into patches and project each to a token: one convolution with kernel = stride = patch.

    Args:
        in_channels: channels of the image.
        embed_dims: width C of a token.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)

    @property
    def fixed_size(self) -> int:
        """Side of a patch in pixels, if it is that of every image and pass; a ValueError if it is not."""
        return self.patch_size

    @property
    def smallest_size(self) -> int:
        """Side in pixels of the smallest image in evaluation."""
        return self.patch_size

    def size_for(self, height: int, width: int) -> int:
        """Return the side of a patch in pixels for an image of a height and a width in evaluation."""
        return self.patch_size

    def next_size(self, height: int, width: int) -> int:
        """Return the side of a patch in pixels for the next pass, of an image of a height and a width."""
        return self.patch_size

    def kernel(self, size: int) -> tuple[Tensor, Tensor | None]:
        """Return the kernel ``(C, C_in, p, p)`` for patches of a side p in pixels, and the bias ``(C,)``."""
        return self.proj.weight, self.proj.bias

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens ``(B, H * W, C)`` of an image ``(B, C_in, h, w)`` and their grid ``(H, W)``.

        An image whose sides are not multiples of the patch is padded with zeros at the bottom and the right,
        so that no pixel is lost: H = ceil(h / patch), W = ceil(w / patch).

        Raises:
            ValueError: a side is shorter than one patch.
        """
        height, width = image.shape[-2:]
        patch = self.next_size(height, width)
        if height < patch or width < patch:
            raise ValueError(
                f'an image of {height} x {width} pixels is smaller than one patch of {patch} x {patch}: '
                'use a larger resolution or a smaller patch_size'
            )
        # Without a negative operand of `%`, which dynamic compilation does not support.
        grid = (height + patch - 1) // patch, (width + patch - 1) // patch
        # Compiled code asks nothing, so that one program is for whole and for padded patches.
        if is_compiling() or height % patch or width % patch:
            image = F.pad(image, (0, grid[1] * patch - width, 0, grid[0] * patch - height))
        if is_compiling() and not is_exporting():
            weight, bias = self.kernel(patch)
            return F.linear(_pixel_rows(image, grid, patch), weight.flatten(1), bias), grid
        tokens = self._project(image, patch)
        return tokens.flatten(2).transpose(1, 2), (tokens.shape[-2], tokens.shape[-1])

    def _project(self, image: Tensor, patch: int) -> Tensor:
        """Return the map of tokens ``(B, C, H, W)`` of an image whose sides are multiples of the patch."""
        return self.proj(image)


def _pixel_rows(image: Tensor, grid: Grid, patch: int) -> Tensor:
    """Return the pixels of every patch as a row, ``(B, H * W, C_in * patch ** 2)``.

    Their product with the weights is the convolution. The compiler (PyTorch 2.13) prescribes the memory
    layout of a convolution's gradients for the sizes it was compiled with, and fails at others.
    """
    rows = image.unflatten(3, (grid[1], patch)).unflatten(2, (grid[0], patch))
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
