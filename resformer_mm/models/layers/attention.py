"""Multi-head self-attention with room for a position module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from resformer_mm.registry import MODELS

from .exporting import is_exporting
from .local_position import LocalPosition, pad_cls_token

Grid = tuple[int, int]


class Attention(BaseModule):
    """Self-attention over all tokens, ``softmax(Q K^T / sqrt(d) + bias) V + position(V)``, then a projection.

    Args:
        embed_dims: width C.
        num_heads: number of heads; C must be a multiple of it.
        with_cls_token: whether token 0 is a class token, which position modules leave alone.
        local_position: config of a :class:`LocalPosition`, or None.
        drop_rate: dropout after the projection.

    Raises:
        ValueError: ``embed_dims`` is no multiple of ``num_heads``.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        with_cls_token: bool = True,
        local_position: dict | None = None,
        drop_rate: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if embed_dims % num_heads:
            raise ValueError(f'arch: embed_dims {embed_dims} is no multiple of num_heads {num_heads}')
        self.num_heads = num_heads
        self.with_cls_token = with_cls_token
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.drop = nn.Dropout(drop_rate)
        self.local_position: LocalPosition | None = None
        if local_position is not None:
            # The scope makes plain names ours, also inside a config of another library.
            self.local_position = MODELS.build(
                {
                    '_scope_': 'resformer_mm',
                    **local_position,
                    'embed_dims': embed_dims,
                    'num_heads': num_heads,
                }
            )

    def forward(self, tokens: Tensor, grid: Grid, valid: Tensor | None = None) -> Tensor:
        """Return the attended tokens ``(B, N, C)``; N = H * W, plus one with a class token.

        Args:
            tokens: ``(B, N, C)``.
            grid: ``(H, W)``.
            valid: ``(B, N)``, False for tokens of batch padding, which no other token then sees; their own
                output means nothing. None: all are real.
        """
        batch, length, channels = tokens.shape
        query, key, value = self.qkv(tokens).chunk(3, dim=2)
        bias = self._scores_bias(grid, valid)
        out = self._attend(self._heads(query), self._heads(key), self._heads(value), bias, grid, valid)
        out = out.transpose(1, 2).reshape(batch, length, channels)
        if self.local_position is not None:
            if valid is not None:
                # As beyond the border of an image alone, where the convolution is padded with zeros.
                value = value.masked_fill(~valid.unsqueeze(2), 0)
            out = self._add_local_position(out, value, grid)
        return self.drop(self.proj(out))

    def forward_cls(self, tokens: Tensor, grid: Grid, valid: Tensor | None = None) -> Tensor:
        """Return the attended class token alone, ``(B, 1, C)``, at a fraction of the cost.

        Equal to the first token of :meth:`forward`: one query, and no local position term, which the class
        token does not receive.
        """
        batch, _, channels = tokens.shape
        weight, bias = self.qkv.weight, self.qkv.bias
        query = F.linear(tokens[:, 0], weight[:channels], bias[:channels])
        key, value = F.linear(tokens, weight[channels:], bias[channels:]).chunk(2, dim=2)
        mask = self._scores_bias(grid, valid)
        if mask is not None:
            mask = mask[..., :1, :]
        elif valid is not None:
            mask = valid[:, None, None]
        query, key, value = self._heads(query.unsqueeze(1)), self._heads(key), self._heads(value)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out = self.proj(out.transpose(1, 2).reshape(batch, 1, channels))
        if self.local_position is not None and torch.is_grad_enabled():
            # Distributed training waits for a gradient of every parameter: here it is an exact zero.
            out = out + 0 * sum(parameter.sum() for parameter in self.local_position.parameters())
        return self.drop(out)

    def _heads(self, x: Tensor) -> Tensor:
        """Split the channels, ``(B, N, C) -> (B, num_heads, N, d)``."""
        batch, length, _ = x.shape
        return x.view(batch, length, self.num_heads, -1).transpose(1, 2)

    def _scores_bias(self, grid: Grid, valid: Tensor | None) -> Tensor | None:
        if self.local_position is None:
            return None
        bias = self.local_position.attention_bias(grid, self.with_cls_token)
        if bias is not None and valid is not None:
            raise ValueError(
                f'{type(self.local_position).__name__} gives one attention bias for the whole batch, but the '
                'images have sizes of their own: call the backbone without `sizes` (with a detector of mmdet '
                'itself), or choose a local_position without a bias'
            )
        return bias

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        grid: Grid,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Attention of ``(B, num_heads, N, d)`` tensors, among the ``valid`` ones ``(B, N)``."""
        mask = bias if valid is None else valid[:, None, None]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def _add_local_position(self, out: Tensor, value: Tensor, grid: Grid) -> Tensor:
        term = self.local_position(value[:, 1:] if self.with_cls_token else value, grid)
        if term is None:
            return out
        # `out` may be what attention saved for its backward: leave it as it is; in place is dear in ONNX.
        if torch.is_grad_enabled() or is_exporting():
            return out + pad_cls_token(term, self.with_cls_token)
        patches = out[:, 1:] if self.with_cls_token else out
        patches += term
        return out
