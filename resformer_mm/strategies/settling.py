"""The settings of a run with a strategy of MMEngine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS

from resformer_mm.config_types import find_type, type_field, type_name

from .averaging import ShardedEMAHook

# Strategies, and those of this package in their place.
STRATEGIES = {
    'FSDPStrategy': 'resformer_mm.ExactFSDPStrategy',
    'ExactFSDPStrategy': 'resformer_mm.ExactFSDPStrategy',
}
# Arguments of mmpretrain's EMAHook with the values at which it does what MMEngine's does.
_EVALUATION = {'evaluate_on_ema': True, 'evaluate_on_origin': False}


def settle_strategy(cfg: Config) -> None:
    """Let MMEngine's ``FlexibleRunner`` run a config with ``strategy``, with a strategy of this package.

    ``EMAHook`` becomes :class:`~resformer_mm.strategies.ShardedEMAHook`. Without ``strategy``, nothing
    happens.

    Args:
        cfg: config of a training, which is changed.

    Raises:
        ValueError: the strategy is unknown or needs a launcher, or something else in the config does not work
            with it.
    """
    strategy = cfg.get('strategy')
    if strategy is None:
        return
    name = type_name(type_field(strategy))
    if name not in STRATEGIES:
        raise ValueError(
            f'strategy.type={name!r} is not supported: choose FSDPStrategy, or leave out `strategy` and '
            '`runner_type`, and the training runs on one device or with DistributedDataParallel'
        )
    if cfg.get('launcher', 'none') == 'none':
        raise ValueError(
            f'strategy.type={name!r} needs a launcher: start with `bash tools/dist_train.sh CONFIG GPUS`, '
            'also for one GPU; or leave out `strategy` and `runner_type`'
        )
    for problem in _problems(cfg, name):
        raise ValueError(problem)
    strategy['type'] = STRATEGIES[name]
    cfg.runner_type = 'FlexibleRunner'
    for hook in _hooks(cfg):
        _settle_averaging(hook, cfg.get('default_scope'))


def _problems(cfg: Config, name: str) -> Iterator[str]:
    remedy = f'with strategy.type={name!r}'
    if cfg.get('model_wrapper_cfg') is not None:
        yield f'model_wrapper_cfg has no effect {remedy}: use strategy.model_wrapper'
    compilation: Any = cfg.get('compile')
    if compilation and not (isinstance(compilation, Mapping) and compilation.get('disable')):
        yield f'compile is not supported {remedy}, which gathers weights between layers: set compile=False'
    clip = (cfg.get('optim_wrapper') or {}).get('clip_grad') or {}
    if clip.get('type', 'norm') == 'norm' and (unknown := set(clip) - {'type', 'max_norm', 'norm_type'}):
        yield f'optim_wrapper.clip_grad has {sorted(unknown)}, which do not exist {remedy}: leave them out'


def _hooks(cfg: Config) -> Iterator[dict]:
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    yield from (hook for hook in hooks if isinstance(hook, dict))


def _settle_averaging(hook: dict, scope: str | None) -> None:
    kind = find_type(type_field(hook), HOOKS, scope or 'mmengine')
    if not isinstance(kind, type) or not issubclass(kind, EMAHook) or issubclass(kind, ShardedEMAHook):
        return
    others = {key: value for key, value in _EVALUATION.items() if hook.get(key, value) != value}
    if kind.__name__ != 'EMAHook' or others:
        settings = ', '.join(others) or 'this type'
        raise ValueError(
            f"the hook {kind.__name__} cannot average shards with {settings}: use dict(type='EMAHook') "
            'without it, or leave out `strategy` and `runner_type`'
        )
    for key in _EVALUATION:
        hook.pop(key, None)
    hook['type'] = f'resformer_mm.{ShardedEMAHook.__name__}'
