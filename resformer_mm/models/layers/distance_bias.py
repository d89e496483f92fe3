"""Biases of the attention scores that fall with the distance of two tokens, in all or in some directions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.registry import MODELS

from .grids import Grid
from .local_position import LocalPosition

UNSEEN = -1e4  # the weight of a key becomes zero; unlike infinity, a row of it does not become NaN


@MODELS.register_module()
class DistanceBias(LocalPosition):
    """ALiBi in two dimensions: ``-m_h |p_q - p_k|``, with the Euclidean distance of the tokens in a head h.

    The slopes of n heads are ``2 ** (-8 h / n)`` for h = 1..n, without weights (Press et al., ALiBi, Section
    3; the distance in two dimensions as in Fuller et al., LookHere, Section 3). Pairs with the class token
    get no bias.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads.
        grid_size: side in tokens of a trained grid. Distances on another grid are measured in fractions of
            its sides and multiplied by this number, so that the slopes follow the image. None counts tokens.
        slope: factor of all slopes, which may differ between training and test.
    """

    biases_cls_token = False

    slopes: Tensor  # (num_heads,)

    def __init__(
        self, embed_dims: int, num_heads: int, grid_size: int | None = None, slope: float = 1.0
    ) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.slope = slope
        slopes = torch.tensor(self.head_slopes(num_heads), dtype=torch.float32)
        self.register_buffer('slopes', slopes, persistent=False)

    def head_slopes(self, num_heads: int) -> Sequence[float]:
        """Return the slope of each head."""
        return [2 ** (-8 * head / num_heads) for head in range(1, num_heads + 1)]

    def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor:
        """Return the bias ``(1, num_heads, N, N)``, queries first."""
        rows, columns = (self._offsets(length) for length in grid)  # (H, H) and (W, W), key minus query
        distance = _pairs(_length(rows[:, None, :, None], columns[None, :, None, :]))
        bias = (-self.slope * self.slopes[:, None, None] * distance)[None]
        return F.pad(bias, (1, 0, 1, 0)) if with_cls_token else bias

    def _offsets(self, length: int) -> Tensor:
        places = torch.arange(length, device=self.slopes.device).to(self.slopes.dtype)
        if self.grid_size is not None:
            places = places * (self.grid_size / length)
        return places - places[:, None]


@MODELS.register_module()
class DirectionalBias(DistanceBias):
    """LookHere: most heads see one direction only, and all prefer near tokens (Fuller et al., Section 3).

    A directed head sees the tokens within ``field_of_view`` around its direction, and its own token; the
    others see all. Groups of four directed heads have the slopes 1/2, 1/4, ..., the other heads 1/4, 1/16,
    1/64, 1/256 and again. A factor of all slopes falls linearly from the first block to the last one. The
    class token sees all and is seen by all.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads, at least 4.
        field_of_view: angle in degrees, 180 or 90 around up, down, left and right, or 45 for the eight
            sectors between axes and diagonals.
        layer_slopes: factor of the slopes in the first and in the last block.
        directed_heads: number of heads with a direction, a multiple of 4; by default two thirds of all,
            rounded down to a multiple of 4, and at least 4.
        grid_size: see :class:`DistanceBias`; directions are those of the scaled distances.
        slope: see :class:`DistanceBias`. The authors tune it for test grids larger than those of training.

    Raises:
        ValueError: an argument is not one of these.
    """

    biases_cls_token = False

    directions: Tensor  # (directed heads, 2), unit vectors (down, right)

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        field_of_view: int = 90,
        layer_slopes: tuple[float, float] = (1.5, 0.5),
        directed_heads: int | None = None,
        grid_size: int | None = None,
        slope: float = 1.0,
    ) -> None:
        if field_of_view not in (180, 90, 45):
            raise ValueError(f'local_position.field_of_view must be 180, 90 or 45, got {field_of_view!r}')
        if num_heads < 4:
            raise ValueError(
                'local_position DirectionalBias needs at least 4 heads, one for each direction, and the arch '
                f'has {num_heads}: choose another arch, or DistanceBias'
            )
        if directed_heads is None:
            directed_heads = max(4, 2 * num_heads // 3 // 4 * 4)
        if directed_heads % 4 or not 0 < directed_heads <= num_heads:
            raise ValueError(
                f'local_position.directed_heads must be a multiple of 4 up to num_heads={num_heads}, got '
                f'{directed_heads}'
            )
        self.directed_heads = directed_heads
        super().__init__(embed_dims, num_heads, grid_size, slope)
        self.field_of_view = field_of_view
        self.layer_slopes = layer_slopes
        self.layer_slope = layer_slopes[0]
        # Clockwise from above: four axes, or the eight sectors between axes and diagonals.
        angles = (
            (22.5, 202.5, 292.5, 112.5, 337.5, 157.5, 247.5, 67.5)
            if field_of_view == 45
            else (0, 180, 270, 90)
        )
        turns = torch.deg2rad(torch.tensor([angles[head % len(angles)] for head in range(directed_heads)]))
        directions = torch.stack((-turns.cos(), turns.sin()), dim=1)
        self.register_buffer('directions', directions, persistent=False)

    def set_depth(self, index: int, num_layers: int) -> None:
        """Take the factor of the slopes of a block."""
        first, last = self.layer_slopes
        self.layer_slope = first + (last - first) * index / max(1, num_layers - 1)

    def head_slopes(self, num_heads: int) -> Sequence[float]:
        """Return the slope of each head, the directed ones first."""
        directed = [2.0 ** -(1 + head // 4) for head in range(self.directed_heads)]
        return directed + [4.0 ** -(1 + head % 4) for head in range(num_heads - self.directed_heads)]

    def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor:
        """Return the bias ``(1, num_heads, N, N)``, queries first; minus ten thousand for unseen keys."""
        bias = self.layer_slope * super().attention_bias(grid, with_cls_token)
        seen = self._seen(*(self._offsets(length) for length in grid))
        if with_cls_token:
            seen = F.pad(seen, (1, 0, 1, 0), value=True)
        seen = F.pad(seen, (0, 0, 0, 0, 0, bias.shape[1] - self.directed_heads), value=True)
        return bias.masked_fill(~seen, UNSEEN)

    def _seen(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return which keys the directed heads see, ``(directed heads, H * W, H * W)``, queries first.

        Args:
            rows: row of the key minus that of the query, ``(H, H)``, queries first.
            columns: the same for columns, ``(W, W)``.
        """
        down, right = rows[:, None, :, None], columns[None, :, None, :]
        towards_down, towards_right = self.directions[:, :, None, None, None, None].unbind(1)
        ahead = towards_down * down + towards_right * right
        distance = _length(down, right)
        cosine = math.cos(math.radians(self.field_of_view / 2))
        return _pairs(ahead >= cosine * distance - 1e-4 * (distance + 1))  # tokens at the very edge are seen


def _length(down: Tensor, right: Tensor) -> Tensor:
    return (down**2 + right**2).sqrt()  # `hypot` has no counterpart in ONNX


def _pairs(x: Tensor) -> Tensor:
    """Return values of all pairs of places, ``(..., H, W, H, W)``, as those of pairs of tokens."""
    return x.flatten(-2, -1).flatten(-3, -2)
