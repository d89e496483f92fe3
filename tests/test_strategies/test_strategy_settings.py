"""Configs with a strategy, without training."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from resformer_mm.strategies import (
    ExactDeepSpeedStrategy,
    ExactFSDPStrategy,
    check_launched,
    leave_out_strategy,
    settle_strategy,
)
from resformer_mm.strategies.averaging import LocalShards
from resformer_mm.strategies.fsdp import numbered, with_names


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmengine')


def config(**settings) -> Config:
    return Config(dict(dict(strategy=dict(type='FSDPStrategy'), launcher='pytorch'), **settings))


WRAPPER = dict(type='DeepSpeedOptimWrapper')


def deepspeed(**settings) -> dict:
    return dict(dict(strategy=dict(type='DeepSpeedStrategy'), optim_wrapper=WRAPPER), **settings)


def test_a_config_without_a_strategy_stays() -> None:
    cfg = Config(dict(launcher='none', custom_hooks=[dict(type='EMAHook')]))
    expected = copy.deepcopy(cfg.to_dict())
    settle_strategy(cfg)
    assert cfg.to_dict() == expected


def test_strategy_runner_and_averages_are_replaced_once() -> None:
    cfg = config(custom_hooks=[dict(type='mmpretrain.EMAHook', momentum=0.1, evaluate_on_ema=True)])
    settle_strategy(cfg)
    settle_strategy(cfg)
    assert cfg.runner_type == 'FlexibleRunner'
    assert cfg.strategy.type == 'resformer_mm.ExactFSDPStrategy'
    assert cfg.custom_hooks == [dict(type='resformer_mm.ShardedEMAHook', momentum=0.1)]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (deepspeed(optim_wrapper=dict(type='AmpOptimWrapper')), "set 'DeepSpeedOptimWrapper'"),
        (deepspeed(optim_wrapper=dict(WRAPPER, clip_grad=dict(max_norm=1))), 'strategy.gradient_clipping'),
        (deepspeed(optim_wrapper=dict(WRAPPER, accumulative_counts=2)), 'accumulate none'),
        (deepspeed(train_cfg=dict(type='resformer_mm.TurnByTurnEpochLoop')), 'train all copies at once'),
        (deepspeed(custom_hooks=[dict(type='EMAHook')]), 'leave it out of the hooks'),
        (dict(strategy=dict(type='ColossalAIStrategy')), 'ColossalAIStrategy.*is not supported: choose'),
        (dict(compile=True), 'compile is not supported'),
        (dict(model_wrapper_cfg=dict(broadcast_buffers=True)), 'model_wrapper_cfg has no effect'),
        (
            dict(optim_wrapper=dict(clip_grad=dict(max_norm=1, error_if_nonfinite=True))),
            "clip_grad has \\['error_if_nonfinite'\\]",
        ),
        (
            dict(custom_hooks=[dict(type='mmpretrain.EMAHook', evaluate_on_origin=True)]),
            'cannot average shards with evaluate_on_origin',
        ),
    ],
)
def test_what_does_not_work_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settle_strategy(config(**settings))


def test_deepspeed_gets_no_settings_that_it_does_not_know() -> None:
    cfg = config(**deepspeed(optim_wrapper=dict(WRAPPER, clip_grad=None, accumulative_counts=1)))
    settle_strategy(cfg)
    assert cfg.optim_wrapper == WRAPPER
    assert cfg.strategy.type == 'resformer_mm.ExactDeepSpeedStrategy'


@pytest.mark.parametrize('stage', [0, 3])
def test_stages(stage: int) -> None:
    with pytest.raises(ValueError, match=f'stage={stage}: set it to 1 or 2'):
        ExactDeepSpeedStrategy(zero_optimization=dict(stage=stage))


def test_a_launcher_is_needed() -> None:
    check_launched(config())
    check_launched(Config(dict(launcher='none')))
    settle_strategy(cfg := config(launcher='none'))  # tools/check.py has none
    with pytest.raises(ValueError, match='needs a launcher: start with `bash tools/dist_train.sh'):
        check_launched(cfg)


def test_a_test_has_no_strategy() -> None:
    leave_out_strategy(cfg := config(runner_type='FlexibleRunner'))
    assert cfg.to_dict() == dict(launcher='pytorch')
    leave_out_strategy(cfg := Config(dict(runner_type='MyRunner')))
    assert cfg.runner_type == 'MyRunner'


def test_a_disabled_compilation_is_accepted() -> None:
    settle_strategy(config(compile=dict(disable=True)))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(state_dict_cfg='local'), "state_dict_cfg='local'.*set it to 'full'"),
        (dict(model_wrapper=dict(use_orig_params=False)), 'use_orig_params=False'),
    ],
)
def test_settings_of_the_strategy(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExactFSDPStrategy(**settings)


def test_names_and_numbers_of_an_optimiser() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    groups = [['1.weight', '0.weight'], ['0.bias', '1.bias']]
    optimizer = torch.optim.AdamW([{'params': [model.get_parameter(n) for n in names]} for names in groups])
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    named = with_names(state, groups)
    assert named['param_groups'][0]['params'] == groups[0]
    assert named['state']['0.weight']['exp_avg'].shape == (3, 2)
    assert numbered(named) == state
    with pytest.raises(ValueError, match='other parameter groups than this run'):
        with_names(state, [groups[0] + groups[1]])


def test_local_shards_share_the_parameters() -> None:
    model = nn.BatchNorm1d(2)
    shards = LocalShards(model)
    assert [id(one) for one in shards.parameters()] == [id(one) for one in model.parameters()]
    assert copy.deepcopy(shards).parameter_0.data_ptr() != model.weight.data_ptr()
    assert [one.data_ptr() for one in shards.buffers()] == [one.data_ptr() for one in model.buffers()]
