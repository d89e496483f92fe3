"""Optimiser wrapper for bfloat16 autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from resformer_mm.registry import OPTIM_WRAPPERS

from .precision import half_pays


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Run the forward pass in bfloat16 autocast, also on a CPU, which MMEngine's ``AmpOptimWrapper`` rejects.

    bfloat16 has the range of float32, so no loss scaling is needed. On a CPU that would emulate bfloat16, the
    forward pass is run in float32, and one line says so.

    Args:
        **kwargs: arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast the forward pass, and skip gradient synchronisation during accumulation."""
        device = get_device().split(':')[0]
        pays = half_pays('bfloat16', device, 'optim_wrapper.type=AutocastOptimWrapper')
        autocast = torch.autocast(device, dtype=torch.bfloat16) if pays else nullcontext()
        with super().optim_context(model), autocast:
            yield
