"""Tokens of several batches of images, each of its own size, as the rows of one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .grids import TokenGrid


class Packing:
    """Where the tokens of several batches lie among the rows of one matrix.

    Layers that treat every token alike then work on all batches in one matrix product. Attention and position
    modules take the batches apart.

    Args:
        shapes: batch size and number of tokens of the batches, ``(B_i, N_i)`` each.
        grids: their token grids.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], grids: Sequence[TokenGrid]) -> None:
        self.shapes = list(shapes)
        self.grids = list(grids)

    def pack(self, tokens: Sequence[Tensor]) -> Tensor:
        """Return the rows ``(R, C)``, R = sum of B_i * N_i, of tensors ``(B_i, N_i, C)``."""
        return torch.cat([one.flatten(0, 1) for one in tokens])

    def unpack(self, rows: Tensor) -> list[Tensor]:
        """Return the tensors ``(B_i, N_i, C)`` of rows ``(R, C)``."""
        parts = rows.split([batch * length for batch, length in self.shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, self.shapes)]

    def samples(self) -> Packing:
        """Return where the batches lie in a matrix of one row per image, ``(S, C)`` with S = sum of B_i."""
        return Packing([(batch, 1) for batch, _ in self.shapes], self.grids)

    def unpack_samples(self, rows: Tensor) -> list[Tensor]:
        """Return the tensors ``(B_i, 1, C)`` of one row per image, ``(S, C)``."""
        return self.samples().unpack(rows)

    def first_rows(self, rows: Tensor) -> Tensor:
        """Return the first token of every image, ``(S, C)``, of rows ``(R, C)``."""
        return torch.cat([tokens[:, 0] for tokens in self.unpack(rows)])

    def spread(self, values: Tensor) -> Tensor:
        """Return a column ``(R, 1)`` with the value of every image, of ``(S,)``, for each of its tokens."""
        parts = values.split([batch for batch, _ in self.shapes])
        columns = [part.unsqueeze(1).expand(shape).reshape(-1, 1) for part, shape in zip(parts, self.shapes)]
        return torch.cat(columns)

    def subset(self, numbers: Sequence[int]) -> Packing:
        """Return where the batches lie if each has another number of images."""
        shapes = [(number, length) for number, (_, length) in zip(numbers, self.shapes)]
        return Packing(shapes, self.grids)

    def rows_of(self, images: Sequence[Tensor]) -> Tensor:
        """Return the numbers of the rows of some images, given by their numbers in each batch."""
        found, start = [], 0
        for numbers, (batch, length) in zip(images, self.shapes):
            tokens = torch.arange(start, start + length, device=numbers.device)
            found.append((numbers[:, None] * length + tokens).flatten())
            start += batch * length
        return torch.cat(found)
