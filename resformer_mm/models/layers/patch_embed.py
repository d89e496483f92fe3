"""Projection of patches of pixels to tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_exporting

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

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Return the tokens ``(B, H * W, C)`` of an image ``(B, C_in, h, w)`` and their grid ``(H, W)``.

        An image whose sides are not multiples of the patch is padded with zeros at the bottom and the right,
        so that no pixel is lost: H = ceil(h / patch), W = ceil(w / patch).

        Raises:
            ValueError: a side is shorter than one patch.
        """
        height, width = image.shape[-2:]
        patch = self.patch_size
        if height < patch or width < patch:
            raise ValueError(
                f'an image of {height} x {width} pixels is smaller than one patch of {patch} x {patch}: '
                'use a larger resolution or a smaller patch_size'
            )
        if is_exporting() or height % patch or width % patch:
            # Without a negative operand of `%`, which dynamic compilation does not support.
            bottom = (height + patch - 1) // patch * patch - height
            right = (width + patch - 1) // patch * patch - width
            image = F.pad(image, (0, right, 0, bottom))
        tokens = self.proj(image)
        grid = (tokens.shape[-2], tokens.shape[-1])
        return tokens.flatten(2).transpose(1, 2), grid
