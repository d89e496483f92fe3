"""Attention among the visible patches of images, a part of which is masked."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .attention import Attention
from .batch_padding import BatchPadding
from .grids import TokenGrid, frame_grid


class VisiblePatches(NamedTuple):
    """Which patches of a batch of images are visible.

    Attributes:
        indices: places on the grid of the visible patches of every image, row by row, ``(B, K)``.
    """

    indices: Tensor

    def of_samples(self, numbers: Tensor) -> VisiblePatches:
        """Return the visible patches of some images, given by their numbers in the batch."""
        return VisiblePatches(self.indices[numbers])

    def gather(self, tokens: Tensor) -> Tensor:
        """Return the visible ones ``(B, K, C)`` of all patches ``(B, H * W, C)``."""
        return tokens.gather(1, self._of_width(tokens))

    def scatter(self, tokens: Tensor, length: int) -> Tensor:
        """Return all patches ``(B, length, C)``, zero where masked, of the visible ones ``(B, K, C)``."""
        everything = tokens.new_zeros(len(tokens), length, tokens.shape[2])
        return everything.scatter(1, self._of_width(tokens), tokens)

    def _of_width(self, tokens: Tensor) -> Tensor:
        return self.indices.unsqueeze(2).expand(-1, -1, tokens.shape[2])


def draw_visible(batch: int, length: int, kept: int, device: torch.device) -> tuple[VisiblePatches, Tensor]:
    """Draw the visible patches of a batch, each set of them with the same probability.

    Args:
        batch: number of images B.
        length: number of patches of an image, H * W.
        kept: number K of visible patches of an image.
        device: device of the result.

    Returns:
        The visible patches, and the place of every patch ``(B, H * W)`` in a sequence of first the visible
        and then the masked ones.
    """
    order = torch.rand(batch, length, device=device).argsort(dim=1)
    return VisiblePatches(order[:, :kept]), order.argsort(dim=1)


class MaskedAttention(Attention):
    """:class:`Attention` that also takes the visible patches of images alone, which keep their places.

    Masked patches are no keys. In the term of the position module, such as LPE, they are zeros of the map, as
    is the padding around it. So the term of a patch tells which of its neighbours are visible, and nothing of
    what is masked.

    Args:
        *args: see :class:`Attention`.
        **kwargs: see :class:`Attention`.

    Raises:
        ValueError: the position module has a bias or a rotation.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        position = self.local_position
        if position is not None and (position.rotates or position.attention_bias((1, 1), False) is not None):
            raise ValueError(
                f'backbone.local_position of type {type(position).__name__} has a bias or a rotation, which '
                'masked images cannot have: use LocalPositionEmbedding or None'
            )

    def _mix(self, qkv: Tensor, grid: TokenGrid, padding: BatchPadding | VisiblePatches | None) -> Tensor:
        if not isinstance(padding, VisiblePatches):
            return super()._mix(qkv, grid, padding)
        query, key, value = qkv.chunk(3, dim=2)
        split = self.split_heads
        out = self._weigh(split(query), split(key), split(value), None, None)
        out = out.transpose(1, 2).reshape(value.shape)
        if self.local_position is None:
            return out
        first, (height, width) = self.num_prefix_tokens, frame_grid(grid)
        patches = padding.scatter(value[:, first:], height * width)
        term = self.local_position(patches, (height, width))
        if term is None:
            return out
        return torch.cat((out[:, :first], out[:, first:] + padding.gather(term)), dim=1)
