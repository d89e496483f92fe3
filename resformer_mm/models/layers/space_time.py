"""Attention over the frames of a clip and the patches of each frame (TimeSformer, Section 3).

The tokens of a clip are ``(B, 1 + T * N, C)``: the class token, if there is one, then the N = H * W patches
of the first frame, of the second, and so on. The grid is ``(T, H, W)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resformer_mm.compat.tracing import dense_in_export, is_exporting

from .attention import Attention
from .batch_padding import BatchPadding
from .block import Block, PreNormBlock
from .checkpointed_mlp import CheckpointedMLP
from .dot_product import dot_product_attention
from .drop_path import Draws
from .grids import ClipGrid, Grid, TokenGrid, frame_count, frame_grid
from .local_position import LocalPosition, pad_prefix_tokens
from .lora import linear_rows
from .packing import Packing


def split_frames(tokens: Tensor, num_frames: int, with_cls_token: bool) -> Tensor:
    """Return frames as images, each with a copy of the class token: ``(B * T, 1 + N, C)``."""
    patches = tokens[:, 1:] if with_cls_token else tokens
    frames = patches.unflatten(1, (num_frames, -1))
    if with_cls_token:
        copies = tokens[:, None, :1].expand(-1, num_frames, -1, -1)
        frames = torch.cat((copies, frames), dim=2)
    return frames.flatten(0, 1)


def merge_frames(frames: Tensor, num_frames: int, with_cls_token: bool) -> Tensor:
    """Join the frames of each clip, and average their class tokens: ``(B, 1 + T * N, C)``."""
    frames = frames.unflatten(0, (-1, num_frames))
    if not with_cls_token:
        return frames.flatten(1, 2)
    cls_tokens, patches = frames.split((1, frames.shape[2] - 1), dim=2)
    return torch.cat((cls_tokens.mean(dim=1), dense_in_export(patches).flatten(1, 2)), dim=1)


class TemporalAttention(nn.Module):
    """Self-attention of every patch position over the frames of its clip, without position information.

    Args:
        embed_dims: width C, a multiple of ``num_heads``.
        num_heads: number of heads.
        drop_rate: dropout after the projection.
    """

    max_sequences = 65535  # largest number of heads in one call on a CUDA GPU

    def __init__(self, embed_dims: int, num_heads: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, tokens: Tensor, grid: ClipGrid) -> Tensor:
        """Return the attended patch tokens ``(B, T * N, C)``."""
        return self.drop(self.proj(self._mix(*self._project(tokens), grid)))

    def forward_packed(self, rows: Tensor, packing: Packing) -> Tensor:
        """Return :meth:`forward` of several batches, rows of patches ``(R, C)`` to rows ``(R, C)``."""
        queries, keys, values = (packing.unpack(part) for part in self._project(rows))
        batches = zip(queries, keys, values, packing.grids)
        mixed = [self._mix(query, key, value, grid) for query, key, value, grid in batches]
        return self.drop(self.proj(packing.pack(mixed)))

    def _project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each of the shape of the tokens."""
        channels = tokens.shape[-1]
        # With separate projections, query, key and value are views (B, N * num_heads, T, d) without copies:
        # positions of a frame and heads are adjacent, and together serve as the heads of the attention.
        query, key, value = (
            linear_rows(self.qkv, tokens, slice(part * channels, (part + 1) * channels)) for part in range(3)
        )
        return query, key, value

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, grid: TokenGrid) -> Tensor:
        """Return what is projected, ``(B, T * N, C)``, of queries, keys and values of this shape."""
        batch, length, channels = query.shape
        head_dim = channels // self.num_heads
        query, key, value = (
            x.view(batch, frame_count(grid), -1, head_dim).transpose(1, 2) for x in (query, key, value)
        )
        if is_exporting():  # the program would have the number of parts of its example
            out = dot_product_attention(query, key, value)
        else:
            parts = zip(*(x.split(self.max_sequences, dim=1) for x in (query, key, value)))
            outs = [dot_product_attention(*part) for part in parts]
            out = outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)
        return dense_in_export(out.transpose(1, 2)).reshape(batch, length, channels)


class JointAttention(Attention):
    """Self-attention among all tokens of a clip, of any number of frames.

    The local position is that of a frame: term and rotation are computed in each frame separately, and the
    bias between two patches, or between a patch and the class token, is the same in all frames.
    """

    def _rotate_patches(
        self,
        position: LocalPosition,
        query: Tensor,
        key: Tensor,
        grid: TokenGrid,
        grids: Sequence[Grid] | None,
    ) -> tuple[Tensor, Tensor]:
        number = frame_count(grid)
        queries, keys = (
            # (B * T, num_heads, H * W, d)
            dense_in_export(x.unflatten(2, (number, -1)).transpose(1, 2)).flatten(0, 1)
            for x in (query, key)
        )
        query, key = (
            dense_in_export(x.unflatten(0, (-1, number)).transpose(1, 2)).flatten(2, 3)
            for x in super()._rotate_patches(position, queries, keys, frame_grid(grid), grids)
        )
        return query, key

    def _scores_bias(self, grid: TokenGrid, grids: Sequence[Grid] | None) -> Tensor | None:
        bias = super()._scores_bias(grid, grids)
        if bias is None:
            return None
        first = self.num_prefix_tokens
        height, width = frame_grid(grid)
        length = height * width + first
        bias = bias.expand(*bias.shape[:-2], length, length)
        for dim in (-2, -1):
            cls_part, patches = bias.split((first, length - first), dim=dim)
            times = [1] * bias.ndim
            times[dim] = frame_count(grid)
            bias = torch.cat((cls_part, patches.repeat(times)), dim=dim)
        return bias

    def _term(self, value: Tensor, grid: TokenGrid, padding: BatchPadding | None) -> Tensor | None:
        number = frame_count(grid)
        frames = dense_in_export(value.unflatten(1, (number, -1))).flatten(0, 1)
        term = super()._term(frames, grid, padding)
        return None if term is None else dense_in_export(term.unflatten(0, (-1, number))).flatten(1, 2)


class ClipBlock(Block):
    """A :class:`Block` for the many tokens of a clip, with a :class:`CheckpointedMLP`.

    The arguments are those of :class:`Block`.
    """

    def __init__(
        self, embed_dims: int, attn: Attention, feedforward_channels: int, drop_rate: float = 0.0, **kwargs
    ) -> None:
        super().__init__(embed_dims, attn, feedforward_channels, drop_rate, **kwargs)
        self.mlp = CheckpointedMLP(embed_dims, feedforward_channels, drop_rate)


class DividedBlock(PreNormBlock):
    """Pre-norm block of attention over time, attention over space, and MLP (TimeSformer, Section 3).

    With ``x`` the patch tokens and ``c`` the class token, t a frame and p a patch position::

        x[:, p] <- x[:, p] + temporal_fc(temporal_attn(temporal_norm(x[:, p])))        for every p
        y[t]     = attn(norm1([c, x[t]]))                                              for every t
        x[t]    <- x[t] + y[t, 1:],    c <- c + 1/T sum_t y[t, 0]
        z       <- z + mlp(norm2(z))                                                   for z = c and every x

    The class token does not take part in the attention over time. ``temporal_fc`` starts at zero, so a new
    block treats every frame as a :class:`Block` with the same ``norm1``, ``attn``, ``norm2`` and ``mlp``
    treats an image. The arguments are those of :class:`Block`; ``drop_rate`` is also the dropout in the
    attention over time.
    """

    num_branches = 3

    def __init__(
        self, embed_dims: int, attn: Attention, feedforward_channels: int, drop_rate: float = 0.0, **kwargs
    ) -> None:
        super().__init__(embed_dims, attn, feedforward_channels, drop_rate, **kwargs)
        self.mlp = CheckpointedMLP(embed_dims, feedforward_channels, drop_rate)
        self.temporal_norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.temporal_attn = TemporalAttention(embed_dims, attn.num_heads, drop_rate)
        self.temporal_fc = nn.Linear(embed_dims, embed_dims)

    def forward(self, tokens: Tensor, grid: ClipGrid) -> Tensor:
        """Return tokens of the same shape ``(B, 1 + T * N, C)``."""

        def attend(part: Tensor, kept: Tensor | None) -> Tensor:
            attended = self.attn(self._frames(self.norm1(part), grid), grid[1:])
            return merge_frames(attended, grid[0], self.attn.with_cls_token)

        tokens = self._attend_time(tokens, grid)
        return self._mlp(self.drop_path.add(tokens, tokens, attend))

    def forward_cls(self, tokens: Tensor, grid: ClipGrid) -> Tensor:
        """Return the class token alone, ``(B, 1, C)``, equal to the first token of :meth:`forward`."""

        def attend(part: Tensor, kept: Tensor | None) -> Tensor:
            attended = self.attn.forward_cls(self._frames(self.norm1(part), grid), grid[1:])
            return merge_frames(attended, grid[0], True)

        tokens = self._attend_time(tokens, grid)
        return self._mlp(self.drop_path.add(tokens[:, :1], tokens, attend))

    def forward_packed(self, rows: Tensor, packing: Packing, draws: Sequence[Draws]) -> Tensor:
        """Return :meth:`forward` of several batches, see :meth:`Block.forward_packed`.

        The draws are for attention over time, attention over space and MLP.
        """

        def attend(part: Tensor, of: Packing) -> Tensor:
            frames = self._frame_packing(of)
            attended = self.attn.forward_packed(self._packed_frames(part, of, frames), frames)
            return self._merge_packed(frames.unpack(attended), of)

        rows = self._attend_time_packed(rows, packing, draws[0])
        rows = self.drop_path.add_packed(rows, rows, draws[1], attend, packing)
        return self._mlp_packed(rows, packing, draws[2])

    def forward_cls_packed(self, rows: Tensor, packing: Packing, draws: Sequence[Draws]) -> Tensor:
        """Return :meth:`forward_cls` of several batches, rows ``(R, C)`` to one row per clip, ``(S, C)``."""

        def attend(part: Tensor, of: Packing) -> Tensor:
            frames = self._frame_packing(of)
            attended = self.attn.forward_cls_packed(self._packed_frames(part, of, frames), frames)
            return self._merge_packed(frames.unpack_samples(attended), of)

        rows = self._attend_time_packed(rows, packing, draws[0])
        samples = packing.samples()
        first = packing.first_rows(rows)
        first = self.drop_path.add_packed(first, rows, draws[1], attend, packing, samples)
        return self._mlp_packed(first, samples, draws[2])

    def _attend_time(self, tokens: Tensor, grid: ClipGrid) -> Tensor:
        def attend(part: Tensor, kept: Tensor | None) -> Tensor:
            attended = self.temporal_attn(self.temporal_norm(self._patches(part)), grid)
            return pad_prefix_tokens(self.temporal_fc(attended), self.attn.with_cls_token)

        return self.drop_path.add(tokens, tokens, attend)

    def _attend_time_packed(self, rows: Tensor, packing: Packing, draws: Draws) -> Tensor:
        def attend(part: Tensor, of: Packing) -> Tensor:
            with_cls_token = self.attn.with_cls_token
            patches = Packing([(batch, length - with_cls_token) for batch, length in of.shapes], of.grids)
            normed = self.temporal_norm(patches.pack([self._patches(tokens) for tokens in of.unpack(part)]))
            attended = patches.unpack(self.temporal_fc(self.temporal_attn.forward_packed(normed, patches)))
            return of.pack([pad_prefix_tokens(tokens, with_cls_token) for tokens in attended])

        return self.drop_path.add_packed(rows, rows, draws, attend, packing)

    def _patches(self, tokens: Tensor) -> Tensor:
        return tokens[:, 1:] if self.attn.with_cls_token else tokens

    def _frames(self, tokens: Tensor, grid: TokenGrid) -> Tensor:
        return split_frames(tokens, frame_count(grid), self.attn.with_cls_token)

    def _frame_packing(self, packing: Packing) -> Packing:
        """Return where the frames lie in the matrix of those of all clips."""
        shapes = [
            (batch * frame_count(grid), math.prod(frame_grid(grid)) + self.attn.with_cls_token)
            for (batch, _), grid in zip(packing.shapes, packing.grids)
        ]
        return Packing(shapes, [frame_grid(grid) for grid in packing.grids])

    def _packed_frames(self, rows: Tensor, packing: Packing, frames: Packing) -> Tensor:
        clips = zip(packing.unpack(self.norm1(rows)), packing.grids)
        return frames.pack([self._frames(tokens, grid) for tokens, grid in clips])

    def _merge_packed(self, frames: Sequence[Tensor], packing: Packing) -> Tensor:
        """Return the rows of clips, given the frames of each batch of clips."""
        with_cls_token = self.attn.with_cls_token
        merged = [
            merge_frames(one, frame_count(grid), with_cls_token) for one, grid in zip(frames, packing.grids)
        ]
        return torch.cat([one.flatten(0, 1) for one in merged])
