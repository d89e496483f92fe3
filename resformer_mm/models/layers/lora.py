"""Low-rank adapters of linear layers (LoRA, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .local_position import LocalPosition

# Names of adapters inside of a layer, also in checkpoints.
DOWN, UP, SCALE = 'lora_a', 'lora_b', 'lora_scale'


class LoRALinear(nn.Linear):
    """A linear layer with weights W that are not trained, and an adapter::

        W x + b + (alpha / r) B A dropout(x)

    B is zero at first, and the layer then equals the one it was made of. Its weights keep their names.

    Args:
        base: the layer, whose parameters are shared.
        r: rank of the adapter.
        alpha: numerator of its factor.
        dropout: dropout of its input.
    """

    lora_scale: Tensor

    def __init__(self, base: nn.Linear, r: int, alpha: float, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)  # that of `nn.Linear` would draw weights
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.lora_a = nn.Parameter(base.weight.new_empty(r, self.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(self.out_features, r))
        # In the checkpoint, because adapters cannot be merged without it.
        self.register_buffer(SCALE, torch.tensor(alpha / r, device=base.weight.device))
        self.lora_dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, input: Tensor) -> Tensor:
        """Return ``(..., out_features)``."""
        return self.rows(input, slice(None))

    def rows(self, input: Tensor, rows: slice) -> Tensor:
        """Return some of the output channels; see :func:`linear_rows`."""
        low = F.linear(self.lora_dropout(input), self.lora_a)
        return _linear(self, input, rows) + self.lora_scale * F.linear(low, self.lora_b[rows])

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        scale = state_dict.get(prefix + SCALE)
        if scale is not None and not math.isclose(float(scale), float(self.lora_scale), rel_tol=1e-6):
            raise ValueError(
                f'the adapters of the checkpoint have alpha / r = {float(scale):g} ({prefix}{SCALE}), those '
                f'of backbone.lora {float(self.lora_scale):g}: set lora.alpha and lora.r to those of the '
                'checkpoint'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def linear_rows(layer: nn.Linear, input: Tensor, rows: slice) -> Tensor:
    """Return some of the output channels of a linear layer with or without an adapter.

    Args:
        layer: the layer.
        input: ``(..., in_features)``.
        rows: which output channels.
    """
    return layer.rows(input, rows) if isinstance(layer, LoRALinear) else _linear(layer, input, rows)


def add_adapters(
    blocks: Mapping[str, nn.Module],
    r: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    target_modules: Iterable[str] = ('qkv', 'proj'),
    modules_to_save: Iterable[str] = (),
) -> None:
    """Replace linear layers of blocks by layers with adapters.

    Args:
        blocks: the blocks by the names that they have in the model.
        r: rank.
        alpha: the adapters have the factor ``alpha / r``; None is ``r``.
        dropout: dropout of the input of the adapters.
        target_modules: names of the layers in the blocks: 'qkv', 'proj', 'fc1', 'fc2', ...
        modules_to_save: see :func:`is_trained`; such layers are trained themselves, and get no adapter.

    Raises:
        ValueError: an argument is out of range, or a name is of no linear layer.
    """
    targets = [target_modules] if isinstance(target_modules, str) else list(target_modules)
    if isinstance(r, bool) or not isinstance(r, int) or r < 1:
        raise ValueError(f'backbone.lora.r must be a positive integer, got {r!r}')
    alpha = r if alpha is None else alpha
    if not alpha > 0:
        raise ValueError(f'backbone.lora.alpha must be positive, got {alpha!r}')
    if not 0 <= dropout < 1:
        raise ValueError(f'backbone.lora.dropout must be at least 0 and less than 1, got {dropout!r}')
    names: set[str] = set()
    for start, block in blocks.items():
        positions = [module for module in block.modules() if isinstance(module, LocalPosition)]
        left_out = {module for position in positions for module in position.modules()}
        for path, parent in [*block.named_modules(prefix=start)]:
            for name, layer in [*parent.named_children()]:
                if type(layer) is not nn.Linear or parent in left_out:
                    continue
                names.add(name)
                if name in targets and not is_trained(f'{path}.{name}.weight', modules_to_save):
                    setattr(parent, name, LoRALinear(layer, r, alpha, dropout))
    if unknown := [target for target in targets if target not in names] if names else []:
        raise ValueError(f'backbone.lora.target_modules has {unknown}: choose from {sorted(names)}')
    if not targets:
        raise ValueError('backbone.lora.target_modules is empty: name layers such as qkv and proj')


def is_trained(name: str, modules_to_save: Iterable[str]) -> bool:
    """Whether a parameter is trained beside adapters, because its name contains one of some parts."""
    parts = [modules_to_save] if isinstance(modules_to_save, str) else modules_to_save
    return any(part in name for part in parts)


def is_adapter(name: str) -> bool:
    """Whether a parameter or buffer is of an adapter, by its name."""
    return name.rpartition('.')[2] in (DOWN, UP, SCALE)


def merge_adapters(model: nn.Module) -> int:
    """Add the adapters of a model to its weights, and remove them; return how many there were.

    The outputs stay those of the evaluation mode. What was frozen stays frozen.
    """
    found = 0
    for parent in [*model.modules()]:
        for name, layer in [*parent.named_children()]:
            if isinstance(layer, LoRALinear):
                setattr(parent, name, _merged(layer))
                found += 1
        settings: dict[str, Any] | None = parent.__dict__.get('settings')
        if settings is not None and settings.get('lora') is not None:
            settings['lora'] = None
            parent.__dict__['lora'] = None
    return found


def merge_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state with the adapters added to the weights, under the names of a model without adapters.

    Raises:
        ValueError: a part of an adapter is missing.
    """
    merged = {name: value for name, value in state.items() if not is_adapter(name)}
    for prefix in sorted({name.rpartition('.')[0] for name in state if is_adapter(name)}):
        parts = [f'{prefix}.{part}' for part in ('weight', DOWN, UP, SCALE)]
        if lacking := [name for name in parts if name not in state]:
            raise ValueError(f'the adapter of {prefix} is incomplete, it lacks {", ".join(lacking)}')
        weight, down, up, scale = (state[name] for name in parts)
        merged[parts[0]] = _sum(weight, down, up, scale)
    return merged


def _merged(layer: LoRALinear) -> nn.Linear:
    plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device='meta')
    with torch.no_grad():
        weight = _sum(layer.weight, layer.lora_a, layer.lora_b, layer.lora_scale)
    plain.weight = nn.Parameter(weight, layer.weight.requires_grad)
    plain.bias = layer.bias
    return plain.train(layer.training)


def _sum(weight: Tensor, down: Tensor, up: Tensor, scale: Tensor) -> Tensor:
    return (weight.double() + scale.double() * (up.double() @ down.double())).to(weight.dtype)


def _linear(layer: nn.Linear, input: Tensor, rows: slice) -> Tensor:
    return F.linear(input, layer.weight[rows], None if layer.bias is None else layer.bias[rows])
