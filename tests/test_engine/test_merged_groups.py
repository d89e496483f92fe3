"""Merged parameter groups against the unmerged ones of the same constructors."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import small_models
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR, build_optim_wrapper
from torch import nn

from resformer_mm.apis import load_model
from resformer_mm.engine.merged_groups import MERGED_FROM, merged, with_fused_step
from resformer_mm.resuming import RegroupHook
from resformer_mm.resuming.regrouping import regroup

MERGED = 'resformer_mm.MergedGroupsOptimWrapperConstructor'
LAYERS = 'resformer_mm.LayerDecayOptimWrapperConstructor'
PARAMWISE = dict(
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    custom_keys={'.cls_token': dict(decay_mult=0.0), '.local_position': dict(decay_mult=0.0)},
)
ADAMW = dict(type='AdamW', lr=1e-2, weight_decay=0.1, fused=True)
SGD = dict(type='SGD', lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1, fused=False)


@pytest.fixture(scope='module')
def model() -> nn.Module:
    torch.manual_seed(0)
    return load_model(small_models.classifier(), device='cpu')


def wrap(model: nn.Module, optimizer: dict = ADAMW, paramwise: dict = PARAMWISE, **settings):
    cfg = dict(type='OptimWrapper', optimizer=optimizer, paramwise_cfg=paramwise, **settings)
    return build_optim_wrapper(model, cfg)


def schedules(wrapper) -> list:
    """Return a warm-up and a schedule that multiplies the rates that the groups start with."""
    return [
        LinearLR(wrapper, start_factor=0.1, begin=0, end=5),
        CosineAnnealingLR(wrapper, T_max=15, eta_min=1e-4, begin=5, end=20),
    ]


def train(model: nn.Module, wrapper, plans: list, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(2, 3, 40, 24, generator=torch.Generator().manual_seed(step))
        wrapper.update_params(model(inputs, mode='tensor').square().mean())
        for plan in plans:
            plan.step()


def by_parameter(model: nn.Module, wrapper) -> dict:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (round(group['lr'], 12), group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }


@pytest.mark.parametrize(
    ('ours', 'theirs', 'paramwise'),
    [
        (dict(constructor=MERGED), {}, PARAMWISE),
        (dict(constructor=MERGED), {}, {}),
        (
            dict(constructor=MERGED, base_constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor'),
            dict(constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor'),
            dict(PARAMWISE, layer_decay_rate=0.5),
        ),
        (
            dict(constructor=LAYERS),
            dict(constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor'),
            dict(layer_decay_rate=0.5, norm_decay_mult=0.0, bias_decay_mult=0.0),
        ),
    ],
)
def test_parameters_keep_their_settings(model, ours: dict, theirs: dict, paramwise: dict):
    merged_wrapper = wrap(model, paramwise=paramwise, **ours)
    wanted = by_parameter(model, wrap(model, paramwise=paramwise, **theirs))
    assert by_parameter(model, merged_wrapper) == wanted
    number = len(set(wanted.values()))
    assert len(merged_wrapper.optimizer.param_groups) == number < 9
    # What MMEngine logs as the learning rate.
    assert merged_wrapper.get_lr()['lr'][0] == pytest.approx(wanted['backbone.cls_token'][0])


@pytest.mark.parametrize('optimizer', [ADAMW, dict(ADAMW, fused=False), SGD], ids=['fused', 'plain', 'sgd'])
def test_twenty_steps_end_with_the_same_bits(model, optimizer: dict):
    ends = []
    for settings in ({}, dict(constructor=MERGED)):
        copied = copy.deepcopy(model)
        wrapper = wrap(copied, optimizer, **settings)
        train(copied, wrapper, schedules(wrapper), range(20))
        ends.append(copied.state_dict())
    assert any(not torch.equal(ends[0][name], value) for name, value in model.state_dict().items())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.parametrize('order', [({}, dict(constructor=MERGED)), (dict(constructor=MERGED), {})])
def test_a_run_goes_on_with_other_groups(model, order: tuple[dict, dict]):
    """Layers have rates of their own, so that a mistaken order would show."""
    paramwise = dict(PARAMWISE, custom_keys={'blocks.0': dict(lr_mult=0.1), 'blocks.1': dict(lr_mult=0.5)})
    whole = copy.deepcopy(model)
    wrapper = wrap(whole, paramwise=paramwise)
    train(whole, wrapper, schedules(wrapper), range(12))

    interrupted = copy.deepcopy(model)
    before = wrap(interrupted, paramwise=paramwise, **order[0])
    plans = schedules(before)
    train(interrupted, before, plans, range(7))
    checkpoint = copy.deepcopy(
        dict(optimizer=before.state_dict(), param_schedulers=[plan.state_dict() for plan in plans])
    )
    after = wrap(interrupted, paramwise=paramwise, **order[1])
    plans = schedules(after)
    translate(checkpoint, after)
    after.load_state_dict(checkpoint['optimizer'])
    for plan, state in zip(plans, checkpoint['param_schedulers']):
        plan.load_state_dict(state)
    train(interrupted, after, plans, range(7, 12))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, interrupted.state_dict()[name]), name


def translate(checkpoint: dict, wrapper) -> None:
    RegroupHook().after_load_checkpoint(SimpleNamespace(_resume=True, optim_wrapper=wrapper), checkpoint)


@pytest.mark.parametrize('order', [(True, False), (False, True)])
@pytest.mark.parametrize('constructor', [{}, dict(constructor=MERGED)])
def test_the_run_decides_whether_the_step_is_fused(model, order: tuple[bool, bool], constructor: dict):
    before, after = (wrap(model, dict(ADAMW, fused=fused), **constructor) for fused in order)
    checkpoint = dict(optimizer=before.state_dict(), param_schedulers=[])
    translate(checkpoint, after)
    after.load_state_dict(checkpoint['optimizer'])
    assert {group['fused'] for group in after.optimizer.param_groups} == {order[1]}


def test_groups_that_cannot_become_one(model):
    saved = wrap(model, paramwise=dict(PARAMWISE, bias_lr_mult=2.0)).state_dict()
    own = wrap(model, constructor=MERGED).optimizer.param_groups
    with pytest.raises(ValueError, match=r'different settings \(lr.*\).*paramwise_cfg of the interrupted'):
        regroup(saved, own)


def test_groups_of_other_parameters_are_left_to_the_optimiser(model):
    saved = wrap(model.backbone).state_dict()
    wrapper = wrap(model, constructor=MERGED)
    assert regroup(saved, wrapper.optimizer.param_groups) is None
    with pytest.raises(ValueError, match='parameter group'):
        wrapper.load_state_dict(saved)


def test_a_step_is_fused_where_pytorch_can(model):
    def fused(**optimizer) -> object:
        return with_fused_step(dict(lr=0.1, **optimizer), model.parameters()).get('fused')

    try:
        torch.optim.AdamW([nn.Parameter(torch.zeros(1))], fused=True)
    except RuntimeError:
        pytest.skip('this PyTorch has no fused step for the CPU')
    assert fused(type='AdamW') is True and fused(type=torch.optim.SGD) is True
    assert fused(type='AdamW', fused=False) is False
    assert fused(type='AdamW', foreach=True) is None and fused(type='Adadelta') is None
    complex_ones = [nn.Parameter(torch.zeros(1, dtype=torch.complex64))]
    assert 'fused' not in with_fused_step(dict(type='AdamW'), complex_ones)
    wrapper = wrap(model, dict(type='AdamW', lr=0.1, weight_decay=0.1), constructor=MERGED)
    assert all(group['fused'] for group in wrapper.optimizer.param_groups)


def test_notes_do_not_separate_groups():
    groups = [
        dict(params=[1], lr=0.1, param_names=['a'], lr_mult=1.0),
        dict(params=[2, 3], lr=0.1, param_names=['b', 'c']),
        dict(params=[4], lr=0.2, param_names=['d']),
    ]
    assert merged(groups) == [
        dict(params=[1, 2, 3], lr=0.1, param_names=['a', 'b', 'c'], merged_from=[(0, 1), (1, 2)]),
        dict(params=[4], lr=0.2, param_names=['d'], merged_from=[(2, 1)]),
    ]
    assert merged(groups[1:]) == groups[1:] and MERGED_FROM not in groups[1]


def test_the_constructor_does_not_name_itself(model):
    with pytest.raises(ValueError, match='base_constructor=.* is the constructor itself'):
        wrap(model, constructor=MERGED, base_constructor=MERGED)
