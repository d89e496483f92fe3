"""Learned position tables other than the single one of DeiT."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_exporting
from resformer_mm.registry import MODELS

from .coordinates import CoordinateAugmentation
from .global_position import GlobalPosition, LearnedPositionEmbedding
from .grids import Grid


@MODELS.register_module()
class PositionTables(GlobalPosition):
    """APE*: one learned table for each training resolution (paper, Table 5).

    A grid takes the table of the next number of tokens, by ratio, and stretches it where the grid differs.

    Args:
        embed_dims: width C.
        grid_sizes: side of each training grid in tokens, e.g. 14, 10 and 8 for 224, 160 and 128 pixels.
        interpolation: see :class:`LearnedPositionEmbedding`.
        with_cls_token: see :class:`LearnedPositionEmbedding`; one row for all resolutions.

    Raises:
        ValueError: there is no grid, or one twice.
    """

    def __init__(
        self,
        embed_dims: int,
        grid_sizes: Sequence[int] = (14, 10, 8),
        interpolation: str = 'bicubic',
        with_cls_token: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not grid_sizes or len(set(grid_sizes)) < len(grid_sizes):
            raise ValueError(
                f'global_position.grid_sizes must name each training grid once, got {tuple(grid_sizes)}'
            )
        self.grid_sizes = tuple(grid_sizes)
        self.tables: Sequence[LearnedPositionEmbedding] = nn.ModuleList(  # type: ignore[assignment]
            LearnedPositionEmbedding(
                embed_dims, side, interpolation, with_cls_token and side == grid_sizes[0]
            )
            for side in grid_sizes
        )

    def forward(self, grid: Grid) -> Tensor:
        """Return the embedding ``(1, H * W, C)`` of a grid.

        Raises:
            RuntimeError: the model is being exported, for which the choice of the table is not defined.
        """
        if is_exporting():
            raise RuntimeError(
                'PositionTables cannot be exported: which table is used depends on the size of the image'
            )
        chosen = self.tables[self._nearest(grid)]
        embedding = chosen(grid)
        if torch.is_grad_enabled():
            # Distributed training waits for a gradient of every parameter: here it is an exact zero.
            others = (table.table for table in self.tables if table is not chosen)
            embedding = embedding + 0 * sum(table.sum() for table in others)
        return embedding

    def cls_token_embedding(self) -> Tensor | None:
        """Return the row of the class token, ``(1, 1, C)``; None if it has no row."""
        return self.tables[0].cls_token_embedding()

    def _nearest(self, grid: Grid) -> int:
        """Return the number of the table for a grid; by ratio, squares meet at the product of their sides."""
        order = sorted(range(len(self.grid_sizes)), key=lambda index: -self.grid_sizes[index])
        for larger, smaller in pairwise(order):
            if grid[0] * grid[1] >= self.grid_sizes[larger] * self.grid_sizes[smaller]:
                return larger
        return order[-1]


@MODELS.register_module()
class FuzzyPositionEmbedding(LearnedPositionEmbedding):
    """A learned table that training reads at moved places, as in ViTAR (Fan et al., Section 3.2).

    In training, the place of every token is moved by up to half a cell of its grid (``augmentation``), and
    the table is read there by bilinear interpolation; in evaluation at the exact places.

    Args:
        embed_dims: width C.
        grid_size: side of the table in tokens.
        augmentation: config of :class:`CoordinateAugmentation`.
        with_cls_token: see :class:`LearnedPositionEmbedding`.
    """

    def __init__(
        self,
        embed_dims: int,
        grid_size: int = 14,
        augmentation: dict = dict(jitter=0.5),
        with_cls_token: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(embed_dims, grid_size, 'bilinear', with_cls_token, init_cfg)
        self.augmentation = CoordinateAugmentation(**augmentation)

    def forward(self, grid: Grid) -> Tensor:
        """Return the table read at the places of a grid, ``(1, H * W, C)``."""
        if not self.training:
            return super().forward(grid)
        side = self.grid_size
        as_map = self.table.transpose(1, 2).unflatten(2, (side, side)).float()
        places = self.augmentation(grid, as_map.device).flip(2)[None]  # (1, H, W, 2), column first
        read = F.grid_sample(as_map, places, mode='bilinear', padding_mode='border', align_corners=False)
        return read.flatten(2).transpose(1, 2).to(self.table.dtype)
