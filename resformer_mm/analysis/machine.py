"""Description of the machine on which measurements were made."""

from __future__ import annotations

import os
import platform

import torch


def describe_device(device: str) -> str:
    """Return the name of the GPU, or architecture, instruction set and number of cores of the CPU."""
    if device.startswith('cuda'):
        return torch.cuda.get_device_name()
    return f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {os.cpu_count()} cores'
