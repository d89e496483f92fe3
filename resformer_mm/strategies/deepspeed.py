"""Training with DeepSpeed, with checkpoints like those of any other training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mmengine
import torch
import torch.distributed
from mmengine._strategy import DeepSpeedStrategy, SingleDeviceStrategy
from mmengine.dist import is_main_process
from mmengine.runner import save_checkpoint, weights_to_cpu
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor, nn

from resformer_mm.compat.deepspeed_optimizers import register_existing_optimizers
from resformer_mm.registry import STRATEGIES

# What an optimiser decides by itself, not the checkpoint.
_OWN = ('params', 'fused', 'foreach')


@STRATEGIES.register_module()
class ExactDeepSpeedStrategy(DeepSpeedStrategy):
    """:class:`mmengine._strategy.DeepSpeedStrategy` whose checkpoints are those of a training without it.

    ``tools/train.py`` uses it wherever a config says ``DeepSpeedStrategy``. A checkpoint is one file with the
    whole weights in float32 and the whole state of the optimiser, not a folder with a part per process:
    any number of processes goes on from it, with DeepSpeed or without, and every tool reads it.
    ``--auto-scale-lr`` is heeded.

    Args:
        zero_optimization: settings of ZeRO; stages 1 and 2, in which every process has the whole weights.
        **kwargs: see :class:`mmengine._strategy.DeepSpeedStrategy`.

    Raises:
        ImportError: DeepSpeed is not installed.
        ValueError: another stage.
    """

    def __init__(self, *, zero_optimization: dict | None = None, **kwargs: Any) -> None:
        stage = (zero_optimization or {}).get('stage', 0)
        if stage not in (1, 2):
            raise ValueError(
                f'strategy.zero_optimization.stage={stage!r}: set it to 1 or 2; to spread weights as well, '
                "use dict(type='FSDPStrategy')"
            )
        register_existing_optimizers()
        try:
            super().__init__(zero_optimization=zero_optimization, **kwargs)
        except AssertionError as error:
            raise ImportError(f'strategy: {error}. `pip install deepspeed`') from error
        self._groups: list[list[nn.Parameter]] = []

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if hasattr(self, 'optim_wrapper'):
            self._groups = [[*group['params']] for group in self.optim_wrapper.optimizer.param_groups]
            self._scale_lr()
        # MMEngine gives it to a strategy of the name `DeepSpeedStrategy` alone.
        size = self.dispatch_kwargs.get('train_micro_batch_size_per_gpu', 1)
        self.config.setdefault('train_micro_batch_size_per_gpu', size)
        return super()._wrap_model(model)

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Save a checkpoint in the first process; the others take part. See the base class."""
        content: dict[str, Any] = {'state_dict': self.model_state_dict()}
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            content['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            content['param_schedulers'] = self.scheduler_state_dict()
        content.update(extra_ckpt or {})
        content['meta'] = {
            **content.get('meta', {}),
            'seed': self.seed,
            'time': time.strftime('%Y%m%d_%H%M%S'),
            'mmengine': mmengine.__version__,
        }
        if callback is not None:
            callback(content)
        if is_main_process():
            save_checkpoint(content, filename)

    def load_checkpoint(self, filename: str, **kwargs: Any) -> dict:
        """Load the weights of a checkpoint; see :class:`mmengine._strategy.SingleDeviceStrategy`."""
        this: Any = self
        return SingleDeviceStrategy.load_checkpoint(this, filename, **kwargs)

    def resume(self, filename: str, **kwargs: Any) -> dict:
        """Go on from a checkpoint; see :class:`mmengine._strategy.SingleDeviceStrategy`."""
        this: Any = self
        return SingleDeviceStrategy.resume(this, filename, **kwargs)

    def model_state_dict(self) -> dict[str, Tensor]:
        """Return the whole weights in float32; all processes must call it."""
        state = weights_to_cpu(self.model.module.state_dict())
        for name, parameter in self.model.module.named_parameters():
            if parameter.dtype != torch.float32 and hasattr(parameter, '_hp_mapping'):
                state[name] = _gather(parameter, None).cpu()
        return state

    def load_model_state_dict(
        self, state_dict: Mapping[str, Tensor], *, strict: bool = False, **_: Any
    ) -> None:
        """Load whole weights, also into the parts in float32 that the optimiser works on."""
        load_state_dict(self.model.module, state_dict, strict)
        for name, parameter in self.model.module.named_parameters():
            if name in state_dict:
                _scatter(parameter, None, state_dict[name])

    def optim_state_dict(self) -> dict:
        """Return the whole state of the optimiser, as without DeepSpeed; all processes must call it."""
        state: dict[int, dict] = {}
        groups, number = [], 0
        for parameters, flat, settings in self._optimised():
            for index, parameter in enumerate(parameters):
                own = self._base.state.get(flat, {}) if parameter.requires_grad else {}
                entry = {
                    key: _gather(parameter, value).cpu() if _is_part(value, flat) else value
                    for key, value in own.items()
                }
                if entry:
                    state[number + index] = entry
            numbers = [*range(number, number + len(parameters))]
            groups.append({**{k: v for k, v in settings.items() if k != 'params'}, 'params': numbers})
            number += len(parameters)
        return {'state': state, 'param_groups': groups, **self.optim_wrapper.state_dict()}

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the whole state of an optimiser, which every process has."""
        saved = state_dict['param_groups']
        if [len(group['params']) for group in saved] != [len(parameters) for parameters in self._groups]:
            raise ValueError(
                'the optimiser of the checkpoint has other parameter groups than this run: resume with '
                'optim_wrapper and model of the interrupted run'
            )
        for (parameters, flat, settings), group in zip(self._optimised(), saved):
            settings.update({key: value for key, value in group.items() if key not in _OWN})
            own = self._base.state[flat]
            for parameter, number in zip(parameters, group['params']):
                for key, value in state_dict['state'].get(number, {}).items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim:
                        _scatter(parameter, own.setdefault(key, torch.zeros_like(flat)), value)
                    else:
                        own[key] = value
        others = {key: value for key, value in state_dict.items() if key not in ('state', 'param_groups')}
        self.optim_wrapper.load_state_dict(others)

    @property
    def _base(self) -> torch.optim.Optimizer:
        return self.optim_wrapper.optimizer.optimizer

    def _optimised(self) -> Iterator[tuple[list[nn.Parameter], Tensor, dict]]:
        """Yield the parameters of each group, the part that this process optimises, and the settings."""
        flats = self.optim_wrapper.optimizer.single_partition_of_fp32_groups
        yield from zip(self._groups, flats, self._base.param_groups)


def _is_part(value: Any, flat: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == flat.shape


def _gather(parameter: Any, flat: Tensor | None) -> Tensor:
    """Return what all processes hold of a parameter: parts of flat tensors, or its float32 weights."""
    whole = torch.zeros(parameter.numel(), dtype=torch.float32, device=parameter.device)
    mapping = parameter._hp_mapping
    if mapping is not None:
        place, part = mapping.lp_fragment_address, mapping.hp_fragment_address
        source = mapping.hp_fragment if flat is None else flat.narrow(0, part.start, part.numel)
        whole.narrow(0, place.start, place.numel).copy_(source.detach())
    torch.distributed.all_reduce(whole, group=parameter._dp_group)
    return whole.view(parameter.shape)


def _scatter(parameter: Any, flat: Tensor | None, value: Tensor) -> None:
    """Put the part of a whole value that this process holds into its place, reversing `_gather`."""
    mapping = getattr(parameter, '_hp_mapping', None)
    if mapping is None:
        return
    place, part = mapping.lp_fragment_address, mapping.hp_fragment_address
    target = mapping.hp_fragment if flat is None else flat.narrow(0, part.start, part.numel)
    target.detach().copy_(value.flatten().narrow(0, place.start, place.numel))
