"""Few parameter groups in the place of one per tensor."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIMIZERS
from torch import nn
from torch.optim import Optimizer

from resformer_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

# Entry of a merged group: the groups of the unmerged optimiser and their numbers of parameters.
MERGED_FROM = 'merged_from'
# What constructors of the MM libraries note in a group after they have used it for `lr` and `weight_decay`.
NOTES = ('lr_mult', 'decay_mult', 'lr_scale', 'layer_id', 'group_name', 'param_name', 'param_names')
_DEFAULT = DefaultOptimWrapperConstructor.__name__


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsOptimWrapperConstructor:
    """An optimiser wrapper of another constructor, with its equal parameter groups merged.

    As soon as ``paramwise_cfg`` is set, MMEngine and the MM libraries make one group per tensor. An optimiser
    works through its groups one after the other, so that neither its multi-tensor nor its fused step has
    more than one tensor at a time. Here parameters of equal settings form one group, in the order in which
    the settings first appear. The updates are the same, bit for bit; with ``clip_grad``, the norm of the
    gradients is summed in another order, and may differ in the last bit.

    Optimisers of PyTorch that have a fused step take it, where it exists for the devices and the dtypes of
    the parameters, unless the config sets ``fused``, ``foreach``, ``capturable`` or ``differentiable``.

    Each merged group notes in 'merged_from' which groups it was made of. Checkpoints keep this entry, and
    :class:`resformer_mm.resuming.RegroupHook` uses it to resume with other groups.

    Args:
        optim_wrapper_cfg: ``optim_wrapper`` of a config, without ``constructor`` and ``paramwise_cfg``. Its
            field ``base_constructor`` names the constructor that makes the groups, MMEngine's by default.
        paramwise_cfg: as the other constructor takes it.

    Raises:
        ValueError: ``base_constructor`` is this class.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        cfg = dict(optim_wrapper_cfg)
        base = cfg.pop('base_constructor', _DEFAULT)
        if str(base).rpartition('.')[2] == type(self).__name__:
            raise ValueError(
                f"optim_wrapper.base_constructor='{base}' is the constructor itself: name the one that makes "
                f"the groups, such as '{_DEFAULT}'"
            )
        self._optim_wrapper_cfg = cfg
        self._base = dict(type=base, paramwise_cfg=paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper | OptimWrapperDict:
        """Return the optimiser wrapper for the parameters of a model."""
        cfg = dict(self._optim_wrapper_cfg)
        if isinstance(cfg.get('optimizer'), dict):
            cfg['optimizer'] = with_fused_step(cfg['optimizer'], model.parameters())
        wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(self._base, optim_wrapper_cfg=cfg))(model)
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        for part in wrappers:
            merge_groups(part.optimizer)
        return wrapper


def merge_groups(optimizer: Optimizer) -> None:
    """Merge the groups of an optimiser that differ in their parameters alone.

    Optimisers that wrap another one, such as ``ZeroRedundancyOptimizer``, hold their groups twice and are
    left unchanged.
    """
    if not isinstance(getattr(optimizer, 'optim', None), Optimizer):
        optimizer.param_groups = merged(optimizer.param_groups)


def merged(groups: Iterable[dict]) -> list[dict]:
    """Return parameter groups with those of equal settings merged.

    Groups that were merged hold 'merged_from': pairs of the index of a group and its number of parameters.
    """
    kinds: dict[Hashable, dict] = {}
    groups = list(groups)
    for index, group in enumerate(groups):
        origin = (index, len(group['params']))
        kind = kinds.setdefault(_settings(group), {**group, 'params': [], MERGED_FROM: []})
        kind['params'] += group['params']
        kind[MERGED_FROM].append(origin)
        for note in [note for note in NOTES if note in kind]:
            if note == 'param_names' and note in group:
                kind[note] = [*kind[note], *group[note]] if len(kind[MERGED_FROM]) > 1 else list(group[note])
            elif group.get(note) != kind[note]:
                del kind[note]
    return list(kinds.values()) if len(kinds) < len(groups) else groups


def with_fused_step(optimizer_cfg: dict, parameters: Iterable[nn.Parameter]) -> dict:
    """Return the settings of an optimiser, with ``fused=True`` if PyTorch has a fused step for it.

    Args:
        optimizer_cfg: ``optim_wrapper.optimizer`` of a config.
        parameters: the parameters to optimise, on their devices.
    """
    kind: Any = optimizer_cfg.get('type')
    if isinstance(kind, str):
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    if not inspect.isclass(kind) or not kind.__module__.startswith('torch.optim'):
        return optimizer_cfg
    decided = ('fused', 'foreach', 'capturable', 'differentiable')
    if 'fused' not in inspect.signature(kind).parameters or any(name in optimizer_cfg for name in decided):
        return optimizer_cfg
    fused = {**optimizer_cfg, 'fused': True}
    build: Any = kind
    arguments = {name: value for name, value in fused.items() if name != 'type'}
    samples = [nn.Parameter(torch.zeros(1, device=x, dtype=y)) for x, y in _devices_and_types(parameters)]
    for sample in samples:
        sample.grad = torch.zeros_like(sample)
    try:
        build(samples, **arguments).step()  # PyTorch has no other way to ask
    except (RuntimeError, ValueError):
        return optimizer_cfg
    return fused


def _devices_and_types(parameters: Iterable[nn.Parameter]) -> set[tuple[torch.device, torch.dtype]]:
    return {(parameter.device, parameter.dtype) for parameter in parameters if parameter.requires_grad}


def _settings(group: dict) -> Hashable:
    """Return what must be equal in groups that can be one."""
    return tuple(
        (name, group[name] if isinstance(group[name], Hashable) else repr(group[name]))
        for name in sorted(group)
        if name not in ('params', *NOTES)
    )
