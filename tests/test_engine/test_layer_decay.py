"""Layer-wise decay of the learning rate in models of all libraries."""

from __future__ import annotations

import pytest
import small_models
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from resformer_mm.apis import load_model

PARAMWISE = dict(
    layer_decay_rate=0.5,
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    custom_keys={'.cls_token': dict(decay_mult=0.0), 'local_position': dict(decay_mult=0.5)},
)
OURS = 'resformer_mm.LayerDecayOptimWrapperConstructor'


def groups_of(model: nn.Module, constructor: str = OURS, **paramwise) -> dict[str, tuple[float, float]]:
    """Return the rate and the weight decay of every parameter that is trained."""
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1))
    setting = dict(type=constructor, optim_wrapper_cfg=wrapper, paramwise_cfg={**PARAMWISE, **paramwise})
    optimizer = OPTIM_WRAPPER_CONSTRUCTORS.build(setting)(model).optimizer
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for parameter in group['params']
    }


@pytest.mark.parametrize(
    'task',
    [
        'classifier',
        pytest.param('segmentor', marks=pytest.mark.operators('mmseg')),
        pytest.param('detector', marks=pytest.mark.operators('mmdet')),
        'recognizer',
    ],
)
def test_the_backbone_is_found_in_models_of_every_task(task: str) -> None:
    cfg = getattr(small_models, task)()
    cfg.model.backbone.frozen_stages = 0
    cfg.model.backbone.lora = dict(r=2, modules_to_save=['norm1'])
    groups = groups_of(load_model(cfg, device='cpu'))
    assert any('lora_a' in name for name in groups) and 'backbone.cls_token' not in groups
    for name, (rate, _) in groups.items():
        # Two blocks: the second learns at half the rate of the head, the first at a quarter.
        block = name.removeprefix('backbone.blocks.')[0] if 'blocks.' in name else None
        assert rate == {'0': 0.25, '1': 0.5, None: 1.0}[block], name


def test_groups_equal_those_of_mmpretrain() -> None:
    model = load_model(small_models.classifier(), device='cpu')
    theirs = groups_of(model, 'mmpretrain.LearningRateDecayOptimWrapperConstructor')
    ours = groups_of(model)
    assert set(ours) == set(theirs) == {name for name, _ in model.named_parameters()}
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values), name


def test_factors_of_the_rate_multiply() -> None:
    model = load_model(small_models.recognizer(), device='cpu')
    groups = groups_of(model, custom_keys={'blocks.0.': dict(lr_mult=10.0)})
    assert groups['backbone.blocks.0.mlp.fc1.weight'][0] == pytest.approx(2.5)


def test_errors() -> None:
    with pytest.raises(ValueError, match='Linear has no backbone with `get_layer_depth`'):
        groups_of(nn.Linear(2, 2))
    for rate in (0, 1.5, None, True):
        with pytest.raises(ValueError, match='layer_decay_rate is .* such as 0.75'):
            groups_of(nn.Linear(2, 2), layer_decay_rate=rate)
