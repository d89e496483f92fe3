"""Attention inside non-overlapping windows, for large maps as in ViTDet-like detectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.compat.tracing import dense_in_export, is_compiling, is_exporting

from .attention import Attention
from .grids import Grid, TokenGrid, frame_grid

Shared = tuple[Tensor, Tensor] | None  # keys and values of prefix tokens, (B, num_heads, P, d or e)


class WindowAttention(Attention):
    """Self-attention within windows of ``window_size`` x ``window_size`` tokens that do not shift or overlap.

    If the window does not divide the map, the windows at the bottom and the right are smaller: every token
    attends to exactly the tokens of its window. The bias and rotation of a local position are those of the
    grid ``(window_size, window_size)``, the same for every window. Its term is that of the whole map, across
    window borders.

    The prefix tokens, class token and registers, belong to every window: patch tokens attend to them and to
    their window in one softmax, which treats the window like an image with these prefix tokens. The prefix
    tokens themselves attend to all tokens of the map, as in :class:`Attention`. The cost grows linearly with
    the number of tokens.

    Smaller windows are attended to apart from the others. They are padded to the size of the others, and the
    padding is masked, only where one computation must fit all of them: for a bias or a rotation, in padded
    batches, and in compiled code, which holds for maps that the window divides and for others.

    Args:
        window_size: side of a window in tokens. No weight depends on it, and the attribute may be changed at
            any time.
        **kwargs: arguments of :class:`Attention`.

    Raises:
        ValueError: ``window_size`` is not a positive integer.
    """

    def __init__(self, *args, window_size: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.window_size = window_size

    @property
    def window_size(self) -> int:
        """Side of a window in tokens."""
        return self._window_size

    @window_size.setter
    def window_size(self, size: int) -> None:
        if type(size) is not int or size < 1:
            raise ValueError(f'window_size must be a positive number of tokens, got {size!r}')
        self._window_size = size

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        grid: TokenGrid,
        valid: Tensor | None = None,
        grids: Sequence[Grid] | None = None,
    ) -> Tensor:
        """Return the weighted values ``(B, num_heads, N, e)``; the arguments are those of Attention."""
        height, width = frame_grid(grid)
        first = self.num_prefix_tokens
        patches = [x[:, :, first:] if first else x for x in (query, key, value)]
        maps = [x.unflatten(2, (height, width)) for x in patches]
        shared = (key[:, :, :first], value[:, :, :first]) if first else None
        # Parts of the map would take a compilation for every way in which the edges cut windows off.
        if valid is not None or is_compiling():
            out = self._attend_padded(maps, shared, None if valid is None else valid[:, first:])
        else:
            out = self._attend_parts(maps, shared)
        out = out.flatten(1, 2)
        if first:
            prefix = self.attend_prefix(query[:, :, :first], key, value, grid, valid, grids)
            out = torch.cat((prefix.transpose(1, 2), out), dim=1)
        return out.transpose(1, 2)

    def _attend_parts(self, maps: Sequence[Tensor], shared: Shared) -> Tensor:
        """Return ``(B, H, W, num_heads, e)`` of queries, keys, values ``(B, num_heads, H, W, e)``.

        Windows of one size are attended to together: those inside, and those that the right, the bottom and
        both edges of the map cut off. None of them needs padding or a mask.
        """
        strips = []
        for strip in zip(*(_split(x, self.window_size, axis=2) for x in maps)):
            parts = zip(*(_split(x, self.window_size, axis=3) for x in strip))
            strips.append(_concatenate([self._attend_part(part, shared) for part in parts], axis=2))
        return _concatenate(strips, axis=1)

    def _attend_part(self, maps: Sequence[Tensor], shared: Shared) -> Tensor:
        """Return ``(B, H, W, num_heads, e)`` of a part of the map whose windows have one size."""
        size, (height, width) = self.window_size, maps[0].shape[2:4]
        window = min(size, height), min(size, width)
        if window != (size, size) and self._needs_whole_windows():
            return self._attend_padded(maps, shared, None)
        query, key, value = (_partition(x, window) for x in maps)
        out = self._attend_windows(query, key, value, shared, window)
        return _join(out, (height // window[0], width // window[1]), window)

    def _attend_windows(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        shared: Shared,
        window: Grid,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Return the weighted values of the patch tokens of windows, ``(B * windows, num_heads, h * w, e)``.

        Args:
            query: ``(B * windows, num_heads, h * w, d)``.
            key: of the same shape.
            value: ``(B * windows, num_heads, h * w, e)``.
            shared: keys and values of the prefix tokens of the images.
            window: ``(h, w)``; no local position acts on a part of a window.
            seen: ``(B * windows, h * w)``, False for tokens that no token attends to.
        """
        first, bias = self.num_prefix_tokens, None
        if window == (self.window_size, self.window_size):
            query, key = self._rotate(query, key, window, None, first=0)
            bias = self._scores_bias(window, None)
        if shared is not None:
            key, value = (_share(prefix, x) for prefix, x in zip(shared, (key, value)))
            seen = None if seen is None else F.pad(seen, (first, 0), value=True)
            if bias is not None:
                length = first + window[0] * window[1]
                bias = bias.expand(*bias.shape[:-2], length, length)[..., first:, :]
        return self._weigh(query, key, value, bias, seen)

    def _needs_whole_windows(self) -> bool:
        """Return whether the local position has a bias or a rotation, which are those of a whole window."""
        position, size = self.local_position, self.window_size
        if position is None:
            return False
        return position.rotates or position.attention_bias((size, size), with_cls_token=False) is not None

    def _attend_padded(self, maps: Sequence[Tensor], shared: Shared, valid: Tensor | None) -> Tensor:
        """Return ``(B, H, W, num_heads, e)`` of a map that is padded to whole windows, with masked keys.

        Args:
            maps: queries, keys and values, ``(B, num_heads, H, W, e)`` each.
            shared: keys and values of the prefix tokens.
            valid: ``(B, H * W)``, False for tokens that no token attends to. None: all are attended to.
        """
        size, (batch, _, height, width, _) = self.window_size, maps[0].shape
        rows, columns = (height + size - 1) // size, (width + size - 1) // size
        bottom, right = rows * size - height, columns * size - width
        pads = is_exporting() or bottom > 0 or right > 0
        seen = None
        if valid is None and pads:
            real_rows = torch.arange(rows * size, device=maps[0].device).view(rows, 1, size, 1) < height
            real_columns = torch.arange(columns * size, device=maps[0].device).view(columns, 1, size) < width
            seen = (real_rows & real_columns).view(-1, size * size).repeat(batch, 1)
        elif valid is not None:
            seen = F.pad(valid.unflatten(1, (height, width)), (0, right, 0, bottom))
            seen = seen.view(batch, rows, size, columns, size).transpose(2, 3).reshape(-1, size * size)
            # A window without real tokens attends to itself: some kernels return NaN if there is no key.
            seen = seen | ~seen.any(dim=1, keepdim=True)
        if pads:
            maps = [F.pad(x, (0, 0, 0, right, 0, bottom)) for x in maps]
        query, key, value = (_partition(x, (size, size)) for x in maps)
        out = self._attend_windows(query, key, value, shared, (size, size), seen)
        out = _join(out, (rows, columns), (size, size))
        # Not slices: an exported program could not tell whether they leave anything.
        return F.pad(out, (0, 0, 0, 0, 0, -right, 0, -bottom)) if pads else out


def _split(x: Tensor, size: int, axis: int) -> Sequence[Tensor]:
    """Split off what is left along an axis after whole windows."""
    left = x.shape[axis] % size
    return [x] if left in (0, x.shape[axis]) else x.split([x.shape[axis] - left, left], axis)


def _concatenate(parts: list[Tensor], axis: int) -> Tensor:
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]  # `cat` copies a single tensor, too


def _partition(x: Tensor, window: Grid) -> Tensor:
    """Return the tokens of windows, ``(B * windows, heads, h * w, e)``, of a map ``(B, heads, H, W, e)``."""
    rows, columns = x.shape[2] // window[0], x.shape[3] // window[1]
    x = x.unflatten(3, (columns, window[1])).unflatten(2, (rows, window[0]))
    # In memory, the heads of a token are side by side, as attention lays out its result and its gradients.
    x = dense_in_export(x.permute(0, 2, 4, 3, 5, 1, 6))
    return x.flatten(3, 4).flatten(0, 2).transpose(1, 2)


def _share(prefix: Tensor, windows: Tensor) -> Tensor:
    """Return the tokens of windows after the prefix tokens of their images.

    Args:
        prefix: ``(B, heads, P, e)``.
        windows: ``(B * windows, heads, S, e)``; the result has ``P + S`` tokens.
    """
    rows = windows.transpose(1, 2).unflatten(0, (prefix.shape[0], -1))  # (B, windows, S, heads, e)
    copies = prefix.transpose(1, 2).unsqueeze(1).expand(-1, rows.shape[1], -1, -1, -1)
    return torch.cat((copies, rows), dim=2).flatten(0, 1).transpose(1, 2)


def _join(tokens: Tensor, windows: Grid, window: Grid) -> Tensor:
    """Return the map ``(B, H, W, heads, e)`` of the tokens of its windows, see :func:`_partition`.

    Args:
        tokens: ``(B * windows, heads, h * w, e)``.
        windows: number of windows down and across the map.
        window: ``(h, w)``.
    """
    x = dense_in_export(tokens.transpose(1, 2)).unflatten(1, window).unflatten(0, (-1, *windows))
    return dense_in_export(x.transpose(2, 3)).flatten(3, 4).flatten(1, 2)
