"""Depthwise convolution of tokens by shifts, for compiled code."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .grids import Grid


def convolve_by_shifts(tokens: Tensor, grid: Grid, weight: Tensor, bias: Tensor) -> Tensor:
    """Return a 3x3 depthwise convolution, padded with zeros, as a sum of nine shifted products.

    A compiler makes one loop of them and of what comes before and after, also for the gradients, and for any
    grid: it would prescribe the memory layout of a convolution for the grid it was compiled with. Without a
    compiler, the convolution is faster.

    Args:
        tokens: ``(B, H * W, C)``; so is the result, of the same type.
        grid: ``(H, W)``.
        weight: ``(C, 1, 3, 3)``.
        bias: ``(C,)``.
    """
    height, width = grid
    padded = F.pad(tokens.unflatten(1, grid), (0, 0, 1, 1, 1, 1))
    out = bias
    for row in range(3):
        for column in range(3):
            shifted = padded[:, row : row + height, column : column + width]
            out = out + shifted * weight[:, 0, row, column]
    return out.to(tokens.dtype).flatten(1, 2)
