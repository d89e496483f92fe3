"""Inference in 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from resformer_mm.config.inference_dtype import FIELD, InferenceDtype
from resformer_mm.models import ResFormer
from resformer_mm.models.layers import GlobalPosition, LocalPosition

from .precision import half_pays


def set_inference_dtype(model: nn.Module, name: InferenceDtype, where: str = FIELD) -> InferenceDtype:
    """Let a model predict in a type of 16 bits; return the type that is used.

    The forward pass runs under autocast, and the linear layers and the patch projection of a ResFormer keep
    their weights in the type, instead of converting them in every call: its outputs are those of autocast,
    bit for bit. Position embeddings, norms and the tokens between blocks stay in float32. So do the last
    layer of classifiers, pooling of regions, and everything that follows the scores of a head, such as boxes.

    The model cannot be trained afterwards.

    Args:
        model: the model, of any task, on its device, in a wrapper or not.
        name: the type; 'float32' changes nothing.
        where: the config field or option that asks for it, for the message.

    Returns:
        ``name``, or 'float32' if the processor would emulate that type; one line says so.
    """
    device = next(model.parameters()).device
    if name == 'float32' or not half_pays(name, device, where):
        return 'float32'
    compute_in(model, name)
    return name


def compute_in(model: nn.Module, name: InferenceDtype) -> None:
    """Do what :func:`set_inference_dtype` does, also where the processor emulates the type.

    Args:
        model: the model, of any task, on its device, in a wrapper or not.
        name: the type; 'float32' changes nothing.
    """
    if name == 'float32':
        return
    inner: Any = model
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    device = next(inner.parameters()).device
    dtype = getattr(torch, name)
    for module in inner.modules():
        if isinstance(module, ResFormer):
            _convert_weights(module, dtype)
            _run_in(module, 'forward', device.type, dtype)  # also for calls of the backbone alone
        if hasattr(module, 'predict_by_feat'):
            _run_in(module, 'predict_by_feat', device.type)
        if hasattr(module, 'roi_layers'):
            _run_in(module, 'forward', device.type)
    for head in ('head', 'cls_head'):  # of mmpretrain and mmaction
        if isinstance(getattr(inner, head, None), nn.Module):
            _run_in(getattr(inner, head), 'forward', device.type)
    _run_in(inner, 'forward', device.type, dtype)


def _convert_weights(backbone: ResFormer, dtype: torch.dtype) -> None:
    positions = [m for m in backbone.modules() if isinstance(m, (GlobalPosition, LocalPosition))]
    kept = {module for position in positions for module in position.modules()}
    for module in backbone.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module not in kept:
            for parameter in (module.weight, module.bias):
                if parameter is not None:
                    parameter.data = parameter.data.to(dtype)


@dataclass(frozen=True)
class _Method:
    """A method that runs under autocast, or in float32 if there is no type.

    Not a closure, so that a deep copy of its module calls its own method.
    """

    function: Callable
    device_type: str
    dtype: torch.dtype | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.dtype is not None:
            with torch.autocast(self.device_type, self.dtype):
                return self.function(*args, **kwargs)
        with torch.autocast(self.device_type, enabled=False):
            return self.function(*_as_float32(args), **_as_float32(kwargs))


def _run_in(module: nn.Module, method: str, device_type: str, dtype: torch.dtype | None = None) -> None:
    setattr(module, method, _Method(getattr(module, method), device_type, dtype))


def _as_float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if isinstance(value, (list, tuple)) and not hasattr(value, '_fields'):
        return type(value)(map(_as_float32, value))
    if type(value) is dict:
        return {key: _as_float32(entry) for key, entry in value.items()}
    return value
