"""Feature pyramid from the last map of a plain backbone, for detectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_exporting
from resformer_mm.models.layers import Grid, ImageGroups, LayerNorm2d
from resformer_mm.registry import MODELS


class HalvingPool(nn.MaxPool2d):
    """2x2 max pooling of a map ``(B, C, H, W)`` to ``(B, C, ceil(H / 2), ceil(W / 2))``."""

    def __init__(self) -> None:
        super().__init__(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled map."""
        if not is_exporting():
            return super().forward(x)
        # PyTorch asks whether the last window lies outside the map, which depends on the size.
        height, width = x.shape[2:]
        bottom, right = (height + 1) // 2 * 2 - height, (width + 1) // 2 * 2 - width
        return F.max_pool2d(F.pad(x, (0, right, 0, bottom), value=-math.inf), 2)


class PyramidLevel(nn.Module):
    """One level: the map at another scale, then a 1x1 and a 3x3 convolution, each with a layer norm.

    Args:
        in_channels: C.
        out_channels: D.
        log_scale: the level has ``2 ** log_scale`` times the positions of the map along each side. Every
            doubling is a 2x2 transposed convolution of stride 2, with layer norm and GELU between two of
            them; every halving a 2x2 max pooling, which rounds up.
    """

    def __init__(self, in_channels: int, out_channels: int, log_scale: int) -> None:
        super().__init__()
        self.log_scale = log_scale
        steps: list[nn.Module] = []
        for step in range(abs(log_scale)):
            if log_scale < 0:
                steps.append(HalvingPool())
                continue
            is_last = step == log_scale - 1
            steps.append(nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2, bias=is_last))
            if not is_last:
                steps += [LayerNorm2d(in_channels), nn.GELU()]
        self.resample = nn.Sequential(*steps)
        self.lateral_conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.lateral_norm = LayerNorm2d(out_channels)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm = LayerNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the level ``(B, D, H', W')`` of a map ``(B, C, H, W)``."""
        x = self.lateral_norm(self.lateral_conv(self.resample(x)))
        return self.norm(self.conv(x))


def scale_grid(grid: Grid, log_scale: int) -> Grid:
    """Return the positions ``(H', W')`` of a level for those ``(H, W)`` of the map."""
    if log_scale >= 0:
        return grid[0] << log_scale, grid[1] << log_scale
    factor = 1 << -log_scale
    return (grid[0] + factor - 1) // factor, (grid[1] + factor - 1) // factor


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """The pyramid of a plain backbone, from its last map alone (ViTDet, arXiv 2203.16527, Section 3).

    With a backbone of stride 16 and the default scales, the levels have strides 4, 8, 16, 32 and 64, the
    last by max pooling of the previous one. Convolutions followed by a norm have no bias.

    Args:
        in_channels: C, the width of the backbone.
        out_channels: D, channels of every level.
        scale_factors: positions of each level along a side, relative to the map: powers of two.
        num_outs: number of levels; those beyond ``scale_factors`` take every second position of the previous
            level, which is max pooling with a 1x1 kernel.

    Raises:
        ValueError: a scale factor is not a power of two, or there are more of them than levels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scale_factors: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int = 5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(scale_factors, Sequence) or not all(map(_is_power_of_two, scale_factors)):
            raise ValueError(f'neck.scale_factors must be a list of powers of two, got {scale_factors!r}')
        if not 1 <= len(scale_factors) <= num_outs:
            raise ValueError(
                f'neck.num_outs is {num_outs}, but scale_factors name {len(scale_factors)} levels: '
                'give at least one, and at most as many as num_outs'
            )
        self.in_channels = in_channels
        self.num_outs = num_outs
        self.log_scales = [math.frexp(scale)[1] - 1 for scale in scale_factors]
        self.levels = nn.ModuleList(
            PyramidLevel(in_channels, out_channels, log_scale) for log_scale in self.log_scales
        )

    def forward(self, inputs: Sequence[Tensor], grids: Sequence[Grid] | None = None) -> tuple[Tensor, ...]:
        """Return the levels, ``(B, D, H_l, W_l)`` each.

        Args:
            inputs: maps of the backbone; the last one ``(B, C, H, W)`` is used.
            grids: where images were padded to one size, the height and width of each in positions of the
                map. Levels are then those of each image alone, and zero in the padding.

        Raises:
            ValueError: the last of the inputs is not a map of ``in_channels`` channels.
        """
        x = inputs[-1]
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'neck.in_channels is {self.in_channels}, but the backbone returns {tuple(x.shape)}: set it '
                "to the width of the backbone, whose out_type must be 'featmap'"
            )
        if grids is not None and all(tuple(grid) == (x.shape[2], x.shape[3]) for grid in grids):
            grids = None
        if grids is None:
            return tuple(self._levels(x))
        # The images of each size by themselves: the convolutions see no padding, and take no time for it.
        groups = ImageGroups(grids)
        by_group = [self._levels(part) for part in groups.cut(x)]
        extents = self.level_grids([(x.shape[2], x.shape[3])])
        return tuple(groups.join_maps(parts, extent) for parts, [extent] in zip(zip(*by_group), extents))

    def _levels(self, x: Tensor) -> list[Tensor]:
        outputs = [level(x) for level in self.levels]
        while len(outputs) < self.num_outs:
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        return outputs

    def level_grids(self, grids: Sequence[Grid]) -> list[list[Grid]]:
        """Return, per level, the height and width of each image in positions of the level.

        Args:
            grids: height and width of each image in positions of the map of the backbone.
        """
        found = [[scale_grid(grid, log_scale) for grid in grids] for log_scale in self.log_scales]
        while len(found) < self.num_outs:
            found.append([((height + 1) // 2, (width + 1) // 2) for height, width in found[-1]])
        return found

    def level_strides(self, stride: float) -> list[float]:
        """Return the stride of every level in pixels, for a map of the backbone of this stride."""
        found = [stride / 2**log_scale for log_scale in self.log_scales]
        while len(found) < self.num_outs:
            found.append(2 * found[-1])
        return found


def _is_power_of_two(scale: float) -> bool:
    return isinstance(scale, (int, float)) and scale > 0 and math.frexp(scale)[0] == 0.5
