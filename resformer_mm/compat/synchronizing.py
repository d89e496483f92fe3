"""Waiting for a device of any type.

PyTorch has ``torch.accelerator`` since 2.6. Before, every type of device has a module of its own.
"""

from __future__ import annotations

import torch

__all__ = ['synchronize']


def synchronize(device: str | torch.device) -> None:
    """Wait until a device has finished its work, as has the CPU when a call returns."""
    device = torch.device(device)
    if device.type == 'cpu':
        return
    accelerator = getattr(torch, 'accelerator', None)
    if accelerator is not None:
        accelerator.synchronize(device)
    else:
        getattr(torch, device.type).synchronize()
