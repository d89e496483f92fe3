"""Attention inside non-overlapping windows, for large maps as in ViTDet-like detectors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .attention import Attention

Grid = tuple[int, int]


class WindowAttention(Attention):
    """Self-attention within windows of ``window_size`` x ``window_size`` tokens that do not shift or overlap.

    A map that the window does not divide is padded at the bottom and the right; padded keys are masked, so
    every token sees exactly the real tokens of its window. The local position term is computed over the
    whole map, across window borders.

    Args:
        window_size: side of a window in tokens.
        **kwargs: arguments of :class:`Attention`.

    Raises:
        ValueError: with a class token, which belongs to no window.
    """

    def __init__(self, *args, window_size: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.with_cls_token:
            raise ValueError('window_block_indices needs with_cls_token=False: it belongs to no window')
        self.window_size = window_size

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, grid: Grid) -> Tensor:
        if bias is not None:
            raise ValueError('a local_position with an attention bias does not go with windows')
        (height, width), size = grid, self.window_size
        rows, columns = (height + size - 1) // size, (width + size - 1) // size
        padding = (0, 0, 0, columns * size - width, 0, rows * size - height)

        def split(x: Tensor) -> Tensor:  # (B, heads, N, d) -> (B * windows, heads, size * size, d)
            batch, heads, _, dim = x.shape
            x = F.pad(x.reshape(batch * heads, height, width, dim), padding)
            x = x.view(batch, heads, rows, size, columns, size, dim).permute(0, 2, 4, 1, 3, 5, 6)
            return x.reshape(batch * rows * columns, heads, size * size, dim)

        mask = None
        if height % size or width % size:
            real = F.pad(query.new_ones(1, 1, height * width, 1).view(1, height, width, 1), padding)
            real = real.view(rows, size, columns, size).transpose(1, 2).reshape(-1, 1, 1, size * size)
            mask = (real > 0).repeat(query.shape[0], 1, 1, 1)
        out = F.scaled_dot_product_attention(split(query), split(key), split(value), attn_mask=mask)
        batch, heads, _, dim = query.shape
        out = out.view(batch, rows, columns, heads, size, size, dim).permute(0, 3, 1, 4, 2, 5, 6)
        out = out.reshape(batch, heads, rows * size, columns * size, dim)
        return out[:, :, :height, :width].reshape(batch, heads, height * width, dim)
