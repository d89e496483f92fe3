"""Transformer blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .batch_padding import BatchPadding
from .drop_path import Draws, DropPath
from .grids import TokenGrid
from .packing import Packing


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
        drop_path: stochastic depth of every branch.
    """

    num_branches = 2
    """Number of residual branches, each with its own draw of stochastic depth."""

    forward_cls: Callable[..., Tensor]
    """Takes what ``forward`` takes, and returns the class token alone, ``(B, 1, C)``."""

    def __init__(
        self,
        embed_dims: int,
        attn: Attention,
        feedforward_channels: int,
        drop_rate: float = 0.0,
        drop_path: DropPath | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = attn
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = MLP(embed_dims, feedforward_channels, drop_rate)
        self.drop_path = DropPath(0.0) if drop_path is None else drop_path

    def _mlp(self, tokens: Tensor) -> Tensor:
        return self.drop_path.add(tokens, tokens, lambda part, _: self.mlp(self.norm2(part)))

    def _mlp_packed(self, rows: Tensor, packing: Packing, draws: Draws) -> Tensor:
        return self.drop_path.add_packed(
            rows, rows, draws, lambda part, _: self.mlp(self.norm2(part)), packing
        )


class Block(PreNormBlock):
    """Pre-norm transformer block: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``.

    The arguments are those of :class:`PreNormBlock`.
    """

    def forward(self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None) -> Tensor:
        """Return tokens of the same shape ``(B, N, C)``; ``padding`` as in :class:`Attention`."""

        def attend(part: Tensor, kept: Tensor | None) -> Tensor:
            return self.attn(self.norm1(part), grid, padding=_of_samples(padding, kept))

        return self._mlp(self.drop_path.add(tokens, tokens, attend))

    def forward_cls(self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None) -> Tensor:
        """Return the class token alone, ``(B, 1, C)``, equal to the first token of :meth:`forward`."""

        def attend(part: Tensor, kept: Tensor | None) -> Tensor:
            return self.attn.forward_cls(self.norm1(part), grid, padding=_of_samples(padding, kept))

        return self._mlp(self.drop_path.add(tokens[:, :1], tokens, attend))

    def forward_packed(self, rows: Tensor, packing: Packing, draws: Sequence[Draws]) -> Tensor:
        """Return :meth:`forward` of several batches, rows ``(R, C)`` to rows ``(R, C)``.

        Args:
            rows: the tokens.
            packing: where the batches are among them.
            draws: of :meth:`DropPath.draw` for every batch, for the attention and the MLP.
        """

        def attend(part: Tensor, of: Packing) -> Tensor:
            return self.attn.forward_packed(self.norm1(part), of)

        rows = self.drop_path.add_packed(rows, rows, draws[0], attend, packing)
        return self._mlp_packed(rows, packing, draws[1])

    def forward_cls_packed(self, rows: Tensor, packing: Packing, draws: Sequence[Draws]) -> Tensor:
        """Return :meth:`forward_cls` of several batches, rows ``(R, C)`` to one row per image, ``(S, C)``."""

        def attend(part: Tensor, of: Packing) -> Tensor:
            return self.attn.forward_cls_packed(self.norm1(part), of)

        samples = packing.samples()
        first = packing.first_rows(rows)
        first = self.drop_path.add_packed(first, rows, draws[0], attend, packing, samples)
        return self._mlp_packed(first, samples, draws[1])


def _of_samples(padding: BatchPadding | None, kept: Tensor | None) -> BatchPadding | None:
    return padding if padding is None or kept is None else padding.of_samples(kept)
