"""Transformer blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .batch_padding import BatchPadding
from .grids import TokenGrid


class DropPath(nn.Module):
    """Stochastic depth: in training, drop the residual branch of whole samples with probability ``rate``.

    Kept branches are scaled by ``1 / (1 - rate)``, which preserves the expectation.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, ...)`` with some samples zeroed."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)


class MLP(nn.Module):
    """Two linear layers with an exact GELU in between, ``(B, N, C) -> (B, N, C)``."""

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, feedforward_channels)
        self.fc2 = nn.Linear(feedforward_channels, embed_dims)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP to every token."""
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class PreNormBlock(nn.Module):
    """Base class of the blocks: their modules and the MLP branch. Subclasses implement the attention.

    Args:
        embed_dims: width C.
        attn: the block's attention.
        feedforward_channels: hidden width of the MLP.
        drop_rate: dropout in the MLP.
        drop_path_rate: stochastic depth of both branches.
    """

    forward_cls: Callable[..., Tensor]
    """Takes what ``forward`` takes, and returns the class token alone, ``(B, 1, C)``."""

    def __init__(
        self,
        embed_dims: int,
        attn: Attention,
        feedforward_channels: int,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = attn
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = MLP(embed_dims, feedforward_channels, drop_rate)
        self.drop_path = DropPath(drop_path_rate)

    def _mlp(self, tokens: Tensor) -> Tensor:
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class Block(PreNormBlock):
    """Pre-norm transformer block: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``.

    The arguments are those of :class:`PreNormBlock`.
    """

    def forward(self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None) -> Tensor:
        """Return tokens of the same shape ``(B, N, C)``; ``padding`` as in :class:`Attention`."""
        return self._mlp(tokens + self.drop_path(self.attn(self.norm1(tokens), grid, padding=padding)))

    def forward_cls(self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None) -> Tensor:
        """Return the class token alone, ``(B, 1, C)``, equal to the first token of :meth:`forward`."""
        attended = self.attn.forward_cls(self.norm1(tokens), grid, padding=padding)
        return self._mlp(tokens[:, :1] + self.drop_path(attended))
