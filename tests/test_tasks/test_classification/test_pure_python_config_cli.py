"""A pure-Python config of a classifier, as a user writes it, with every tool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from runs import (
    assert_weights_equal,
    run_dist,
    run_tool,
    succeed,
    training_log,
    validation_log,
    write_data,
)

from resformer_mm.checkpoints import read_weights

BASE = """
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.optim import LinearLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop
from mmengine.visualization import LocalVisBackend
from mmpretrain.datasets import PackInputs
from mmpretrain.engine import VisualizationHook
from mmpretrain.evaluation import Accuracy
from mmpretrain.visualization import UniversalVisualizer
from torch.optim import AdamW

from resformer_mm.datasets import LoadImage
from resformer_mm.engine import MultiResolutionTestLoop, MultiResolutionValLoop
from resformer_mm.tasks.classification import ImageFolder, ResizeCenterCrop

resolutions = [64, 48, 32]
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=ImageFolder, data_root={data!r}, data_prefix='train', pipeline=[]))
val_dataloader = dict(
    batch_size=10, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=ImageFolder, data_root={data!r}, data_prefix='val',
        pipeline=[
            dict(type=LoadImage), dict(type=ResizeCenterCrop, resolution=64), dict(type=PackInputs)]))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=Accuracy, topk=(1, 5))
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=1, val_interval=1)
val_cfg = dict(type=MultiResolutionValLoop, resolutions=resolutions)
test_cfg = dict(type=MultiResolutionTestLoop, resolutions=resolutions)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=2e-3))
param_scheduler = dict(type=LinearLR, start_factor=0.5, begin=0, end=4, by_epoch=True)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    timer=dict(type=IterTimerHook), logger=dict(type=LoggerHook, interval=1),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, interval=1, save_best='mean/accuracy/top1'),
    sampler_seed=dict(type=DistSamplerSeedHook), visualization=dict(type=VisualizationHook))
visualizer = dict(type=UniversalVisualizer, vis_backends=[dict(type=LocalVisBackend)])
randomness = dict(seed=0)
log_processor = dict(window_size=1)
"""
PURE = """
from mmcv.transforms import Resize
from mmengine.config import read_base
from mmpretrain.datasets import PackInputs
from mmpretrain.models import LinearClsHead

with read_base():
    from .base import *

from resformer_mm.datasets import LoadImage, MultiResolution
from resformer_mm.engine import CheckNumClassesHook
from resformer_mm.models import GlobalPositionEmbedding, ResFormer, SmoothL1Consistency
from resformer_mm.tasks.classification import MultiResolutionClassifier, MultiResolutionDataPreprocessor


def copies(sizes):
    return dict(
        type=MultiResolution, resolutions=sizes, transforms=[dict(type=Resize, scale='{resolution}')])


model = dict(
    type=MultiResolutionClassifier,
    data_preprocessor=dict(
        type=MultiResolutionDataPreprocessor, num_classes=10, mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(
        type=ResFormer, arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        patch_size=16, out_type='cls_token', global_position=dict(type=GlobalPositionEmbedding)),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=32),
    consistency=dict(type=SmoothL1Consistency))
pipeline = [dict(type=LoadImage), copies(resolutions), dict(type=PackInputs)]
train_dataloader.update(dataset=dict(pipeline=pipeline))
custom_hooks = [dict(type=CheckNumClassesHook)]
"""
PREFIXED = ('mmpretrain', 'resformer_mm')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, the config, the same config with names for classes, and a run of the first."""
    folder = tmp_path_factory.mktemp('pure_python')
    data = write_data(folder / 'data')
    (folder / 'base.py').write_text(BASE.format(data=str(data)))
    (folder / 'pure.py').write_text(PURE)
    succeed(tool(folder, 'misc/print_config.py', 'pure.py', '--save-path', 'paths.py'))
    names = names_for_paths(Config.fromfile(folder / 'paths.py').to_dict())
    Config({**names, 'default_scope': 'mmpretrain'}).dump(folder / 'names.py')
    succeed(tool(folder, 'train.py', 'pure.py', '--work-dir', 'run'))
    return folder


def tool(folder: Path, name: str, *arguments: object):
    return run_tool(name, *arguments, data=folder / 'data', cwd=folder)


def names_for_paths(value: object, key: str = '') -> object:
    """Replace import paths of types by registered names, as a string config has them."""
    if isinstance(value, dict):
        return {name: names_for_paths(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(names_for_paths(item) for item in value)
    if key == 'type':
        package, _, name = value.partition('.')[0], *value.rpartition('.')[1:]
        return f'{package}.{name}' if package in PREFIXED else name
    return value


def copy_of(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    return target


@pytest.mark.parametrize('config', ['names.py', 'paths.py'])
def test_training_equals_that_of_a_string_config(folder: Path, config: str, tmp_path: Path) -> None:
    succeed(tool(folder, 'train.py', config, '--work-dir', tmp_path))
    assert_weights_equal(tmp_path / 'epoch_1.pth', folder / 'run' / 'epoch_1.pth', atol=0)
    expected = [line['loss'] for line in training_log(folder / 'run')]
    assert len(expected) == 2 and [line['loss'] for line in training_log(tmp_path)] == expected
    [found], [validation] = validation_log(tmp_path), validation_log(folder / 'run')
    assert found['mean/accuracy/top1'] == validation['mean/accuracy/top1']


def test_the_checkpoint_is_read_safely_and_has_the_config_as_text(folder: Path) -> None:
    path = folder / 'run' / 'epoch_1.pth'
    assert read_weights(path).dataset_meta['classes'] == tuple(f'class_{label}' for label in range(10))
    text = torch.load(path, weights_only=False)['meta']['cfg']
    kept = Config.fromstring(text, '.py')
    assert kept.model.type == 'resformer_mm.tasks.classification.MultiResolutionClassifier'
    assert kept.to_dict() == Config.fromfile(folder / 'run' / 'pure.py').to_dict()
    assert 'copies' not in kept  # a function of the config
    result = succeed(tool(folder, 'model_converters/publish_model.py', path, folder / 'published.pth'))
    assert 'kept meta.dataset_meta: classes' in result.stdout


def test_options_of_training(folder: Path, tmp_path: Path) -> None:
    options = ['--amp', '--auto-scale-lr', '--no-validate', '--cfg-options']
    options += ['optim_wrapper.optimizer.lr=4e-3', 'train_dataloader.dataset.pipeline.1.resolutions=[64,32]']
    succeed(tool(folder, 'train.py', 'pure.py', '--work-dir', tmp_path, *options))
    log = training_log(tmp_path)
    # 4e-3 for 16 images; half of it for 8, and half of that at the start.
    assert [line['lr'] for line in log] == pytest.approx([1e-3, 1e-3])
    assert 'loss_cls_32' in log[0] and 'loss_cls_48' not in log[0]
    assert not validation_log(tmp_path)
    written = Config.fromfile(tmp_path / 'pure.py')
    assert written.optim_wrapper.type == 'resformer_mm.AutocastOptimWrapper'
    succeed(
        tool(
            folder,
            'train.py',
            'pure.py',
            '--work-dir',
            tmp_path,
            '--resume',
            '--cfg-options',
            'train_cfg.max_epochs=2',
        )
    )
    assert (tmp_path / 'epoch_2.pth').exists() and len(validation_log(tmp_path)) == 1


def test_amp_keeps_and_refuses_wrappers_by_class(folder: Path, tmp_path: Path) -> None:
    own = 'from resformer_mm.engine import AutocastOptimWrapper as Own\noptim_wrapper.update(type=Own)'
    (folder / 'amp.py').write_text(PURE + own)
    succeed(tool(folder, 'train.py', 'amp.py', '--work-dir', tmp_path, '--amp', '--no-validate'))
    assert (
        Config.fromfile(tmp_path / 'amp.py').optim_wrapper.type == 'resformer_mm.engine.AutocastOptimWrapper'
    )
    other = 'from mmengine.optim import ApexOptimWrapper as Other\noptim_wrapper.update(type=Other)'
    (folder / 'apex.py').write_text(PURE + other)
    result = tool(folder, 'train.py', 'apex.py', '--amp')
    assert result.returncode == 2
    assert "--amp cannot replace optim_wrapper.type='ApexOptimWrapper'" in result.stderr


def metrics_of(folder: Path, config: str, tmp_path: Path, *options: object) -> dict:
    out = tmp_path / f'{Path(config).stem}.json'
    command = ['test.py', config, folder / 'run' / 'epoch_1.pth', '--work-dir', tmp_path, '--out', out]
    succeed(tool(folder, *command, '--out-item', 'metrics', *options))
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    'options',
    [[], ['--resolutions', '48', '96', '--amp', '--show-dir', 'shown'], ['--tta', '--resolutions', '48']],
    ids=['config', 'resolutions', 'tta'],
)
def test_metrics_equal_those_of_a_string_config(folder: Path, options: list, tmp_path: Path) -> None:
    found = metrics_of(folder, 'pure.py', tmp_path, *options)
    assert found == metrics_of(folder, 'names.py', tmp_path, *options)
    sizes = {name.partition('/')[0] for name in found} - {'mean'}
    assert sizes == ({size for size in options if size.isdigit()} or {'64', '48', '32'})
    if '--show-dir' in options:
        assert len(list((folder / 'shown').rglob('*.png'))) == 40


def test_predictions(folder: Path, tmp_path: Path) -> None:
    image, checkpoint = folder / 'data/val/class_1/image_001.png', folder / 'run' / 'epoch_1.pth'
    texts = [
        succeed(tool(folder, 'demo.py', image, config, checkpoint, '--resolution', '48', '96')).stdout
        for config in ('pure.py', 'names.py')
    ]
    assert texts[0] == texts[1] and '96' in texts[0]
    cascade = [
        'pure.py',
        checkpoint,
        '--resolutions',
        '32',
        '64',
        '--target-cost',
        '100',
        '--out',
        'cascade.py',
    ]
    succeed(tool(folder, 'analysis_tools/fit_cascade.py', *cascade))
    result = succeed(tool(folder, 'demo.py', image, 'cascade.py', checkpoint, '--cascade'))
    assert 'GFLOPs per image' in result.stdout


def test_analysis_tools(folder: Path, tmp_path: Path) -> None:
    texts = [
        succeed(tool(folder, 'analysis_tools/get_flops.py', config, '--resolutions', '48', '96')).stdout
        for config in ('pure.py', 'names.py')
    ]
    assert texts[0] == texts[1] and '|         96 |' in texts[0]
    pictures = {}
    for config in ('pure.py', 'names.py'):
        out = tmp_path / 'pictures' / config
        for phase in ('train', 'test'):
            command = ['analysis_tools/browse_dataset.py', config, '--output-dir', out / phase, '-n', '2']
            succeed(tool(folder, *command, '--phase', phase))
        pictures[config] = {p.relative_to(out): p.read_bytes() for p in sorted(out.rglob('*.png'))}
    assert pictures['pure.py'] == pictures['names.py'] and len(pictures['pure.py']) == 4
    sweep = ['pure.py', folder / 'run' / 'epoch_1.pth', '--resolutions', '32', '64', '--rounds', '1']
    succeed(tool(folder, 'analysis_tools/resolution_sweep.py', *sweep, '--out-dir', tmp_path / 'sweep'))
    [swept] = json.loads((tmp_path / 'sweep' / 'sweep.json').read_text())['models']
    expected = metrics_of(folder, 'names.py', tmp_path, '--resolutions', '32')
    assert swept['points']['32']['metrics'] == {
        name.removeprefix('32/'): value for name, value in expected.items() if name.startswith('32/')
    }


def test_two_processes_train_like_one(folder: Path, tmp_path: Path) -> None:
    wrapper = 'from mmengine.model import MMDistributedDataParallel\n'
    wrapper += 'model_wrapper_cfg = dict(type=MMDistributedDataParallel)\n'
    (folder / 'wrapped.py').write_text(PURE + wrapper)
    options = ['--work-dir', tmp_path, '--cfg-options', 'train_dataloader.batch_size=4']
    succeed(run_dist('dist_train.sh', 'wrapped.py', 2, *options, data=folder / 'data', cwd=folder))
    assert_weights_equal(tmp_path / 'epoch_1.pth', folder / 'run' / 'epoch_1.pth', atol=1e-4)


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ("model.update(type='Unknown')", "model.type='Unknown' is not registered"),
        ('from mmpretrain.models import Missing\nmodel.update(type=Missing)', 'Failed to import Missing'),
        ('train_dataloader.update(collate_fn=copies)', 'train_dataloader.collate_fn is <function copies'),
    ],
    ids=['name', 'import', 'function'],
)
def test_mistakes_are_named(folder: Path, line: str, words: str) -> None:
    (folder / 'wrong.py').write_text(f'{PURE}{line}\n')
    result = tool(folder, 'train.py', 'wrong.py')
    assert result.returncode == 2 and words in result.stderr and 'wrong.py' in result.stderr
