"""The optimisers of DeepSpeed, of which later versions have fewer.

``DeepSpeedStrategy`` of MMEngine 0.10 registers the one-bit optimisers, which DeepSpeed 0.19 has not any
more: it stops with ``ModuleNotFoundError: No module named 'deepspeed.runtime.fp16.onebit'``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine.registry import OPTIMIZERS

__all__ = ['register_existing_optimizers']

_OPTIMIZERS = {'deepspeed.ops.adam': ('DeepSpeedCPUAdam', 'FusedAdam'), 'deepspeed.ops.lamb': ('FusedLamb',)}


def register_existing_optimizers() -> None:
    """Let MMEngine register the optimisers that there are; nothing changes if there are all."""
    if find_spec('deepspeed') is None or find_spec('deepspeed.runtime.fp16.onebit') is not None:
        return
    strategies: Any = import_module('mmengine._strategy.deepspeed')
    strategies.register_deepspeed_optimizers = _register


def _register() -> list[str]:
    for module, names in _OPTIMIZERS.items():
        for name in names:
            OPTIMIZERS.register_module(module=getattr(import_module(module), name), force=True)
    return [name for names in _OPTIMIZERS.values() for name in names]
