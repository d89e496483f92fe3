"""Places of tokens in the image, moved at random in training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .grids import Grid


class CoordinateAugmentation:
    """Random shift, scale and jitter of the places of tokens.

    A place ``(y, x)`` lies between -1 and 1, the edges of the image. It becomes ``(s_y y + t_y + n_y, ...)``:
    one scale and one shift per axis for all tokens, and a jitter n for each (DINOv3, Section 3.2, for shift
    and scales; ViTAR, Section 3.2, for the jitter).

    Args:
        shift: largest shift of an axis, uniform in [-shift, shift].
        stretch: largest scale of an axis alone, log-uniform in [1 / stretch, stretch].
        rescale: largest scale of both axes together, log-uniform in [1 / rescale, rescale].
        jitter: largest shift of a single token in cells of its grid, uniform in [-jitter, jitter]; 0.5
            reaches the edges of a cell.

    Raises:
        ValueError: a shift or jitter is negative, or a scale less than 1.
    """

    def __init__(
        self, shift: float = 0.0, stretch: float = 1.0, rescale: float = 1.0, jitter: float = 0.0
    ) -> None:
        for name, value, least in (
            ('shift', shift, 0),
            ('stretch', stretch, 1),
            ('rescale', rescale, 1),
            ('jitter', jitter, 0),
        ):
            if not least <= value < math.inf:
                raise ValueError(
                    f'global_position.augmentation.{name} must be at least {least}, got {value!r}'
                )
        self.shift = shift
        self.stretch = stretch
        self.rescale = rescale
        self.jitter = jitter

    def __call__(self, grid: Grid, device: torch.device) -> Tensor:
        """Return moved places of a grid, ``(H, W, 2)``, row first, in float32."""
        return self.move(centres(grid, device))

    def move(self, places: Tensor) -> Tensor:
        """Return places ``(H, W, 2)`` after new draws."""

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, device=places.device) * 2 - 1

        scale = torch.exp(draw(2) * math.log(self.stretch) + draw(1) * math.log(self.rescale))
        places = places * scale + draw(2) * self.shift
        if self.jitter:
            height, width = places.shape[:2]
            noise = draw(height, width, 2)
            places = places + torch.stack((noise[..., 0] / height, noise[..., 1] / width), dim=2) * (
                2 * self.jitter
            )
        return places


def centres(grid: Grid, device: torch.device) -> Tensor:
    """Return the centres of the cells of a grid, ``(H, W, 2)``, row first; -1 and 1 are the edges."""
    rows, columns = ((2 * torch.arange(length, device=device) + 1) / length - 1 for length in grid)
    return pair_coordinates(rows, columns)


def pair_coordinates(rows: Tensor, columns: Tensor) -> Tensor:
    """Return row and column of every place, ``(H, W, 2)``, of those of rows ``(H,)`` and columns ``(W,)``."""
    height, width = rows.shape[0], columns.shape[0]  # not `len`, which a program for all sizes cannot take
    return torch.stack((rows[:, None].expand(height, width), columns[None].expand(height, width)), dim=2)
