"""Complexity of a forward pass: multiply-adds and parameters, per module, operator and part."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer, parameter_count
from mmengine.analysis.jit_handles import get_shape
from mmengine.model import BaseModel
from torch import Tensor, nn

from resformer_mm.libraries import library_of
from resformer_mm.models.backbones import ResFormer
from resformer_mm.models.layers import (
    MLP,
    Attention,
    FlexiblePatchEmbed,
    GlobalPosition,
    GridMerger,
    LocalPosition,
    PatchEmbed,
    fix_patches,
)

ATTENTION = 'aten::scaled_dot_product_attention'

# Operators with a few operations per element and no weights. They are not counted, like those on MMEngine's
# own list. Operators on neither list that have no counter are reported.
_ELEMENTWISE = """
abs add add_ amax clamp clamp_max clamp_min clone cos cumsum div div_ elu exp expand_as feature_dropout
floor_ gelu hardsigmoid hardswish hardswish_ le leaky_relu leaky_relu_ log log2 log_softmax logical_and
logical_not lt
maximum mean meshgrid minimum mul mul_ ne neg new_ones ones_like pad pow prod reciprocal reflection_pad2d
repeat repeat_interleave rsqrt rsub sigmoid sigmoid_ silu silu_ sin softmax softplus sqrt sub sub_ sum tanh
unflatten where
""".split()

# Part of the model that the operators of a module of this project belong to.
_PARTS = {
    PatchEmbed: 'patch embedding',
    GridMerger: 'token merger',
    GlobalPosition: 'global position',
    Attention: 'projections',
    LocalPosition: 'local position',
    MLP: 'MLP',
}
_OPERATOR_PARTS = {
    'scaled_dot_product_attention': 'attention',
    'layer_norm': 'normalisation',
    'batch_norm': 'normalisation',
    'group_norm': 'normalisation',
    'instance_norm': 'normalisation',
}


@dataclass(frozen=True)
class Complexity:
    """The cost of one forward pass.

    Attributes:
        flops: multiply-adds; a multiplication and an addition count as one.
        parameters: size of all parameters of the model, including those that the pass does not use.
        by_module: module name -> multiply-adds of the module; '' is the model.
        by_operator: operator -> multiply-adds.
        by_part: part of the model -> multiply-adds, adding up to ``flops``: 'patch embedding', 'global
            position', 'local position', 'attention' (the products Q K^T and A V), 'projections' (qkv and
            output), 'MLP', 'token merger' (its linear layers) and 'normalisation'; everything else is listed
            under the name of the model's child module, e.g. 'backbone' or 'head'.
        uncounted: operator -> number of calls that were not counted, without elementwise operators.
    """

    flops: int
    parameters: int
    by_module: dict[str, int]
    by_operator: dict[str, int]
    by_part: dict[str, int]
    uncounted: dict[str, int]


def count_complexity(
    model: nn.Module, inputs: Tensor | tuple[Tensor, ...], data_samples: Sequence[Any] | None = None
) -> Complexity:
    """Count the multiply-adds of one forward pass in evaluation mode, without preprocessing and losses.

    An MMEngine model is called as ``model(inputs, data_samples, mode='tensor')``, any other module as
    ``model(*inputs)``. The convention is the one of papers, fvcore and MMEngine, whose counters are used: a
    multiply-add counts as one, a norm as five per element, other elementwise operators as zero. Attention is
    counted as Q K^T and A V over all keys, masked or not; that inside the cells of a token merger, two
    multiply-adds per number of its input, is elementwise. Values that a model caches, such as position maps,
    are counted in full; the resize of a kernel to the patch size is not. The model itself is not changed.

    Args:
        model: the model, on any device.
        inputs: images ``(B, C, H, W)``, or other inputs of the model, on its device; any values.
        data_samples: one per image, for models that need them, such as two-stage detectors.

    Raises:
        ValueError: ``data_samples`` are given for a model that is not an MMEngine model.
    """
    analyzer = analyze_flops(model, inputs, data_samples)
    with torch.no_grad(), torch.random.fork_rng(_devices(model)):
        by_module = analyzer.by_module()  # runs the pass
    return Complexity(
        flops=int(by_module['']),
        parameters=parameter_count(model)[''],
        by_module={name: int(count) for name, count in by_module.items()},
        by_operator={name: int(count) for name, count in analyzer.by_operator().items()},
        by_part=_split(model, analyzer.by_module_and_operator()),
        uncounted=dict(analyzer.unsupported_ops()),
    )


def analyze_flops(
    model: nn.Module, inputs: Tensor | tuple[Tensor, ...], data_samples: Sequence[Any] | None = None
) -> FlopAnalyzer:
    """Return MMEngine's analyzer of a copy of the model, in evaluation mode, with additional counters.

    It can be printed with MMEngine's ``complexity_stats_table`` and ``complexity_stats_str``.
    The arguments and errors are those of :func:`count_complexity`.
    """
    # A copy, because tracing adds hooks to the modules, and cached position maps would not be counted.
    traced = deepcopy(model).eval()
    first = inputs if isinstance(inputs, Tensor) else inputs[0]
    if any(isinstance(module, FlexiblePatchEmbed) for module in traced.modules()):
        fix_patches(traced, (first.shape[-2], first.shape[-1]))
    forward = traced.forward
    if isinstance(model, BaseModel):
        forward = partial(forward, data_samples=data_samples, mode='tensor', **library_of(model).forward)
    elif data_samples is not None:
        raise ValueError(f'data_samples are for MMEngine models only, {type(model).__name__} is not one')
    traced.forward = lambda *args: tuple(_tensors(forward(*args)))
    analyzer = FlopAnalyzer(traced, inputs if isinstance(inputs, Tensor) else tuple(inputs))
    analyzer.set_op_handle(**{ATTENTION: _count_attention, 'aten::baddbmm': _count_baddbmm})
    analyzer.set_op_handle(**{f'aten::{name}': None for name in _ELEMENTWISE})
    return analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')


def _tensors(output: Any) -> list[Tensor]:
    """Return the tensors of a nested output; a trace cannot return anything else."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    elif hasattr(output, 'all_items'):  # an MMEngine data element
        output = [value for _, value in output.all_items()]
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [tensor for item in output for tensor in _tensors(item)]
    return []


def _count_attention(inputs: list, outputs: list) -> int:
    """Q K^T and A V of ``(..., N_q, d)``, ``(..., N_k, d)`` and ``(..., N_k, d_v)``."""
    query, key, value = (get_shape(tensor) for tensor in inputs[:3])
    return math.prod(get_shape(outputs[0])[:-1]) * key[-2] * (query[-1] + value[-1])


def _count_baddbmm(inputs: list, outputs: list) -> int:
    return math.prod(get_shape(outputs[0])) * get_shape(inputs[1])[-1]


def _devices(model: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in model.parameters() if p.device.type == 'cuda'}, key=str)


def _split(model: nn.Module, counts: Mapping[str, Counter]) -> dict[str, int]:
    """Return part -> multiply-adds; each operator belongs to the innermost module that ran it."""
    own = {name: Counter(count) for name, count in counts.items()}
    for name, count in counts.items():
        if name:
            own[name.rpartition('.')[0]].subtract(count)
    parts: Counter = Counter()
    for name, count in own.items():
        for operator, flops in count.items():
            parts[_part(model, name, operator)] += int(flops)
    order = dict.fromkeys((*_PARTS.values(), *_OPERATOR_PARTS.values(), *parts))
    return {part: parts[part] for part in order if parts[part]}


def _part(model: nn.Module, name: str, operator: str) -> str:
    if operator in _OPERATOR_PARTS:
        return _OPERATOR_PARTS[operator]
    ancestor = name
    while True:
        module = model.get_submodule(ancestor)
        for kind, part in _PARTS.items():
            if isinstance(module, kind) and not (kind is MLP and _is_inside(model, ancestor, GridMerger)):
                return part
        # The last block may compute only the class token, without calling qkv as a module.
        if isinstance(module, ResFormer) and ancestor == name and operator == 'linear':
            return 'projections'
        if not ancestor:
            return name.partition('.')[0] or type(model).__name__
        ancestor = ancestor.rpartition('.')[0]


def _is_inside(model: nn.Module, name: str, kind: type[nn.Module]) -> bool:
    """Return whether a module is a part of one of a class."""
    parents = name.split('.')[:-1]
    places = ('.'.join(parents[:end]) for end in range(len(parents) + 1))
    return any(isinstance(model.get_submodule(place), kind) for place in places)
