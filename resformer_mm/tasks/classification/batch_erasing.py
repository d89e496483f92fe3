"""Random erasing of a batch, on the device of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .random_erasing import RandomErasing


class ErasingDraws(NamedTuple):
    """Random numbers of the rectangles of ``B`` images, each ``(B,)``, for any resolution."""

    is_erased: Tensor
    aspect_ratio: Tensor
    """Height by width."""
    area_ratio: Tensor
    """Part of the area of the image."""
    top: Tensor
    """0 to 1: place in the range of possible ones."""
    left: Tensor


class BatchErasing(nn.Module):
    """What :class:`RandomErasing` does to an image, for a batch; every image has draws of its own.

    The rectangles are those of :class:`RandomErasing` for the same draws. The noise inside has the same
    distribution.

    Args:
        erase_prob: probability that an image is erased.
        min_area_ratio: smallest part of the area of the image.
        max_area_ratio: largest part.
        aspect_range: smallest and largest ratio of height to width, or the smallest.
        mode: 'const' fills with ``fill_color``, 'rand' with noise.
        fill_color: BGR, 0 to 255; the mean of the noise if ``fill_std`` is given.
        fill_std: standard deviation of normal noise; without it the noise is uniform from 0 to 255.

    Raises:
        AssertionError: an argument is out of range.
    """

    color: Tensor
    std: Tensor

    def __init__(
        self,
        erase_prob: float = 0.5,
        min_area_ratio: float = 0.02,
        max_area_ratio: float = 0.4,
        aspect_range: float | Sequence[float] = (3 / 10, 10 / 3),
        mode: str = 'const',
        fill_color: float | Sequence[float] = (128, 128, 128),
        fill_std: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        single = RandomErasing(
            erase_prob, min_area_ratio, max_area_ratio, aspect_range, mode, fill_color, fill_std
        )
        self.erase_prob = erase_prob
        self.area_range = (min_area_ratio, max_area_ratio)
        self.log_aspect_range = tuple(math.log(ratio) for ratio in single.aspect_range)
        self.mode = mode
        self.is_normal = single.fill_std is not None
        color = torch.tensor(single.fill_color, dtype=torch.float32).view(3, 1, 1)
        std = torch.tensor(single.fill_std or [0, 0, 0], dtype=torch.float32).view(3, 1, 1)
        self.register_buffer('color', color, persistent=False)
        self.register_buffer('std', std, persistent=False)

    def draw(self, number: int, generator: torch.Generator) -> ErasingDraws:
        """Draw for a number of images, on the device of the generator."""
        uniform = torch.rand((5, number), generator=generator, device=generator.device)
        return ErasingDraws(
            is_erased=uniform[0] <= self.erase_prob,
            aspect_ratio=_within(self.log_aspect_range, uniform[1]).exp(),
            area_ratio=_within(self.area_range, uniform[2]),
            top=uniform[3],
            left=uniform[4],
        )

    def forward(self, images: Tensor, draws: ErasingDraws, generator: torch.Generator) -> Tensor:
        """Return the images with their rectangles filled.

        Args:
            images: BGR ``(B, 3, H, W)`` of 0 to 255.
            draws: what :meth:`draw` returned.
            generator: of the noise.
        """
        height, width = images.shape[-2:]
        area = height * width * draws.area_ratio
        in_rows = _interval((area * draws.aspect_ratio).sqrt(), draws.top, height)
        in_columns = _interval((area / draws.aspect_ratio).sqrt(), draws.left, width)
        mask = in_rows.unsqueeze(2) & in_columns.unsqueeze(1) & draws.is_erased.view(-1, 1, 1)
        return self._filling(images, generator).where(mask.unsqueeze(1), images)

    def _filling(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.mode == 'const':
            return self.color.trunc()
        noise = torch.empty_like(images)
        if not self.is_normal:
            return noise.uniform_(0, 256, generator=generator).floor_()
        return noise.normal_(generator=generator).mul_(self.std).add_(self.color).trunc_().clamp_(0, 255)


def _within(span: Sequence[float], uniform: Tensor) -> Tensor:
    low, high = span
    return low + uniform * (high - low)


def _interval(length: Tensor, place: Tensor, size: int) -> Tensor:
    """Return ``(B, size)``: which pixels are in an interval of a length, at a place from 0 to 1."""
    length = length.round().clamp_(max=size)
    start = (place * (size - length)).floor_()
    pixels = torch.arange(size, device=length.device)
    return (pixels >= start.unsqueeze(1)) & (pixels < (start + length).unsqueeze(1))
