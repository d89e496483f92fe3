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
    'FSDPStrategy': 'ExactFSDPStrategy',
    'DeepSpeedStrategy': 'ExactDeepSpeedStrategy',
}
_TURNS = ('TurnByTurnEpochLoop', 'TurnByTurnIterLoop')
# Arguments of mmpretrain's EMAHook with the values at which it does what MMEngine's does.
_EVALUATION = {'evaluate_on_ema': True, 'evaluate_on_origin': False}


def settle_strategy(cfg: Config) -> None:
    """Let MMEngine's ``FlexibleRunner`` run a config with ``strategy``, with a strategy of this package.

    ``EMAHook`` becomes :class:`~resformer_mm.strategies.ShardedEMAHook`. Without ``strategy``, nothing
    happens.

    Args:
        cfg: config of a training, which is changed.

    Raises:
        ValueError: the strategy is unknown, or something else in the config does not work with it.
    """
    strategy = cfg.get('strategy')
    if strategy is None:
        return
    name = type_name(type_field(strategy)).replace('Exact', '')
    if name not in STRATEGIES:
        raise ValueError(
            f'strategy.type={name!r} is not supported: choose from {list(STRATEGIES)}, or leave out '
            '`strategy` and `runner_type`, and the training runs on one device or with DDP'
        )
    for problem in _problems(cfg, name):
        raise ValueError(problem)
    strategy['type'] = f'resformer_mm.{STRATEGIES[name]}'
    cfg.runner_type = 'FlexibleRunner'
    if name == 'DeepSpeedStrategy':
        for setting in ('clip_grad', 'accumulative_counts'):  # None and 1, which its wrapper does not know
            cfg.optim_wrapper.pop(setting, None)
    for hook in _averaging(cfg):
        _settle_averaging(hook)


def check_launched(cfg: Config) -> None:
    """Check that a training with a strategy has a launcher.

    Raises:
        ValueError: it has none.
    """
    if cfg.get('strategy') is not None and cfg.get('launcher', 'none') == 'none':
        raise ValueError(
            'a config with `strategy` needs a launcher: start with `bash tools/dist_train.sh CONFIG GPUS`, '
            'also for one GPU; or leave out `strategy` and `runner_type`'
        )


def leave_out_strategy(cfg: Config) -> None:
    """Let a test run without the strategy of its training, whose checkpoints have whole weights."""
    if cfg.pop('strategy', None) is not None:
        cfg.pop('runner_type', None)


def _problems(cfg: Config, name: str) -> Iterator[str]:
    """Yield what does not work with a strategy, and what to do about it."""
    remedy = f'with strategy.type={name!r}'
    if cfg.get('model_wrapper_cfg') is not None:
        yield f'model_wrapper_cfg has no effect {remedy}: use strategy.model_wrapper'
    compilation: Any = cfg.get('compile')
    if compilation and not (isinstance(compilation, Mapping) and compilation.get('disable')):
        yield f'compile is not supported {remedy}, which gathers weights between layers: set compile=False'
    wrapper = cfg.get('optim_wrapper') or {}
    clip = wrapper.get('clip_grad') or {}
    if name == 'FSDPStrategy':
        unknown = set(clip) - {'type', 'max_norm', 'norm_type'}
        if clip.get('type', 'norm') == 'norm' and unknown:
            yield f'optim_wrapper.clip_grad has {sorted(unknown)}, which it has not {remedy}: leave them out'
        return
    kind = type_name(type_field(wrapper))
    if kind != 'DeepSpeedOptimWrapper':
        yield (
            f"optim_wrapper.type={kind!r} does not work {remedy}: set 'DeepSpeedOptimWrapper'; for mixed "
            "precision, strategy.bf16=dict(enabled=True) and strategy.inputs_to_half=['inputs']"
        )
    if clip:
        yield f'optim_wrapper.clip_grad has no effect {remedy}: set None, and strategy.gradient_clipping'
    steps = (wrapper.get('accumulative_counts', 1), cfg.strategy.get('gradient_accumulation_steps', 1))
    if steps != (1, 1):
        yield f'checkpoints within an accumulation of gradients cannot be made {remedy}: accumulate none'
    if type_name(type_field(cfg.get('train_cfg'))) in _TURNS:
        yield f'train_cfg.type: training turn by turn does not work {remedy}: train all copies at once'
    for _ in _averaging(cfg):
        yield f'EMAHook would average in the precision of the weights {remedy}: leave it out of the hooks'


def _averaging(cfg: Config) -> list[dict]:
    """Return the settings of the hooks that average weights."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    scope = cfg.get('default_scope') or 'mmengine'
    kinds = [find_type(type_field(hook), HOOKS, scope) for hook in hooks]
    return [hook for hook, kind in zip(hooks, kinds) if isinstance(kind, type) and issubclass(kind, EMAHook)]


def _settle_averaging(hook: dict) -> None:
    name = type_name(type_field(hook))
    if name == ShardedEMAHook.__name__:
        return
    others = {key: value for key, value in _EVALUATION.items() if hook.get(key, value) != value}
    if name != 'EMAHook' or others:
        raise ValueError(
            f'the hook {name} cannot average shards with {", ".join(others) or "this type"}: use '
            "dict(type='EMAHook') without it, or leave out `strategy` and `runner_type`"
        )
    for key in _EVALUATION:
        hook.pop(key, None)
    hook['type'] = f'resformer_mm.{ShardedEMAHook.__name__}'
