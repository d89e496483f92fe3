"""Learned biases of the attention scores, functions of the offset of two tokens."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_exporting
from resformer_mm.registry import MODELS

from .coordinates import pair_coordinates
from .grids import Grid
from .local_position import LocalPosition


def bias_of_offsets(table: Tensor, grid: Grid, with_cls_token: bool) -> Tensor:
    """Return the biases of all pairs of tokens, ``(1, num_heads, N, N)``, queries first.

    Args:
        table: bias of every offset, ``(num_heads, 2 * H - 1, 2 * W - 1)``, key minus query, the smallest
            first.
        grid: ``(H, W)``.
        with_cls_token: whether N counts a class token, whose pairs get zero.
    """
    height, width = grid
    rows, columns = (torch.arange(length, device=table.device) for length in grid)
    row = rows - rows[:, None] + (height - 1)  # (H, H)
    column = columns - columns[:, None] + (width - 1)  # (W, W)
    bias = table[:, row[:, None, :, None], column[None, :, None, :]].flatten(3, 4).flatten(1, 2)[None]
    return F.pad(bias, (1, 0, 1, 0)) if with_cls_token else bias


@MODELS.register_module()
class RelativePositionBias(LocalPosition):
    """RPB: one learned number per head and offset, as in Swin, resized to other grids (paper, Table 5).

    The table starts at zero. On a grid other than the trained one, it is stretched to the offsets of that
    grid by interpolation. Pairs with the class token get no bias.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads.
        grid_size: side in tokens of the square grid of the table, e.g. that of the largest training
            resolution, or that of a window.

    Raises:
        ValueError: ``grid_size`` is less than 1.
    """

    biases_cls_token = False

    def __init__(self, embed_dims: int, num_heads: int, grid_size: int = 14) -> None:
        super().__init__()
        if grid_size < 1:
            raise ValueError(f'local_position.grid_size must be at least 1, got {grid_size}')
        side = 2 * grid_size - 1
        self.grid_size = grid_size
        self.table = nn.Parameter(torch.zeros(num_heads, side, side))

    def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor:
        """Return the bias ``(1, num_heads, N, N)``, queries first."""
        table: Tensor = self.table
        if is_exporting() or grid != (self.grid_size, self.grid_size):
            size = (2 * grid[0] - 1, 2 * grid[1] - 1)
            resized = F.interpolate(table[None].float(), size=size, mode='bicubic', align_corners=False)
            table = resized[0].to(table.dtype)
        return bias_of_offsets(table, grid, with_cls_token)


@MODELS.register_module()
class ContinuousPositionBias(LocalPosition):
    """CPB: a small network of the logarithm of the offset, as in Swin V2 (paper, Table 5).

    With ``g = grid_size - 1``, an offset x becomes ``sign(x) log2(1 + 8 |x| / g) / log2(9)``; two linear
    layers with a ReLU between them give a number per head, and ``16 sigmoid(.) - 8`` the bias. The second
    layer starts at zero, so the bias does; Swin V2 does not subtract 8, which without a class token changes
    nothing. Pairs with the class token get no bias.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads.
        grid_size: side in tokens of a trained grid; larger grids continue the logarithm. None measures
            offsets in fractions of the sides of each grid, so that none is beyond 1.
        hidden_dims: width of the network.

    Raises:
        ValueError: ``grid_size`` is less than 2.
    """

    biases_cls_token = False

    def __init__(
        self, embed_dims: int, num_heads: int, grid_size: int | None = 14, hidden_dims: int = 512
    ) -> None:
        super().__init__()
        if grid_size is not None and grid_size < 2:
            raise ValueError(f'local_position.grid_size must be at least 2, or None, got {grid_size}')
        self.grid_size = grid_size
        self.hidden = nn.Linear(2, hidden_dims)
        self.out = nn.Linear(hidden_dims, num_heads, bias=False)
        nn.init.zeros_(self.out.weight)

    def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor:
        """Return the bias ``(1, num_heads, N, N)``, queries first."""
        rows, columns = (self._offsets(length) for length in grid)
        offsets = pair_coordinates(rows, columns)
        table = 16 * self.out(F.relu(self.hidden(offsets))).sigmoid() - 8
        return bias_of_offsets(table.permute(2, 0, 1), grid, with_cls_token)

    def _offsets(self, length: int) -> Tensor:
        """Return the scaled offsets of two rows or columns, ``(2 * length - 1,)``."""
        weight = self.hidden.weight
        offset = torch.arange(1 - length, length, device=weight.device).to(weight.dtype)
        if self.grid_size is None:
            offset = offset / length
        else:
            offset = offset / (self.grid_size - 1)
        return offset.sign() * torch.log2(1 + 8 * offset.abs()) / math.log2(9)
