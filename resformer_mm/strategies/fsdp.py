"""Fully sharded data parallel training, with checkpoints like those of any other training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import weights_to_cpu
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy
from torch.optim import Optimizer

from resformer_mm.config_types import find_type, type_field
from resformer_mm.models.backbones import ResFormer
from resformer_mm.registry import STRATEGIES

# Optimisers that update every number of a parameter by itself. Others, such as LAMB, need whole tensors.
ELEMENTWISE = (
    'Adadelta',
    'Adagrad',
    'Adam',
    'AdamW',
    'Adamax',
    'ASGD',
    'Lion',
    'NAdam',
    'RAdam',
    'RMSprop',
    'Rprop',
    'SGD',
)
_PREFIX = '_fsdp_wrapped_module.'


@STRATEGIES.register_module()
class ExactFSDPStrategy(FSDPStrategy):
    """:class:`mmengine._strategy.FSDPStrategy` whose checkpoints are those of an unsharded training.

    ``tools/train.py`` uses it wherever a config says ``FSDPStrategy``. What differs:

    - a checkpoint is one file with the whole weights and the whole state of the optimiser, as without
      sharding: any number of processes goes on from it, sharded or not, and every tool reads it;
    - parameter groups are made of the whole model. Of shards, which have one dimension and other names,
      settings by name or shape would be others;
    - ``clip_grad`` takes the norm of all shards, not of those of one process;
    - processes without a GPU are possible.

    Every block of a ResFormer but the last is a unit that is gathered and released by itself. The last block
    and the rest of the model form another one: part of that block is called without its ``forward``.

    Args:
        model_wrapper: arguments of :class:`mmengine.model.MMFullyShardedDataParallel`. Without
            ``auto_wrap_policy``, the blocks of a ResFormer are units; of another model, all of it.
        state_dict_cfg: 'full', the only one.
        **kwargs: see :class:`mmengine._strategy.FSDPStrategy`.

    Raises:
        ValueError: another ``state_dict_cfg``, or ``use_orig_params=False``.
    """

    def __init__(
        self, *, model_wrapper: dict | None = None, state_dict_cfg: str | dict = 'full', **kwargs: Any
    ) -> None:
        if state_dict_cfg != 'full':
            raise ValueError(
                f'strategy.state_dict_cfg={state_dict_cfg!r} saves one part per process, which nothing else '
                "reads: leave it out, or set it to 'full'"
            )
        wrapper = {'type': 'MMFullyShardedDataParallel', **(model_wrapper or {})}
        if not wrapper.setdefault('use_orig_params', True):
            raise ValueError(
                'strategy.model_wrapper.use_orig_params=False joins parameters whose weight decay differs: '
                'leave it out'
            )
        super().__init__(model_wrapper=wrapper, state_dict_cfg='full', **kwargs)
        offload = _offloads()
        self.state_dict_config = FullStateDictConfig(rank0_only=True, offload_to_cpu=offload)
        self.optim_state_dict_config = FullOptimStateDictConfig(rank0_only=True, offload_to_cpu=offload)

    def prepare(self, model: nn.Module | dict, *, optim_wrapper: Any = None, **kwargs: Any) -> Any:
        """Build the optimiser for the whole model, then shard both; see the base class."""
        if not self._prepared and isinstance(optim_wrapper, dict):
            model = built = self.build_model(model)
            optim_wrapper = _whole_optim_wrapper(built, optim_wrapper)
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        assert self.model_wrapper is not None
        if get_device() == 'cpu':
            self.model_wrapper.setdefault('device_id', torch.device('cpu'))
        if 'auto_wrap_policy' not in self.model_wrapper:
            self.model_wrapper['auto_wrap_policy'] = block_policy(model)
        return super()._wrap_model(model)

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> OptimWrapper:
        """Give an optimiser of the whole model the shards in the place of its parameters."""
        assert isinstance(optim_wrapper, OptimWrapper) and model is not None
        shards = {name.replace(_PREFIX, ''): shard for name, shard in model.named_parameters()}
        for group in optim_wrapper.optimizer.param_groups:
            group['params'] = [shards[self.id_to_name[id(parameter)]] for parameter in group['params']]
        settings = optim_wrapper.clip_grad_kwargs
        if settings and optim_wrapper.clip_func is torch.nn.utils.clip_grad_norm_:
            assert isinstance(model, FullyShardedDataParallel)
            optim_wrapper.clip_func = partial(_clip_whole_norm, model)
        return optim_wrapper

    def model_state_dict(self) -> dict[str, Tensor]:
        """Return the whole weights in the first process, and nothing in the others."""
        state = weights_to_cpu(self.model.state_dict())
        for name, value in state.items():
            state[name] = value.detach()  # without a mark of FSDP, which would be saved as code
        return state

    def optim_state_dict(self) -> dict:
        """Return the whole state of the optimiser in the first process, as that of an unsharded model."""
        whole = self.optim_wrapper.state_dict()  # with the settings of the wrapper
        named = FullyShardedDataParallel.optim_state_dict(self.model, self.optim_wrapper.optimizer)
        return {**whole, **numbered(named)} if named else {}

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the whole state of an optimiser, which every process has."""
        optimizer = self.optim_wrapper.optimizer
        names = {id(shard): name.replace(_PREFIX, '') for name, shard in self.model.named_parameters()}
        groups = [[names[id(shard)] for shard in group['params']] for group in optimizer.param_groups]
        # MMEngine gives the arguments in the order of PyTorch 2.0.
        with _every_process(self.model):
            sharded = FullyShardedDataParallel.optim_state_dict_to_load(
                model=self.model, optim=optimizer, optim_state_dict=with_names(state_dict, groups)
            )
        self.optim_wrapper.load_state_dict({**state_dict, **sharded})


def whole_state(model: nn.Module) -> dict[str, Tensor] | None:
    """Return the whole weights of a sharded model in every process; None for another model.

    All processes must call it.
    """
    if not isinstance(model, FullyShardedDataParallel):
        return None
    with _every_process(model):
        return model.state_dict()


def _every_process(model: FullyShardedDataParallel) -> AbstractContextManager:
    """Let every process return, or load, whole states within the context."""
    return FullyShardedDataParallel.state_dict_type(
        model,
        StateDictType.FULL_STATE_DICT,
        FullStateDictConfig(rank0_only=False, offload_to_cpu=_offloads()),
        FullOptimStateDictConfig(rank0_only=False, offload_to_cpu=_offloads()),
    )


def _offloads() -> bool:
    """Whether PyTorch may move what it has gathered to the CPU.

    Without a GPU, it takes the tensors for moved, and reuses or frees their memory. Those of a single process
    it cannot move.
    """
    return get_device() != 'cpu' and get_world_size() > 1


def numbered(named: Mapping) -> dict:
    """Return the state of an optimiser, in which FSDP names the parameters, with numbers for names."""
    names = [name for group in named['param_groups'] for name in group['params']]
    numbers = {name: number for number, name in enumerate(names)}
    groups = [
        {**group, 'params': [numbers[name] for name in group['params']]} for group in named['param_groups']
    ]
    return {'state': {numbers[name]: state for name, state in named['state'].items()}, 'param_groups': groups}


def with_names(state_dict: Mapping, groups: Sequence[Sequence[str]]) -> dict:
    """Return the state of an optimiser with names in the place of its numbers.

    Args:
        state_dict: the state.
        groups: names of the parameters in the groups of the optimiser that is to take it.

    Raises:
        ValueError: the state has other groups.
    """
    saved = state_dict['param_groups']
    if [len(group['params']) for group in saved] != [len(names) for names in groups]:
        raise ValueError(
            'the optimiser of the checkpoint has other parameter groups than this run: resume with '
            'optim_wrapper and model of the interrupted run'
        )
    names: dict[int, str] = {}
    for group, own in zip(saved, groups):
        names.update(zip(group['params'], own))
    return {
        'state': {names[number]: state for number, state in state_dict['state'].items()},
        'param_groups': [{**group, 'params': list(own)} for group, own in zip(saved, groups)],
    }


def _whole_optim_wrapper(model: nn.Module, settings: dict) -> OptimWrapper:
    settings = settings.copy()
    kind = find_type(type_field(settings) or 'OptimWrapper', OPTIM_WRAPPERS)
    if isinstance(kind, type) and issubclass(kind, AmpOptimWrapper):
        settings.setdefault('use_fsdp', True)
    wrapper = build_optim_wrapper(model, settings)
    optimizer = getattr(wrapper, 'optimizer', None)
    if not isinstance(wrapper, OptimWrapper) or not isinstance(optimizer, Optimizer):
        raise ValueError('strategy: FSDP trains with one optimiser, but optim_wrapper has several')
    if type(optimizer).__name__ not in ELEMENTWISE:
        raise ValueError(
            f'optim_wrapper.optimizer: {type(optimizer).__name__} is not known to work with parts of '
            f'tensors, which is what a process has with FSDP: choose from {", ".join(ELEMENTWISE)}, or leave '
            'out `strategy` and `runner_type`'
        )
    if wrapper._accumulative_counts != 1:
        raise ValueError(
            f'optim_wrapper.accumulative_counts={wrapper._accumulative_counts}: checkpoints within an '
            'accumulation cannot be made with FSDP. Set it to 1; where memory is short, also '
            'model.backbone.with_cp=True, or a smaller train_dataloader.batch_size and learning rate'
        )
    return wrapper


def block_units(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a ResFormer that are gathered one by one, all but the last one that is run."""
    backbone = getattr(model, 'backbone', None)
    return [*backbone.blocks][: max(backbone.out_indices)] if isinstance(backbone, ResFormer) else []


def block_policy(model: nn.Module) -> Callable | None:
    """Return the ``auto_wrap_policy`` that makes each of these blocks a unit; None if there are none."""
    units = set(block_units(model))
    return partial(lambda_auto_wrap_policy, lambda_fn=lambda module: module in units) if units else None


def _clip_whole_norm(
    model: FullyShardedDataParallel, parameters: Sequence[Tensor], max_norm: float, norm_type: float = 2.0
) -> Tensor:
    """Clip the gradients of all processes by their common norm, and return it."""
    return model.clip_grad_norm_(max_norm, norm_type)
