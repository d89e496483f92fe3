"""A fifth task in a separate package, ``depth_task``, works without a change to resformer_mm."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from runs import run_dist, run_tool, succeed, training_log

from resformer_mm.sweep import SweepRecord, summarise

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
CONFIG = """
custom_imports = dict(imports=['depth_task'])
default_scope = 'mmseg'
resolutions = [64, 48, 32]
model = dict(
    type='MultiResolutionDepthEstimator',
    consistency=dict(type='L2Consistency', loss_weight=0.05),
    data_preprocessor=dict(
        type='MultiResolutionDepthDataPreprocessor', resolutions=resolutions, size=(64, 64),
        mean=[127.5] * 3, std=[60.0] * 3, bgr_to_rgb=True,
    ),
    backbone=dict(
        type='resformer_mm.ResFormer',
        arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96),
        patch_size=8, out_type='featmap', with_cls_token=False,
    ),
    neck=dict(type='resformer_mm.SimpleFeaturePyramid', in_channels=48, out_channels=32, num_outs=4),
    decode_head=dict(
        type='VPDDepthHead', in_channels=[32] * 4, max_depth=10.0, embed_dim=16, feature_dim=128,
        num_deconv_layers=1, num_deconv_filters=(32,), loss_decode=dict(type='SiLogLoss'),
    ),
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)
load = dict(type='resformer_mm.LoadImage')
resize = dict(type='Resize', scale=(64, 64))
load_depth = dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)
pack = dict(type='PackSegInputs')
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='DepthFolder', data_root='data', img_suffix='.png',
        data_prefix=dict(img_path='images', depth_map_path='depth'),
        pipeline=[load, load_depth, resize, pack],
    ),
)
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(train_dataloader['dataset'], pipeline=[load, resize, load_depth, pack]),
)
val_dataloader = test_dataloader
test_evaluator = dict(type='DepthMetric', max_depth_eval=10.0)
val_evaluator = test_evaluator
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=60),
    visualization=dict(type='SegVisualizationHook'),
)
custom_hooks = [dict(type='resformer_mm.CheckNumClassesHook'), dict(type='resformer_mm.InvalidLossHook')]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=60, val_interval=60)
val_cfg = dict(type='resformer_mm.MultiResolutionValLoop', resolutions=resolutions)
test_cfg = dict(type='TestLoop')
randomness = dict(seed=0)
"""


def write_images(root: Path, number: int = 16) -> Path:
    """Write pictures of boxes whose brightness tells their depth, and the depth in millimetres."""
    rng = np.random.default_rng(0)
    for name in ('images', 'depth'):
        (root / name).mkdir(parents=True)
    for index in range(number):
        depth = np.full((64, 64), rng.uniform(6, 9))
        for _ in range(4):
            top, left = rng.integers(0, 48, 2)
            depth[top : top + 24, left : left + 24] = rng.uniform(1, 6)
        noise = rng.normal(0, 5, (64, 64, 3))
        image = np.clip(255 - 24 * depth[..., None] + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / 'images' / f'{index:02d}.png'), image)
        cv2.imwrite(str(root / 'depth' / f'{index:02d}.png'), np.round(1000 * depth).astype(np.uint16))
    return root


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A folder with data, the package and a model that was trained from the command line."""
    cwd = tmp_path_factory.mktemp('depth')
    write_images(cwd / 'data')
    (cwd / 'depth_task').symlink_to(FOLDER / 'depth_task')
    (cwd / 'depth.py').write_text(CONFIG)
    succeed(run_tool('train.py', 'depth.py', '--work-dir', 'run', data=cwd, cwd=cwd))
    return cwd


CHECKPOINT = 'run/iter_60.pth'


def test_it_trains_on_all_resolutions(folder: Path) -> None:
    log = training_log(folder / 'run')
    terms = {f'loss_silog_{size}' for size in (64, 48, 32)} | {
        f'loss_consistency_{size}' for size in (48, 32)
    }
    assert terms <= set(log[0])
    for line in log[:3]:
        assert line['loss'] == pytest.approx(sum(line[name] for name in terms), rel=1e-3)
    supervised = [line['loss_silog_64'] for line in log]
    assert np.mean(supervised[-10:]) < 0.8 * np.mean(supervised[:10])


def test_turn_by_turn_on_two_processes_follows_the_joint_training(folder: Path) -> None:
    (folder / 'turns.py').write_text(
        "_base_ = 'depth.py'\n"
        "train_cfg = dict(type='resformer_mm.TurnByTurnIterLoop', max_iters=3, val_interval=100)\n"
        'train_dataloader = dict(batch_size=4)\nparam_scheduler = []\n'
    )
    succeed(run_dist('dist_train.sh', 'turns.py', 2, '--work-dir', 'turns', data=folder, cwd=folder))
    turns = training_log(folder / 'turns')
    assert len(turns) == 3 and {'loss_silog_64', 'loss_consistency_32'} <= set(turns[0])


def test_it_is_tested_at_several_resolutions(folder: Path) -> None:
    arguments = (
        'depth.py',
        CHECKPOINT,
        '--work-dir',
        'test',
        '--out',
        'metrics.json',
        '--out-item',
        'metrics',
    )
    resolutions = ('--resolutions', 32, 64, 96)
    succeed(run_tool('test.py', *arguments, *resolutions, data=folder, cwd=folder))
    metrics = json.loads((folder / 'metrics.json').read_text())
    assert {f'{size}/{name}' for size in (32, 64, 96) for name in ('rmse', 'abs_rel', 'd1')} <= set(metrics)
    maps = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 1000 for path in (folder / 'data/depth').iterdir()]
    constant = np.mean([np.sqrt(np.mean((depth - np.mean(maps)) ** 2)) for depth in maps])
    assert metrics['64/rmse'] < 0.75 * constant


def test_its_predictions_are_written_and_drawn(folder: Path) -> None:
    arguments = ('depth.py', CHECKPOINT, '--work-dir', 'dump', '--out', 'maps.pkl', '--show-dir', 'drawn')
    succeed(run_tool('test.py', *arguments, data=folder, cwd=folder))
    with open(folder / 'maps.pkl', 'rb') as file:
        dumped = pickle.load(file)
    assert len(dumped) == 16 and dumped[0]['pred_depth_map']['data'].shape == (1, 64, 64)
    assert len(list((folder / 'drawn').rglob('*.png'))) == 16


def test_it_is_swept(folder: Path) -> None:
    arguments = ('depth.py', CHECKPOINT, '--resolutions', 32, 64, '--out-dir', 'sweep', '--rounds', 1)
    result = run_tool(
        'analysis_tools/resolution_sweep.py', *arguments, '--metric', 'd1', data=folder, cwd=folder
    )
    succeed(result)
    with open(folder / 'sweep' / 'sweep.csv', newline='') as file:
        rows = {row['resolution']: row for row in csv.DictReader(file)}
    assert set(rows) == {'32', '64'}
    assert float(rows['64']['d1']) > 0 and float(rows['64']['gflops']) > float(rows['32']['gflops']) > 0
    summary = summarise(SweepRecord.load(folder / 'sweep' / 'sweep.json'), folder / 'sweep')
    assert set(summary.metrics) - set(summary.lower_is_better) == {'d1', 'd2', 'd3'}


def test_it_predicts_from_the_command_line(folder: Path) -> None:
    result = run_tool(
        'demo.py', 'data/images', 'depth.py', CHECKPOINT, '--resolution', 64, '--out-dir', 'out',
        data=folder, cwd=folder,
    )  # fmt: skip
    succeed(result)
    assert 'nearest' in result.stdout
    predictions = json.loads((folder / 'out' / 'predictions.json').read_text())['predictions']
    assert len(predictions) == 16
    depth = cv2.imread(str(folder / 'out' / predictions[0]['depth_map']), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16 and depth.shape == (64, 64)
    true = cv2.imread(str(folder / 'data' / 'depth' / '00.png'), cv2.IMREAD_UNCHANGED)
    assert np.abs(depth.astype(float) - true).mean() < 1000
    assert (folder / 'out' / 'vis' / '00.png').is_file()
