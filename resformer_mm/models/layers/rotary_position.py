"""Rotary position embeddings: queries and keys turned by angles that their places give."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from resformer_mm.registry import MODELS

from .coordinates import pair_coordinates
from .grids import Grid
from .local_position import LocalPosition


def turn(x: Tensor, angles: Tensor) -> Tensor:
    """Turn channel i and channel ``i + d / 2`` of ``(B, num_heads, N, d)`` together, in at least float32.

    Args:
        x: ``(B, num_heads, N, d)``.
        angles: in radians, broadcastable to ``(num_heads, N, d / 2)``.
    """
    first, second = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1).to(x.dtype)


def half_head(embed_dims: int, num_heads: int) -> int:
    """Return the number of pairs of channels of a head.

    Raises:
        ValueError: a head cannot be split into pairs for rows and for columns.
    """
    head_dim = embed_dims // num_heads
    if head_dim % 4:
        raise ValueError(
            f'a rotary local_position needs heads of a multiple of 4 channels, and the arch has {head_dim} '
            f'(embed_dims={embed_dims}, num_heads={num_heads})'
        )
    return head_dim // 2


@MODELS.register_module()
class AxialRotaryPosition(LocalPosition):
    """RoPE in two dimensions: half of the pairs of channels turn by the row, half by the column.

    With ``coordinates='tokens'``, a token in row y turns by ``y / base ** (i / n)`` in the pairs i = 0..n-1
    of rows (Heo et al., RoPE-ViT, Section 3.1). With 'normalised', rows and columns run from -1 to 1 at the
    edges of the image, and the angle is ``2 pi y / base ** (i / n)`` (DINOv3): a larger grid samples the same
    angles more densely, as with GPE.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads, of a multiple of 4 channels each.
        base: ratio of the largest wavelength to the smallest one.
        coordinates: 'tokens' or 'normalised'.

    Raises:
        ValueError: an argument is not one of these.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        base: float = 100.0,
        coordinates: str = 'tokens',
    ) -> None:
        super().__init__()
        if coordinates not in ('tokens', 'normalised'):
            raise ValueError(
                f"local_position.coordinates must be 'tokens' or 'normalised', got {coordinates!r}"
            )
        self.normalised = coordinates == 'normalised'
        self.base = base
        self.pairs = half_head(embed_dims, num_heads) // 2  # of rows; as many of columns

    def rotate(self, query: Tensor, key: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return queries and keys ``(B, num_heads, H * W, d)``, turned by the places of their tokens."""
        index = torch.arange(self.pairs, dtype=torch.float32, device=query.device)
        speeds = self.base ** (-index / self.pairs)
        if self.normalised:
            speeds = 2 * math.pi * speeds
        rows, columns = (self._along(length, query.device) for length in grid)
        places = pair_coordinates(rows, columns).flatten(0, 1)  # (H * W, 2)
        angles = (places[:, :, None] * speeds).flatten(1)  # (H * W, d / 2)
        return turn(query, angles), turn(key, angles)

    def _along(self, length: int, device: torch.device) -> Tensor:
        index = torch.arange(length, dtype=torch.float32, device=device)
        return (2 * index + 1) / length - 1 if self.normalised else index


@MODELS.register_module()
class MixedRotaryPosition(LocalPosition):
    """RoPE-Mixed: each pair of channels of each head turns by a learned mixture of row and column.

    A token in row y and column x turns by ``f_y y + f_x x``, with two learned frequencies per head and pair
    (Heo et al., RoPE-ViT, Section 3.2). They start with the magnitudes ``base ** (-i / n)`` along two
    perpendicular directions, which are drawn per head.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads, of a multiple of 4 channels each.
        base: ratio of the largest initial magnitude to the smallest one.
        grid_size: side in tokens of a trained grid. Places on another grid are measured in fractions of its
            sides and multiplied by this number. None counts tokens.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, base: float = 10.0, grid_size: int | None = None
    ) -> None:
        super().__init__()
        self.grid_size = grid_size
        pairs = half_head(embed_dims, num_heads) // 2
        magnitudes = base ** (-torch.arange(pairs, dtype=torch.float32) / pairs)
        angle = torch.rand(num_heads, 1) * 2 * math.pi
        along = torch.stack((angle.cos(), angle.sin())) * magnitudes  # (2, num_heads, d / 4)
        across = torch.stack((-angle.sin(), angle.cos())) * magnitudes
        self.frequencies = nn.Parameter(torch.cat((along, across), dim=2))

    def rotate(self, query: Tensor, key: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return queries and keys ``(B, num_heads, H * W, d)``, turned by the places of their tokens."""
        rows, columns = (self._along(length) for length in grid)
        # Angles in bfloat16 would be wrong by whole turns on large grids.
        with torch.autocast(query.device.type, enabled=False):
            down, right = self.frequencies.float().unsqueeze(2).unbind(0)  # (num_heads, 1, d / 2)
            down, right = rows[:, None] * down, columns[:, None] * right
            angles = (down[:, :, None] + right[:, None]).flatten(1, 2)
        return turn(query, angles), turn(key, angles)

    def _along(self, length: int) -> Tensor:
        places = torch.arange(length, device=self.frequencies.device).float()
        return places if self.grid_size is None else places * (self.grid_size / length)
