"""Adaptive average pooling that can be exported for all sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class ExportableAdaptivePooling(TorchFunctionMode):
    """While it is active, ``adaptive_avg_pool2d`` is computed by :func:`adaptive_average`.

    PyTorch converts this function to ONNX only for sizes that are known in advance. Poolings of pyramids, as
    in UPerNet and PSPNet, would otherwise fix the size of the image.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, or its replacement."""
        if func is F.adaptive_avg_pool2d:
            return adaptive_average(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def adaptive_average(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """Return what :func:`torch.nn.functional.adaptive_avg_pool2d` returns, as two products of matrices.

    Args:
        input: ``(..., H, W)``.
        output_size: height and width of the result, or one number for both; None keeps a side.
    """
    sizes = [output_size] * 2 if isinstance(output_size, int) else output_size
    for dim, number in zip((-2, -1), sizes):
        if number is not None:
            weights = _weights(input.shape[dim], number, input)
            # A copy and `mm`: `reshape` and `@` would take another path where a side is one.
            rows = input.transpose(dim, -1).clone(memory_format=torch.contiguous_format)
            means = torch.mm(rows.view(-1, rows.shape[-1]), weights.T)
            input = means.view(*rows.shape[:-1], number).transpose(dim, -1)
    return input


def _weights(length: int, number: int, like: Tensor) -> Tensor:
    """Return the share ``(number, length)`` that a position has in each mean."""
    parts = torch.arange(number, device=like.device)
    starts, ends = parts * length // number, ((parts + 1) * length + number - 1) // number
    positions = torch.arange(length, device=like.device)
    inside = (positions >= starts[:, None]) & (positions < ends[:, None])
    return inside.to(like.dtype) / (ends - starts)[:, None].to(like.dtype)
