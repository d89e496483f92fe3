"""Colour jitter and random erasing of batches, in the data preprocessor instead of the loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch import Tensor, nn

from .batch_color_jitter import BatchColorJitter
from .batch_erasing import BatchErasing


class BatchAugment(nn.Module):
    """Colour jitter, then random erasing, of a training batch on the device of the model.

    The distribution is that of the transforms of the loader, which the pipeline then leaves out. Every image
    has random draws of its own. Nothing waits for the device.

    A seed of every step comes from PyTorch's generator of the CPU, whose state is in checkpoints, and from
    the rank, so that processes with the same seed draw differently.

    Args:
        color_jitter: arguments of :class:`BatchColorJitter`; None leaves it out.
        erasing: arguments of :class:`BatchErasing`; None leaves it out.
        shared: whether the copies of an image at several resolutions share its draws: colours, order and
            rectangle, but not the noise inside. In the loader every copy has its own.

    Raises:
        ValueError: there is neither jitter nor erasing.
    """

    def __init__(
        self, color_jitter: dict | None = None, erasing: dict | None = None, shared: bool = False
    ) -> None:
        super().__init__()
        if color_jitter is None and erasing is None:
            raise ValueError(
                'data_preprocessor.augment needs `color_jitter` or `erasing`; data_preprocessor.augment=None '
                'leaves both to the loader'
            )
        self.color_jitter = BatchColorJitter(**color_jitter) if color_jitter is not None else None
        self.erasing = BatchErasing(**erasing) if erasing is not None else None
        self.shared = shared

    def forward(self, copies: Sequence[Tensor]) -> list[Tensor]:
        """Augment the copies of a batch.

        Args:
            copies: BGR batches ``(B, 3, H_i, W_i)`` of 0 to 255, of any type, on one device.

        Returns:
            Batches of float32 of the same shapes, whose values are whole numbers of 0 to 255.
        """
        generator = _generator(copies[0].device)
        draws: tuple[Any, Any] | None = None
        augmented = []
        for images in copies:
            if draws is None or not self.shared:
                draws = self._draw(len(images), generator)
            jitter, erasing = draws
            images = images.float()
            if self.color_jitter is not None:
                images = self.color_jitter(images, jitter)
            if self.erasing is not None:
                images = self.erasing(images, erasing, generator)
            augmented.append(images)
        return augmented

    def _draw(self, number: int, generator: torch.Generator) -> tuple[Any, Any]:
        parts = (self.color_jitter, self.erasing)
        jitter, erasing = (part.draw(number, generator) if part is not None else None for part in parts)
        return jitter, erasing


def _generator(device: torch.device) -> torch.Generator:
    """Return a generator for one step of this process."""
    step = int(torch.randint(2**62, ()))  # on the CPU, where reading it does not wait for the device
    (seed,) = np.random.SeedSequence((step, get_rank())).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(seed) >> 1)
