"""Multi-head self-attention with an optional position module."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_compiling, is_exporting
from resformer_mm.registry import MODELS

from .attention_scale import AttentionScale, build_attention_scale
from .batch_padding import BatchPadding
from .dot_product import dot_product_attention
from .grids import Grid, TokenGrid, frame_grid
from .local_position import LocalPosition, pad_prefix_tokens
from .lora import linear_rows
from .packing import Packing
from .token_drop import KeptGrid


class Attention(nn.Module):
    """Self-attention over all tokens with rotation, bias and term of a position module, and a projection::

        softmax(f * rotate(Q) rotate(K)^T / sqrt(d) + bias) V + term(V)

    The prefix tokens, class token and registers, come before the patch tokens. Position modules do not apply
    to them, except that a bias may be one of the class token, too. f is 1 without an attention scale.

    Args:
        embed_dims: width C.
        num_heads: number of heads; C must be a multiple of it.
        with_cls_token: whether token 0 is a class token.
        local_position: config of a :class:`LocalPosition`, or None.
        drop_rate: dropout after the projection.
        num_registers: number of registers, which follow the class token.
        attention_scale: config of an :class:`AttentionScale`, or None.

    Attributes:
        num_prefix_tokens: number of tokens P before the patch tokens.

    Raises:
        ValueError: ``embed_dims`` is not a multiple of ``num_heads``, or an argument of the scale is out of
            range.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        with_cls_token: bool = True,
        local_position: dict | None = None,
        drop_rate: float = 0.0,
        num_registers: int = 0,
        attention_scale: dict | None = None,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'arch: embed_dims {embed_dims} is not a multiple of num_heads {num_heads}')
        self.num_heads = num_heads
        self.with_cls_token = with_cls_token
        self.num_registers = num_registers
        self.num_prefix_tokens = int(with_cls_token) + num_registers
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
        self.attention_scale: AttentionScale | None = None
        if attention_scale is not None:
            self.attention_scale = build_attention_scale(attention_scale, num_heads)

    def forward(self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None) -> Tensor:
        """Return the attended tokens ``(B, N, C)``; N = P + H * W.

        Args:
            tokens: ``(B, N, C)``.
            grid: ``(H, W)``; of a clip ``(T, H, W)``, for attention that takes clips. A :class:`KeptGrid`
                says which of its patch tokens there are.
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
        out = self.attend_prefix(query, key, value, grid, self._valid(padding), _grids(padding))
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
        query, key = self._rotate(query, key, grid, grids, self.num_prefix_tokens)
        return self._weigh(query, key, value, self._scores_bias(grid, grids), valid)

    def attend_prefix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        grid: TokenGrid,
        valid: Tensor | None = None,
        grids: Sequence[Grid] | None = None,
    ) -> Tensor:
        """Return the weighted values for the first Q of the prefix tokens, ``(B, num_heads, Q, e)``.

        Args:
            query: ``(B, num_heads, Q, d)``.
            key: see :meth:`attend`, as all other arguments.
            value: see :meth:`attend`.
            grid: see :meth:`attend`.
            valid: see :meth:`attend`.
            grids: see :meth:`attend`.
        """
        _, key = self._rotate(key, key, grid, grids, self.num_prefix_tokens)
        bias = None
        # The bias of all pairs would cost what the attention of all pairs does.
        if self.local_position is not None and self.local_position.biases_cls_token:
            bias = self._scores_bias(grid, grids)
        if bias is not None:
            bias = bias[..., : query.shape[2], :]
        return self._weigh(query, key, value, bias, valid)

    def _weigh(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, valid: Tensor | None
    ) -> Tensor:
        """Return the weighted values ``(B, num_heads, Q, e)`` of N keys.

        Args:
            query: ``(B, num_heads, Q, d)``, rotated; so are the keys.
            key: ``(B, num_heads, N, d)``.
            value: ``(B, num_heads, N, e)``.
            bias: broadcastable to ``(B, num_heads, Q, N)``.
            valid: ``(B, N)``, False for keys to ignore.
        """
        scale = None
        if self.attention_scale is not None:
            query, scale = self.attention_scale(query, key.shape[2], valid)
        return dot_product_attention(query, key, value, _as_mask(bias, valid, query), scale)

    def _rotate(
        self, query: Tensor, key: Tensor, grid: TokenGrid, grids: Sequence[Grid] | None, first: int
    ) -> tuple[Tensor, Tensor]:
        """Rotate ``(B, num_heads, N, d)`` tensors from token ``first`` on; those before stay unchanged."""
        position = self.local_position
        if position is None or not position.rotates:
            return query, key
        patches = self._rotate_patches(position, query[:, :, first:], key[:, :, first:], grid, grids)
        # A module may compute in float32 under autocast; the fused kernel needs a single type.
        rotated = [new.to(old.dtype) for new, old in zip(patches, (query, key))]
        if first:
            rotated = [torch.cat((old[:, :, :first], new), dim=2) for new, old in zip(rotated, (query, key))]
        return rotated[0], rotated[1]

    def _rotate_patches(
        self,
        position: LocalPosition,
        query: Tensor,
        key: Tensor,
        grid: TokenGrid,
        grids: Sequence[Grid] | None,
    ) -> tuple[Tensor, Tensor]:
        if isinstance(grid, KeptGrid):
            rotated = position.rotate(grid.to_whole(query, 2), grid.to_whole(key, 2), frame_grid(grid))
            return grid.of_whole(rotated[0], 2), grid.of_whole(rotated[1], 2)
        if grids is None:
            return position.rotate(query, key, frame_grid(grid))
        return position.rotate_batch(query, key, frame_grid(grid), grids)

    def _scores_bias(self, grid: TokenGrid, grids: Sequence[Grid] | None) -> Tensor | None:
        """Return the bias of the scores, broadcastable to ``(B, num_heads, N, N)``."""
        if self.local_position is None:
            return None
        plane = frame_grid(grid)
        if grids is None:
            bias = self.local_position.attention_bias(plane, self.with_cls_token)
        else:
            bias = self.local_position.bias_of_batch(plane, grids, self.with_cls_token)
        if bias is not None and self.num_registers:
            bias = _add_registers(bias, plane, int(self.with_cls_token), self.num_registers)
        if bias is not None and isinstance(grid, KeptGrid):
            bias = grid.pairs_of_whole(bias, self.num_prefix_tokens)
        return bias

    def _term(self, value: Tensor, grid: TokenGrid, padding: BatchPadding | None) -> Tensor | None:
        """Return the term of patch tokens ``(B, H * W, C)``."""
        if self.local_position is None:
            return None
        if isinstance(grid, KeptGrid):
            term = self.local_position(grid.to_whole(value, 1), frame_grid(grid))
            return None if term is None else grid.of_whole(term, 1)
        if padding is None:
            return self.local_position(value, frame_grid(grid))
        return self.local_position.term_of_batch(value, frame_grid(grid), padding)

    def _add_term(self, out: Tensor, value: Tensor, grid: TokenGrid, padding: BatchPadding | None) -> Tensor:
        first = self.num_prefix_tokens
        term = self._term(value[:, first:] if first else value, grid, padding)
        if term is None:
            return out
        # Not in place: attention may have saved `out` for its backward pass, and ONNX makes it slow.
        if torch.is_grad_enabled() or is_exporting():
            if first and is_compiling() and not is_exporting():
                return torch.cat((out[:, :first], out[:, first:] + term), dim=1)  # fuses, unlike padding
            return out + pad_prefix_tokens(term, first)
        patches = out[:, first:] if first else out
        patches += term
        return out

    def _valid(self, padding: BatchPadding | None) -> Tensor | None:
        """Return which tokens are real, ``(B, N)``; the prefix tokens always are."""
        first = self.num_prefix_tokens
        if padding is None or not first:
            return None if padding is None else padding.valid
        return F.pad(padding.valid, (first, 0), value=True)


def _grids(padding: BatchPadding | None) -> Sequence[Grid] | None:
    return None if padding is None else padding.grids


def _add_registers(bias: Tensor, grid: Grid, first: int, number: int) -> Tensor:
    """Return a bias ``(..., N + R, N + R)`` with zeros for the pairs with R registers.

    Args:
        bias: broadcastable to ``(..., N, N)``.
        grid: ``(H, W)``; N = first + H * W.
        first: number of tokens before the registers.
        number: R.
    """
    length = first + grid[0] * grid[1]
    bias = bias.expand(*bias.shape[:-2], length, length)
    bias = torch.cat((bias[..., :first, :], F.pad(bias[..., first:, :], (0, 0, number, 0))), dim=-2)
    return torch.cat((bias[..., :first], F.pad(bias[..., first:], (number, 0))), dim=-1)


def _as_mask(bias: Tensor | None, valid: Tensor | None, query: Tensor) -> Tensor | None:
    """Return the mask of the fused kernel: the bias of the scores, minus infinity for keys to ignore."""
    seen = None if valid is None else valid[:, None, None]
    if bias is None:
        return seen
    bias = bias.to(query.dtype)[(None,) * (4 - bias.ndim)]  # the fused kernels need four dimensions
    if is_exporting():  # broadcasting would ask whether there is a single image
        bias = bias.expand(query.shape[0], -1, -1, -1)
    return bias if seen is None else bias.masked_fill(~seen, -math.inf)
