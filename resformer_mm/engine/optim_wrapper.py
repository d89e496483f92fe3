"""Optimiser wrappers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from resformer_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Forward in bfloat16 autocast, on a CPU too, where MMEngine's ``AmpOptimWrapper`` refuses to work.

    bfloat16 has the range of float32, so that there is no loss scaling.

    Args:
        **kwargs: arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast the forward pass, and leave out gradient synchronisation while accumulating."""
        device = get_device().split(':')[0]
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
