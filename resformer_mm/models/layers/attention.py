"""Multi-head self-attention with an optional position module."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_compiling, is_exporting
from resformer_mm.registry import MODELS

from .batch_padding import BatchPadding
from .dot_product import dot_product_attention
from .grids import Grid, TokenGrid, frame_grid
from .local_position import LocalPosition, pad_cls_token
from .lora import linear_rows
from .packing import Packing


class Attention(nn.Module):
    """Self-attention over all tokens with rotation, bias and term of a position module, and a projection::

        softmax(rotate(Q) rotate(K)^T / sqrt(d) + bias) V + term(V)

    Args:
        embed_dims: width C.
        num_heads: number of heads; C must be a multiple of it.
        with_cls_token: whether token 0 is a class token, to which position modules do not apply.
        local_position: config of a :class:`LocalPosition`, or None.
        drop_rate: dropout after the projection.

    Raises:
        ValueError: ``embed_dims`` is not a multiple of ``num_heads``.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        with_cls_token: bool = True,
        local_position: dict | None = None,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'arch: embed_dims {embed_dims} is not a multiple of num_heads {num_heads}')
        self.num_heads = num_heads
        self.with_cls_token = with_cls_token
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.drop = nn.Dropout(drop_rate)
        self.local_position: LocalPosition | None = None
        if local_position is not None:
            # With this scope, plain names are those of this package, also in a config of another library.
            self.local_position = MODELS.build(
                {
                    '_scope_': 'resformer_mm',
                    **local_position,
                    'embed_dims': embed_dims,
                    'num_heads': num_heads,
                }
            )

    def forward(self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None) -> Tensor:
        """Return the attended tokens ``(B, N, C)``; N = H * W, plus one with a class token.

        Args:
            tokens: ``(B, N, C)``.
            grid: ``(H, W)``; of a clip ``(T, H, W)``, for attention that takes clips.
            padding: which tokens belong to the images of a padded batch. No token attends to the others, and
                the output of the others is undefined. None: all tokens are real.
        """
        return self.drop(self.proj(self._mix(self.qkv(tokens), grid, padding)))

    def forward_packed(self, rows: Tensor, packing: Packing) -> Tensor:
        """Return :meth:`forward` of several batches, rows ``(R, C)`` to rows ``(R, C)``.

        The linear layers work on all rows at once, and each batch attends on its own grid.
        """
        mixed = [
            self._mix(qkv, grid, None) for qkv, grid in zip(packing.unpack(self.qkv(rows)), packing.grids)
        ]
        return self.drop(self.proj(packing.pack(mixed)))

    def _mix(self, qkv: Tensor, grid: TokenGrid, padding: BatchPadding | None) -> Tensor:
        """Return what is projected, ``(B, N, C)``, of queries, keys and values ``(B, N, 3 * C)``."""
        query, key, value = qkv.chunk(3, dim=2)
        split = self.split_heads
        out = self.attend(split(query), split(key), split(value), grid, self._valid(padding), _grids(padding))
        return self._add_term(out.transpose(1, 2).reshape(value.shape), value, grid, padding)

    def forward_cls(self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None) -> Tensor:
        """Return the attended class token alone, ``(B, 1, C)``, at a fraction of the cost.

        Equal to the first token of :meth:`forward`: one query, which is not rotated, and no term of the
        local position, which the class token does not receive.
        """
        channels = tokens.shape[2]
        query = linear_rows(self.qkv, tokens[:, 0], slice(channels)).unsqueeze(1)
        keys_values = linear_rows(self.qkv, tokens, slice(channels, None))
        return self._project_cls(self._mix_cls(query, keys_values, grid, padding))

    def forward_cls_packed(self, rows: Tensor, packing: Packing) -> Tensor:
        """Return :meth:`forward_cls` of several batches, rows ``(R, C)`` to one row per image, ``(S, C)``."""
        channels = rows.shape[1]
        queries = linear_rows(self.qkv, packing.first_rows(rows), slice(channels))
        keys_values = linear_rows(self.qkv, rows, slice(channels, None))
        parts = zip(packing.unpack_samples(queries), packing.unpack(keys_values), packing.grids)
        mixed = [self._mix_cls(query, key_value, grid, None)[:, 0] for query, key_value, grid in parts]
        return self._project_cls(torch.cat(mixed))

    def _mix_cls(
        self, query: Tensor, keys_values: Tensor, grid: TokenGrid, padding: BatchPadding | None
    ) -> Tensor:
        """Return what is projected, ``(B, 1, C)``, of queries ``(B, 1, C)``, keys, values ``(B, N, 2C)``."""
        batch, _, channels = query.shape
        query, key, value = (self.split_heads(x) for x in (query, *keys_values.chunk(2, dim=2)))
        grids = _grids(padding)
        _, key = self._rotate(key, key, grid, grids)
        scores_bias = self._scores_bias(grid, grids)
        if scores_bias is not None:
            scores_bias = scores_bias[..., :1, :]
        mask = _as_mask(scores_bias, self._valid(padding), query)
        out = dot_product_attention(query, key, value, mask)
        return out.transpose(1, 2).reshape(batch, 1, channels)

    def _project_cls(self, mixed: Tensor) -> Tensor:
        out = self.proj(mixed)
        if self.local_position is not None and torch.is_grad_enabled():
            # Distributed training waits for a gradient of every parameter: here it is an exact zero.
            out = out + 0 * sum(parameter.sum() for parameter in self.local_position.parameters())
        return self.drop(out)

    def split_heads(self, x: Tensor) -> Tensor:
        """Split the channels, ``(B, N, C) -> (B, num_heads, N, d)``."""
        batch, length, _ = x.shape
        return x.view(batch, length, self.num_heads, -1).transpose(1, 2)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        grid: TokenGrid,
        valid: Tensor | None = None,
        grids: Sequence[Grid] | None = None,
    ) -> Tensor:
        """Return the weighted values, ``(B, num_heads, N, d)``: attention with rotation and bias, no term.

        Args:
            query: ``(B, num_heads, N, d)``, before rotation; so is ``key``.
            key: see ``query``.
            value: ``(B, num_heads, N, e)`` with any e.
            grid: as in :meth:`forward`.
            valid: ``(B, N)``, False for tokens that no token attends to. None: all are attended to.
            grids: the token grid of each image of a padded batch. None: all have ``grid``.
        """
        query, key = self._rotate(query, key, grid, grids)
        mask = _as_mask(self._scores_bias(grid, grids), valid, query)
        return dot_product_attention(query, key, value, mask)

    def _rotate(
        self, query: Tensor, key: Tensor, grid: TokenGrid, grids: Sequence[Grid] | None
    ) -> tuple[Tensor, Tensor]:
        """Rotate the patch tokens of ``(B, num_heads, N, d)`` tensors; the class token stays unchanged."""
        position = self.local_position
        if position is None or not position.rotates:
            return query, key
        first = int(self.with_cls_token)
        patches = self._rotate_patches(position, query[:, :, first:], key[:, :, first:], grid, grids)
        # A module may compute in float32 under autocast; the fused kernel needs a single type.
        rotated = [new.to(old.dtype) for new, old in zip(patches, (query, key))]
        if first:
            rotated = [torch.cat((old[:, :, :1], new), dim=2) for new, old in zip(rotated, (query, key))]
        return rotated[0], rotated[1]

    def _rotate_patches(
        self,
        position: LocalPosition,
        query: Tensor,
        key: Tensor,
        grid: TokenGrid,
        grids: Sequence[Grid] | None,
    ) -> tuple[Tensor, Tensor]:
        if grids is None:
            return position.rotate(query, key, frame_grid(grid))
        return position.rotate_batch(query, key, frame_grid(grid), grids)

    def _scores_bias(self, grid: TokenGrid, grids: Sequence[Grid] | None) -> Tensor | None:
        """Return the bias of the scores, broadcastable to ``(B, num_heads, N, N)``."""
        if self.local_position is None:
            return None
        if grids is None:
            return self.local_position.attention_bias(frame_grid(grid), self.with_cls_token)
        return self.local_position.bias_of_batch(frame_grid(grid), grids, self.with_cls_token)

    def _term(self, value: Tensor, grid: TokenGrid, padding: BatchPadding | None) -> Tensor | None:
        """Return the term of patch tokens ``(B, H * W, C)``."""
        if self.local_position is None:
            return None
        if padding is None:
            return self.local_position(value, frame_grid(grid))
        return self.local_position.term_of_batch(value, frame_grid(grid), padding)

    def _add_term(self, out: Tensor, value: Tensor, grid: TokenGrid, padding: BatchPadding | None) -> Tensor:
        term = self._term(value[:, 1:] if self.with_cls_token else value, grid, padding)
        if term is None:
            return out
        # Not in place: attention may have saved `out` for its backward pass, and ONNX makes it slow.
        if torch.is_grad_enabled() or is_exporting():
            if self.with_cls_token and is_compiling() and not is_exporting():
                return torch.cat((out[:, :1], out[:, 1:] + term), dim=1)  # fuses, unlike padding
            return out + pad_cls_token(term, self.with_cls_token)
        patches = out[:, 1:] if self.with_cls_token else out
        patches += term
        return out

    def _valid(self, padding: BatchPadding | None) -> Tensor | None:
        """Return which tokens are real, ``(B, N)``; the class token always is real."""
        if padding is None:
            return None
        return F.pad(padding.valid, (1, 0), value=True) if self.with_cls_token else padding.valid


def _grids(padding: BatchPadding | None) -> Sequence[Grid] | None:
    return None if padding is None else padding.grids


def _as_mask(bias: Tensor | None, valid: Tensor | None, query: Tensor) -> Tensor | None:
    """Return the mask of the fused kernel: the bias of the scores, minus infinity for keys to ignore."""
    seen = None if valid is None else valid[:, None, None]
    if bias is None:
        return seen
    bias = bias.to(query.dtype)[(None,) * (4 - bias.ndim)]  # the fused kernels need four dimensions
    if is_exporting():  # broadcasting would ask whether there is a single image
        bias = bias.expand(query.shape[0], -1, -1, -1)
    return bias if seen is None else bias.masked_fill(~seen, -math.inf)
