"""Tokens of several batches of images, each of its own size, as the rows of one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .grids import Grid


class Packing:
    """Where the tokens of several batches lie among the rows of one matrix.

    Layers that treat every token alike then work on all batches in one matrix product. Attention and position
    modules take the batches apart.

    Args:
        tokens: tokens of the batches, ``(B_i, N_i, C)`` each.
        grids: their token grids.
    """

    def __init__(self, tokens: Sequence[Tensor], grids: Sequence[Grid]) -> None:
        self.shapes = [(one.shape[0], one.shape[1]) for one in tokens]
        self.grids = list(grids)

    def pack(self, tokens: Sequence[Tensor]) -> Tensor:
        """Return the rows ``(R, C)``, R = sum of B_i * N_i, of tensors ``(B_i, N_i, C)``."""
        return torch.cat([one.flatten(0, 1) for one in tokens])

    def unpack(self, rows: Tensor) -> list[Tensor]:
        """Return the tensors ``(B_i, N_i, C)`` of rows ``(R, C)``."""
        parts = rows.split([batch * length for batch, length in self.shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, self.shapes)]

    def unpack_samples(self, rows: Tensor) -> list[Tensor]:
        """Return the tensors ``(B_i, 1, C)`` of one row per image, ``(S, C)``."""
        return [part.unsqueeze(1) for part in rows.split([batch for batch, _ in self.shapes])]

    def first_rows(self, rows: Tensor) -> Tensor:
        """Return the first token of every image, ``(S, C)`` with S = sum of B_i, of rows ``(R, C)``."""
        return torch.cat([tokens[:, 0] for tokens in self.unpack(rows)])

    def spread(self, values: Tensor) -> Tensor:
        """Return a column ``(R, 1)`` with the value of every image, of ``(S,)``, for each of its tokens."""
        parts = values.split([batch for batch, _ in self.shapes])
        columns = [part.unsqueeze(1).expand(shape).reshape(-1, 1) for part, shape in zip(parts, self.shapes)]
        return torch.cat(columns)

    @property
    def num_samples(self) -> int:
        """Number of images S."""
        return sum(batch for batch, _ in self.shapes)
