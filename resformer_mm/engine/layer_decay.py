"""Layer-wise decay of the learning rate, for models of all libraries."""

from __future__ import annotations

import inspect
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from resformer_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .merged_groups import merge_groups, with_fused_step

RATE = 'layer_decay_rate'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor with learning rates that decay from the last block of the backbone to the first.

    ``paramwise_cfg.layer_decay_rate`` is the factor from a block to the one before it. All other options are
    those of MMEngine, and factors of the rate multiply. Heads and necks learn at the rate of the optimiser.
    The backbone is found in the model, which itself need not know of depths: a plain ``EncoderDecoder``,
    ``MaskRCNN`` or ``Recognizer2D`` will do. Equal groups are merged, and the step is fused, as in
    :class:`MergedGroupsOptimWrapperConstructor`.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Return the optimiser wrapper for the parameters of a model."""
        self.optimizer_cfg: dict = with_fused_step(self.optimizer_cfg, model.parameters())
        wrapper = super().__call__(model)
        merge_groups(wrapper.optimizer)
        return wrapper

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        rate = self.paramwise_cfg.get(RATE)
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                f'optim_wrapper.paramwise_cfg.{RATE} is {rate!r}: set it to a number above 0 and at most 1, '
                'such as 0.75'
            )
        if self.base_lr is None:
            raise ValueError('optim_wrapper.optimizer.lr is missing: layer-wise rates are fractions of it')

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', *args, **kwargs) -> None:
        """Add the parameter groups of a module, those of the whole model with their learning rates."""
        super().add_params(params, module, prefix, *args, **kwargs)
        if prefix:
            return
        scales = layer_scales(module, self.paramwise_cfg[RATE])
        base_lr: Any = self.base_lr
        for group in params:
            group['lr'] = group.get('lr', base_lr) * scales[group['params'][0]]


def layer_scales(model: nn.Module, rate: float) -> dict[nn.Parameter, float]:
    """Return the factor of the learning rate of every parameter.

    Args:
        model: a model with one or more backbones that have ``get_layer_depth(param_name, prefix)``.
        rate: factor from a block to the one before it.

    Raises:
        ValueError: the model has no such backbone.
    """
    backbones: dict[str, Any] = {
        name: module for name, module in model.named_modules() if _has_depths(module)
    }
    if not backbones:
        raise ValueError(
            f'optim_wrapper.paramwise_cfg.{RATE}: {type(model).__name__} has no backbone with '
            '`get_layer_depth`, such as resformer_mm.ResFormer, so the depth of its layers is unknown'
        )
    scales = dict.fromkeys(model.parameters(), 1.0)
    for prefix, backbone in backbones.items():
        start = f'{prefix}.' if prefix else ''
        for name, parameter in backbone.named_parameters():
            depth, number = backbone.get_layer_depth(start + name, start)
            scales[parameter] = rate ** (number - depth - 1)
    return scales


def _has_depths(module: nn.Module) -> bool:
    function = getattr(module, 'get_layer_depth', None)
    return function is not None and 'prefix' in inspect.signature(function).parameters
