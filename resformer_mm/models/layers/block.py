"""Transformer blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .batch_padding import BatchPadding
from .grids import TokenGrid
from .packing import Packing

BranchFactors = tuple[Tensor | None, Tensor | None]  # of attention and MLP, one per image


class DropPath(nn.Module):
    """Stochastic depth: in training, drop the residual branch of whole samples with probability ``rate``.

    Kept branches are scaled by ``1 / (1 - rate)``, which preserves the expectation.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, ...)`` with some samples zeroed."""
        factors = self.factors(x, x.shape[0])
        return x if factors is None else x * factors.view(-1, *(1,) * (x.ndim - 1))

    def factors(self, like: Tensor, number: int) -> Tensor | None:
        """Draw the factor of each of ``number`` samples, of the type of a tensor; None for ones."""
        if not self.training or self.rate == 0.0:
            return None
        keep = 1.0 - self.rate
        return like.new_empty(number).bernoulli_(keep).div_(keep)


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

    def forward_packed(self, rows: Tensor, packing: Packing, factors: BranchFactors) -> Tensor:
        """Return :meth:`forward` of several batches, rows ``(R, C)`` to rows ``(R, C)``.

        Args:
            rows: the tokens.
            packing: where the batches are among them.
            factors: of :meth:`DropPath.factors` for all S images, for the attention and the MLP.
        """
        spread = [None if one is None else packing.spread(one) for one in factors]
        rows = rows + _scale(self.attn.forward_packed(self.norm1(rows), packing), spread[0])
        return rows + _scale(self.mlp(self.norm2(rows)), spread[1])

    def forward_cls_packed(self, rows: Tensor, packing: Packing, factors: BranchFactors) -> Tensor:
        """Return :meth:`forward_cls` of several batches, rows ``(R, C)`` to one row per image, ``(S, C)``."""
        columns = [None if one is None else one.unsqueeze(1) for one in factors]
        attended = self.attn.forward_cls_packed(self.norm1(rows), packing)
        rows = packing.first_rows(rows) + _scale(attended, columns[0])
        return rows + _scale(self.mlp(self.norm2(rows)), columns[1])


def _scale(branch: Tensor, factors: Tensor | None) -> Tensor:
    return branch if factors is None else branch * factors.to(branch.dtype)
