"""Colour jitter of a batch, on the device of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .color_jitter import ColorJitter

_NAMES = ('brightness', 'contrast', 'saturation', 'hue')


class JitterDraws(NamedTuple):
    """Random numbers of a colour jitter for ``B`` images and ``n`` operations."""

    order: Tensor
    """``(B, n)``: numbers of the operations in the order of their use."""
    values: Tensor
    """``(B, n)``: factor of every operation, or turn of the hue."""


class BatchColorJitter(nn.Module):
    """What :class:`ColorJitter` does to an image, for a batch; every image has draws of its own.

    The values are those of :class:`ColorJitter` for the same draws, to one grey level per operation. The turn
    of the hue, computed without rounding, is off by the rounding of the other.

    Args:
        **spans: ``brightness``, ``contrast``, ``saturation`` and ``hue`` of :class:`ColorJitter`. With a hue,
            all images are turned once per operation, which takes more time than the others.

    Raises:
        ValueError: a number is negative, or all are 0.
        TypeError: an argument is neither a number nor a pair.
    """

    gray_weights: Tensor
    channel_offsets: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, **spans: float | Sequence[float]) -> None:
        super().__init__()
        single = ColorJitter(**spans)
        ranges = {name: getattr(single, name) for name in _NAMES if getattr(single, name) is not None}
        if not ranges:
            raise ValueError(
                'augment.color_jitter changes nothing: set brightness, contrast, saturation or hue'
            )
        self.names = tuple(ranges)
        # Tensors made from numbers in every step would each wait for the device.
        self.register_buffer('low', torch.tensor([low for low, _ in ranges.values()]), persistent=False)
        self.register_buffer('high', torch.tensor([high for _, high in ranges.values()]), persistent=False)
        bgr = torch.tensor([0.114, 0.587, 0.299]).view(3, 1, 1)
        self.register_buffer('gray_weights', bgr, persistent=False)
        self.register_buffer('channel_offsets', torch.tensor([1.0, 3.0, 5.0]).view(3, 1, 1), persistent=False)

    def draw(self, number: int, generator: torch.Generator) -> JitterDraws:
        """Draw for a number of images, on the device of the generator."""
        shape, device = (number, len(self.names)), generator.device
        order = torch.rand(shape, generator=generator, device=device).argsort(dim=1)
        uniform = torch.rand(shape, generator=generator, device=device)
        return JitterDraws(order, self.low + uniform * (self.high - self.low))

    def forward(self, images: Tensor, draws: JitterDraws) -> Tensor:
        """Return the changed images.

        Args:
            images: BGR ``(B, 3, H, W)``, floating-point whole numbers of 0 to 255.
            draws: what :meth:`draw` returned.
        """
        for step in range(len(self.names)):
            number = draws.order[:, step].view(-1, 1, 1, 1)
            value = draws.values.gather(1, draws.order[:, step, None]).view(-1, 1, 1, 1)
            images = self._change(images, number, value)
        return images

    def _change(self, images: Tensor, number: Tensor, value: Tensor) -> Tensor:
        """Apply one operation to each image, the one of its number."""
        changed = images
        if self.names != ('hue',):
            blended = self._other(images, number).lerp(images, value).clamp_(0, 255)
            # Fractions are cut off, as in the loader; the addend keeps whole numbers despite float errors.
            changed = blended.add_(1e-3).floor_()
        if 'hue' in self.names:
            turned = self._turn_hue(images, value)
            changed = turned.where(number == self.names.index('hue'), changed)
        return changed

    def _other(self, images: Tensor, number: Tensor) -> Tensor:
        """Return what each image is blended with: black, its mean grey or its grey image."""
        other = images.new_zeros(())
        if self.names == ('brightness',):
            return other
        gray = (images * self.gray_weights).sum(1, keepdim=True).round_()
        if 'contrast' in self.names:
            mean = gray.mean((1, 2, 3), keepdim=True).round_()
            other = mean.where(number == self.names.index('contrast'), other)
        if 'saturation' in self.names:
            other = gray.where(number == self.names.index('saturation'), other)
        return other

    def _turn_hue(self, images: Tensor, turn: Tensor) -> Tensor:
        """Turn the hue of HSV by a part of the circle; value and saturation stay."""
        blue, green, red = images.unbind(1)
        value = images.amax(1)
        chroma = value - images.amin(1)
        divisor = chroma.clamp(min=1)  # whole numbers: less than 1 is 0
        sextant = torch.where(
            value == red,
            (green - blue) / divisor,
            torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
        )
        position = (sextant.unsqueeze(1) + 6 * turn + self.channel_offsets) % 6
        ramp = torch.minimum(position, 4 - position).clamp_(0, 1)
        return (value.unsqueeze(1) - chroma.unsqueeze(1) * ramp).round_()
