"""The configs of pre-training: a run through the command line, and what starts from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from runs import ROOT, run_tool, succeed, training_log, write_data

from resformer_mm.features.backbone import FrozenBackbone
from resformer_mm.models import ResFormer

FOLDER = ROOT / 'configs' / 'pretraining'
CONFIGS = sorted(path.name for path in FOLDER.glob('*.py'))
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
SMALL = """
_base_ = {base!r}
model = dict(backbone=dict(arch=dict({arch})), {model})
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
optim_wrapper = dict(type='OptimWrapper')
param_scheduler = []
train_cfg = dict(max_epochs=2)
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
"""
OWN = {'byol': 'neck=dict(in_channels=32)', 'mae': 'neck=dict(embed_dim=32)'}
SIZES = {'64', '48', '32'}


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), num_train=24, num_val=1)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_backbone_starts_from_what_was_pretrained(name: str, tmp_path: Path, data: Path) -> None:
    arch = ', '.join(f'{key}={value}' for key, value in ARCH.items())
    model = OWN[name.partition('_')[0]]
    config = tmp_path / 'small.py'
    config.write_text(SMALL.format(base=str(FOLDER / name), arch=arch, model=model))
    result = run_tool('train.py', config, '--work-dir', tmp_path / 'run', data=data, cwd=tmp_path)
    succeed(result)
    assert 'not checked' not in result.stdout + result.stderr
    log = training_log(tmp_path / 'run')
    assert len(log) == 6 and all(0 < abs(line['loss']) < 100 for line in log)
    if name.startswith('mae'):  # whose terms are named by the sizes, two of which are drawn for every step
        sizes = [{key.removeprefix('loss_') for key in line if key.startswith('loss_')} for line in log]
        assert len(sizes[0]) == 2 and sizes[-1] == SIZES  # a line repeats the terms of earlier steps
    checkpoint = str(tmp_path / 'run' / 'epoch_2.pth')
    init_cfg = dict(type='resformer_mm.PretrainedResFormer', checkpoint=checkpoint)
    backbone = ResFormer(arch=ARCH, patch_size=8, init_cfg=init_cfg)
    backbone.init_weights()
    saved = torch.load(checkpoint, weights_only=False)['state_dict']
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(value, saved[f'backbone.{key}'], rtol=0, atol=0)
    frozen = FrozenBackbone.of_config(config, checkpoint)
    torch.testing.assert_close(frozen.backbone.norm.weight, backbone.norm.weight)
    assert frozen.is_cropped and frozen.to_rgb and frozen.mean == pytest.approx((123.675, 116.28, 103.53))


@pytest.mark.parametrize('name', CONFIGS)
def test_the_models_are_those_of_the_small_classifiers(name: str) -> None:
    cfg = Config.fromfile(FOLDER / name)
    base = ROOT / 'configs' / 'classification' / 'resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
    classifier = Config.fromfile(base)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model, other = MODELS.build(cfg.model), MODELS.build(classifier.model)
    shapes = [
        {key: value.shape for key, value in one.backbone.state_dict().items()} for one in (model, other)
    ]
    assert shapes[0] == shapes[1]
    assert set(map(str, cfg.resolutions)) == SIZES


def test_byol_learns_from_views_of_different_sizes() -> None:
    cfg = Config.fromfile(FOLDER / 'byol_resformer-mini_mr-64-48-32_1xb64-30e_mini.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    MessageHub.get_current_instance().update_info('max_iters', 10)
    (loss,) = model.loss([torch.randn(4, 3, size, size) for size in (64, 32)], []).values()
    loss.backward()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused
