"""Global position embedding of moved places in training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resformer_mm.registry import MODELS

from .coordinates import CoordinateAugmentation, pair_coordinates
from .global_position import GlobalPositionEmbedding
from .grids import Grid


@MODELS.register_module()
class AugmentedPositionEmbedding(GlobalPositionEmbedding):
    """GPE whose sine-cosine map is evaluated at randomly moved places in training, and exactly in evaluation.

    The moves are those of DINOv3 (shift and scales) and ViTAR (jitter of single tokens), for the map of the
    paper's Equation 4. One draw serves the whole batch. Weights are those of
    :class:`GlobalPositionEmbedding`.

    Args:
        embed_dims: width C, a multiple of 4.
        augmentation: config of :class:`CoordinateAugmentation`.
        **kwargs: see :class:`GlobalPositionEmbedding`.
    """

    def __init__(self, embed_dims: int, augmentation: dict = dict(jitter=0.5), **kwargs) -> None:
        super().__init__(embed_dims, **kwargs)
        self.augmentation = CoordinateAugmentation(**augmentation)

    def _map(self, grid: Grid) -> Tensor:
        return self._compute_map(grid) if self.training else super()._map(grid)

    def _compute_map(self, grid: Grid) -> Tensor:
        if not self.training:
            return super()._compute_map(grid)
        device = self.anchor.device
        rows, columns = (
            torch.arange(1, length + 1, device=device) / (length + 1e-6) * 2 - 1 for length in grid
        )
        places = pair_coordinates(rows, columns)  # those of `sinusoid_map`, from -1 to 1
        angles = (self.augmentation.move(places) + 1) * math.pi  # (H, W, 2)
        half = self.embed_dims // 2
        index = torch.div(torch.arange(half, device=device), 2, rounding_mode='floor')
        angles = angles[..., None] / self.temperature ** (2 * index / half)  # (H, W, 2, C / 2)
        waves = torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), dim=4)
        return waves.flatten(2).permute(2, 0, 1)[None].to(self.anchor.dtype)
