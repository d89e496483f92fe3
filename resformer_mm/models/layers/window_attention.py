"""Attention inside non-overlapping windows, for large maps as in ViTDet-like detectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.compat.tracing import is_exporting

from .attention import Attention
from .grids import Grid, TokenGrid, frame_grid


class WindowAttention(Attention):
    """Self-attention within windows of ``window_size`` x ``window_size`` tokens that do not shift or overlap.

    A map that the window does not divide is padded at the bottom and the right; padded keys are masked, so
    every token attends to exactly the real tokens of its window. The bias and rotation of a local position
    are those of the grid ``(window_size, window_size)``, the same for every window, also for padded ones. Its
    term is that of the whole map, across window borders.

    Args:
        window_size: side of a window in tokens.
        **kwargs: arguments of :class:`Attention`.

    Raises:
        ValueError: there is a class token, which belongs to no window, or ``window_size`` is not a positive
            integer.
    """

    def __init__(self, *args, window_size: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.with_cls_token:
            raise ValueError(
                "window_block_indices needs with_cls_token=False and an out_type other than 'cls_token': no "
                'window has a class token'
            )
        if not isinstance(window_size, int) or window_size < 1:
            raise ValueError(f'window_size must be a positive number of tokens, got {window_size!r}')
        self.window_size = window_size

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        grid: TokenGrid,
        valid: Tensor | None = None,
        grids: Sequence[Grid] | None = None,
    ) -> Tensor:
        """Return the values ``(B, num_heads, H * W, e)``, weighted per window; ``grids`` is not needed."""
        plane, size = frame_grid(grid), self.window_size
        height, width = plane
        batch, heads, length, dim = value.shape
        rows, columns = (height + size - 1) // size, (width + size - 1) // size
        bottom, right = rows * size - height, columns * size - width

        def split(x: Tensor) -> Tensor:  # (B, heads, N, e) -> (B * windows, heads, size * size, e)
            x = F.pad(x.unflatten(2, plane), (0, 0, 0, right, 0, bottom))
            x = x.view(batch, heads, rows, size, columns, size, x.shape[-1]).permute(0, 2, 4, 1, 3, 5, 6)
            return _copy(x).view(batch * rows * columns, heads, size * size, x.shape[-1])

        seen = None  # (B * windows, size * size)
        if valid is not None:
            seen = F.pad(valid.unflatten(1, plane), (0, right, 0, bottom))
            seen = seen.view(batch, rows, size, columns, size).transpose(2, 3).reshape(-1, size * size)
            # A window without real tokens attends to itself: some kernels return NaN if there is no key.
            seen = seen | ~seen.any(dim=1, keepdim=True)
        elif is_exporting() or height % size or width % size:
            real_rows = torch.arange(rows * size, device=query.device).view(rows, 1, size, 1) < height
            real_columns = torch.arange(columns * size, device=query.device).view(columns, 1, size) < width
            seen = (real_rows & real_columns).view(-1, size * size).repeat(batch, 1)
        out = super().attend(split(query), split(key), split(value), (size, size), seen)
        out = out.view(batch, rows, columns, heads, size, size, dim).permute(0, 1, 4, 2, 5, 3, 6)
        out = _copy(out).view(batch, rows * size, columns * size, heads, dim)
        out = F.pad(out, (0, 0, 0, 0, 0, -right, 0, -bottom))  # cut off what was padded
        return out.reshape(batch, length, heads, dim).transpose(1, 2)


def _copy(x: Tensor) -> Tensor:
    """Return a contiguous copy, without checking whether `x` is contiguous, which depends on the grid."""
    return x.clone(memory_format=torch.contiguous_format)
