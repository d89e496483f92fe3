"""Position embeddings added to the patch tokens once, before the first block (paper, Section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_compiling, is_exporting
from resformer_mm.registry import MODELS

from .grids import Grid
from .shifts import convolve_by_shifts


def sinusoid_map(
    channels: int, grid: Grid, temperature: float = 10000.0, device: torch.device | str | None = None
) -> Tensor:
    """Two-dimensional sine-cosine map of a token grid, as a ``(1, C, H, W)`` float32 tensor.

    The first half of the channels encodes the row, the second half the column. Positions 1..H are scaled to
    ``(0, 2 pi)``, so that the map of a finer grid samples the same continuous function more densely. Even
    channels of a half are sine, odd ones cosine, of ``position / temperature ** (2 floor(i / 2) / half)``.
    """
    half = channels // 2
    index = torch.arange(half, dtype=torch.float32, device=device)
    wavelength = temperature ** (2 * torch.div(index, 2, rounding_mode='floor') / half)

    def encode(length: int) -> Tensor:  # (length, half)
        position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        angle = (position / (length + 1e-6) * (2 * math.pi))[:, None] / wavelength
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    height, width = grid
    row = encode(height).t()[None, :, :, None].expand(1, half, height, width)
    column = encode(width).t()[None, :, None, :].expand(1, half, height, width)
    return torch.cat((row, column), dim=1)


class GlobalPosition(BaseModule):
    """Interface of the position embeddings that :class:`ResFormer` adds to its tokens.

    Subclasses are built with ``embed_dims``, the width, and ``with_cls_token``.
    """

    def forward(self, grid: Grid) -> Tensor | None:
        """Return the embedding of the patch tokens ``(1, H * W, C)``, row by row, or None to add nothing."""
        raise NotImplementedError

    def cls_token_embedding(self) -> Tensor | None:
        """Return the embedding of the class token, ``(1, 1, C)``; None (the default) adds nothing."""
        return None

    def of_batch(self, grids: Sequence[Grid], extent: Grid) -> Tensor | None:
        """Return the embedding of each image of a padded batch for its own grid, ``(B, H * W, C)``.

        Args:
            grids: token grid of each of the B images.
            extent: grid ``(H, W)`` of the batch, at least as large; zeros fill the rest.
        """
        maps: dict[Grid, Tensor] = {}
        for grid in grids:
            if grid in maps:
                continue
            embedding = self(grid)
            if embedding is None:
                return None
            bottom, right = extent[0] - grid[0], extent[1] - grid[1]
            maps[grid] = F.pad(embedding.unflatten(1, grid), (0, 0, 0, right, 0, bottom))
        return torch.cat([maps[grid] for grid in grids]).flatten(1, 2)


@MODELS.register_module()
class NoGlobalPosition(GlobalPosition):
    """No position information at the input."""

    def __init__(self, embed_dims: int, with_cls_token: bool = True, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)

    def forward(self, grid: Grid) -> None:
        """Return None: nothing is added."""
        return None


@MODELS.register_module()
class GlobalPositionEmbedding(GlobalPosition):
    """GPE: a sine-cosine map of the grid, smoothed by one depthwise convolution (paper, Equation 4).

    It depends only on the grid. The sine-cosine map, which has no weights, is computed once per grid and
    cached; the convolution runs once per forward pass. The class token receives no embedding.

    Args:
        embed_dims: width C, a multiple of 4 (sine and cosine for rows and for columns).
        conv: whether to apply the 3x3 depthwise convolution (the paper's Table 5 measures both).
        temperature: base of the wavelengths.

    Raises:
        ValueError: ``embed_dims`` is not a multiple of 4.
    """

    # Images of many sizes (detection) must not fill the memory: 64 x 64 tokens of width 768 are 12 MiB.
    max_kept_maps = 16

    def __init__(
        self,
        embed_dims: int,
        conv: bool = True,
        temperature: float = 10000.0,
        with_cls_token: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if embed_dims % 4:
            raise ValueError(f'global_position needs embed_dims to be a multiple of 4, got {embed_dims}')
        self.embed_dims = embed_dims
        self.temperature = temperature
        self.conv = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims) if conv else None
        # Follows `.to()`, and is not part of a checkpoint.
        self.register_buffer('anchor', torch.zeros(()), persistent=False)
        self._maps: dict[tuple[Grid, torch.device, torch.dtype], Tensor] = {}

    def forward(self, grid: Grid) -> Tensor:
        """Return the embedding ``(1, H * W, C)`` of a grid."""
        # Compiled code uses no cache: it must not depend on what was computed before.
        embedding = self._compute_map(grid) if is_compiling() else self._map(grid)
        if self.conv is not None:
            # Without autocast, the embedding and thereby the token stream stay in float32.
            with torch.autocast(self.anchor.device.type, enabled=False):
                if is_compiling() and not is_exporting():
                    assert self.conv.bias is not None  # optional in general, but not in this convolution
                    tokens = embedding.flatten(2).transpose(1, 2)
                    return convolve_by_shifts(tokens, grid, self.conv.weight, self.conv.bias)
                embedding = self.conv(embedding)
        # Unlike `contiguous()`, this copies without asking for the layout, which depends on the grid.
        return embedding.flatten(2).transpose(1, 2).clone(memory_format=torch.contiguous_format)

    def _map(self, grid: Grid) -> Tensor:
        key = (grid, self.anchor.device, self.anchor.dtype)
        if key not in self._maps:
            if len(self._maps) >= self.max_kept_maps:
                self._maps.pop(next(iter(self._maps)))
            with torch.inference_mode(False):  # training cannot use inference tensors
                self._maps[key] = self._compute_map(grid)
        return self._maps[key]

    def _compute_map(self, grid: Grid) -> Tensor:
        return sinusoid_map(self.embed_dims, grid, self.temperature, self.anchor.device).to(self.anchor.dtype)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_maps': {}}  # copies and pickles have an empty cache


@MODELS.register_module()
class LearnedPositionEmbedding(GlobalPosition):
    """A learned table over a square training grid, resized to other grids (DeiT, and APE of Table 5).

    Args:
        embed_dims: width C.
        grid_size: side of the training grid in tokens, e.g. 14 for 224 pixels and patch 16.
        interpolation: mode of :func:`torch.nn.functional.interpolate` for other grids.
        with_cls_token: whether the class token has its own row, as in DeiT and ViT; by default, if there is a
            class token. In some models, such as DeiT III, there is a class token without a row.

    A checkpoint with a table of another grid is resized on loading.
    """

    def __init__(
        self,
        embed_dims: int,
        grid_size: int = 14,
        interpolation: str = 'bicubic',
        with_cls_token: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if grid_size < 1:
            raise ValueError(f'global_position.grid_size must be at least 1, got {grid_size}')
        self.grid_size = grid_size
        self.interpolation = interpolation
        self.table = nn.Parameter(torch.zeros(1, grid_size * grid_size, embed_dims))
        self.cls_token_table = nn.Parameter(torch.zeros(1, 1, embed_dims)) if with_cls_token else None
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, grid: Grid) -> Tensor:
        """Return the table resized to a grid, ``(1, H * W, C)``."""
        if not is_exporting() and grid == (self.grid_size, self.grid_size):
            return self.table
        return self._resize(self.table, self.grid_size, grid)

    def cls_token_embedding(self) -> Tensor | None:
        """Return the row of the class token, ``(1, 1, C)``; None if it has no row."""
        return self.cls_token_table

    def _resize(self, table: Tensor, side: int, grid: Grid) -> Tensor:
        as_map = table.transpose(1, 2).unflatten(2, (side, side)).float()
        align = None if self.interpolation in ('nearest', 'area', 'nearest-exact') else False
        resized = F.interpolate(as_map, size=grid, mode=self.interpolation, align_corners=align)
        return resized.flatten(2).transpose(1, 2).to(table.dtype)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        key = f'{prefix}table'
        table = state_dict.get(key)
        if table is not None and table.shape[1:2] != self.table.shape[1:2]:
            side = math.isqrt(table.shape[1])
            if side * side != table.shape[1]:
                raise ValueError(f'{key} in the checkpoint has {table.shape[1]} rows: not a square grid')
            state_dict[key] = self._resize(table, side, (self.grid_size, self.grid_size))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
