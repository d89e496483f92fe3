"""Training and testing a detector from the command line, on generated data in COCO's layout."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from detection_files import CATEGORIES, annotation, content, crowd, write_coco, write_content
from pure_python import write_pure_python
from runs import ROOT, assert_weights_equal, run_dist, run_tool, scalars, succeed, training_log

from resformer_mm.apis import enter_scope, read_config
from resformer_mm.synthetic import write_detection

MINI = ROOT / 'configs' / 'detection' / 'resformer-mini_mr-64-48-32_mask-rcnn_1xb8-8e_mini.py'
# Small, and a function of the seed alone: with so many samples to draw, every anchor and proposal is taken.
SMALL = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        patch_size=16,
        window_size=2,
        window_block_indices=(0,),
        drop_path_rate=0.0,
        init_cfg=None,
    ),
    neck=dict(in_channels=32, out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=dict(in_channels=8, conv_out_channels=8, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=8),
        mask_head=dict(in_channels=8, conv_out_channels=8),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=5000)),
        rpn_proposal=dict(nms_pre=20, max_per_img=10),
        rcnn=dict(sampler=dict(num=1000)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=20, max_per_img=10), rcnn=dict(score_thr=0.0, max_per_img=5)),
)
loading = [
    dict(type='resformer_mm.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False),
    dataset=dict(pipeline=[*loading, dict(type='Resize', scale=(64, 64)), dict(type='PackDetInputs')]),
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0, persistent_workers=False)
param_scheduler = dict(_delete_=True, type='LinearLR', start_factor=0.5, begin=0, end=4, by_epoch=True)
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
{extra}
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data')
    write_detection(root / 'coco', num_train=4, num_val=3, size=64)
    return root / 'coco'


def config(path: Path, extra: str = '') -> Path:
    path.write_text(SMALL.format(base=str(MINI), extra=extra))
    return path


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory) -> Path:
    """A folder with small.py and a finished run in run/."""
    folder = tmp_path_factory.mktemp('trained')
    command = ['train.py', config(folder / 'small.py'), '--work-dir', folder / 'run']
    succeed(run_tool(*command, data=data, cwd=folder))
    return folder


@pytest.mark.slow
def test_training_validates_and_resumes(trained: Path, data: Path, tmp_path: Path) -> None:
    log = training_log(trained / 'run')
    assert [line['iter'] for line in log] == [1, 2, 3, 4]
    assert all(np.isfinite(line[key]) for line in log for key in line if key.startswith('loss'))
    validations = [line for line in scalars(trained / 'run') if 'coco/bbox_mAP' in line]
    assert len(validations) == 2 and 'coco/segm_mAP_50' in validations[0]
    command = ['train.py', trained / 'small.py', '--work-dir', tmp_path / 'run']
    options = ('--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    succeed(run_tool(*command, *options, data=data, cwd=tmp_path))
    succeed(run_tool(*command, '--resume', '--no-validate', data=data, cwd=tmp_path))
    assert_weights_equal(tmp_path / 'run' / 'epoch_2.pth', trained / 'run' / 'epoch_2.pth', atol=0)


@pytest.mark.slow
def test_testing_draws_dumps_and_takes_resolutions(trained: Path, data: Path, tmp_path: Path) -> None:
    model = (trained / 'small.py', trained / 'run' / 'epoch_2.pth')
    outputs = ('--work-dir', 'w', '--out', 'found.pkl', '--show-dir', tmp_path / 'pictures')
    succeed(run_tool('test.py', *model, *outputs, data=data, cwd=tmp_path))
    with open(tmp_path / 'found.pkl', 'rb') as file:
        predictions = pickle.load(file)
    assert len(predictions) == 3
    for sample in predictions:
        found, (height, width) = sample['pred_instances'], sample['ori_shape']
        assert 0 < len(found['bboxes']) == len(found['masks']) <= 5
        assert tuple(found['masks'].shape[1:]) == (height, width)
        assert (found['bboxes'].numpy() <= [width, height, width, height]).all()
    assert len(list((tmp_path / 'pictures').rglob('*.jpg'))) == 3
    arguments = ('--resolutions', 32, 64, '--out', 'metrics.json', '--out-item', 'metrics')
    arguments += ('--show-dir', 'drawn')
    succeed(run_tool('test.py', *model, '--work-dir', 'w', *arguments, data=data, cwd=tmp_path))
    for resolution in (32, 64):
        assert len(list((tmp_path / 'drawn' / str(resolution)).glob('*.jpg'))) == 3
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert {'32/coco/bbox_mAP', '64/coco/segm_mAP_50'} <= set(metrics)


@pytest.mark.slow
def test_two_processes_do_as_one(data: Path, tmp_path: Path) -> None:
    # One process that adds the gradients of two images up, and two with an image each. The losses of a batch
    # are divided by its number of samples, so that a batch of two images is another thing. No Adam, which
    # makes a step of full size out of the rounding error of a gradient that is nearly zero.
    extra = "optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05))\n"
    path = config(tmp_path / 'small.py', extra)
    options = ['--no-validate', '--cfg-options', 'train_dataloader.batch_size=1']
    one = ['train.py', path, '--work-dir', 'one', *options, 'optim_wrapper.accumulative_counts=2']
    succeed(run_tool(*one, data=data, cwd=tmp_path))
    succeed(run_dist('dist_train.sh', path, 2, '--work-dir', 'two', *options, data=data, cwd=tmp_path))
    checkpoint = tmp_path / 'two' / 'epoch_2.pth'
    assert_weights_equal(checkpoint, tmp_path / 'one' / 'epoch_2.pth', atol=1e-5)
    out = ('--work-dir', 'w', '--out')
    succeed(run_tool('test.py', path, checkpoint, *out, 'one.pkl', data=data, cwd=tmp_path))
    out = ('--show-dir', 'pictures', *out)
    succeed(run_dist('dist_test.sh', path, checkpoint, 2, *out, 'two.pkl', data=data, cwd=tmp_path))
    assert len(list((tmp_path / 'pictures').glob('*.jpg'))) == 3  # of both processes
    one, two = (pickle.loads((tmp_path / f'{name}.pkl').read_bytes()) for name in ('one', 'two'))
    assert [sample['img_id'] for sample in one] == [sample['img_id'] for sample in two]
    for first, second in zip(one, two):
        for key in ('bboxes', 'scores', 'labels'):
            np.testing.assert_array_equal(first['pred_instances'][key], second['pred_instances'][key])


@pytest.mark.slow
def test_bad_input_is_trained_around(tmp_path: Path) -> None:
    """Nothing but a crowd, boxes without an area, nothing at all; category ids with holes."""
    write_coco(tmp_path / 'data', num_images=6)
    entries = content(6)
    no_area = annotation(20, 60, box=(3, 3, 0, 9))
    entries['annotations'] = [
        annotation(1, 10),
        crowd(2, 30),
        no_area,
        annotation(21, 50, 8, segmentation=[]),
    ]
    write_content(tmp_path / 'data', entries)
    path = config(tmp_path / 'small.py', f'model["roi_head"]["bbox_head"]["num_classes"] = {len(CATEGORIES)}')
    classes = 'model.roi_head.mask_head.num_classes=3'
    options = ('--no-validate', '--cfg-options', classes, 'train_dataloader.batch_size=1')
    command = ('train.py', path, '--work-dir', tmp_path / 'run', *options, 'train_cfg.max_epochs=1')
    result = succeed(run_tool(*command, data=tmp_path / 'data', cwd=tmp_path))
    log = training_log(tmp_path / 'run')
    assert len(log) == 6
    assert all(np.isfinite(line[key]) for line in log for key in line if key.startswith('loss'))
    assert '1 annotations are not used, no area: annotation 20 (6.jpg)' in result.stdout + result.stderr
    assert '1 objects are ignored in training, no mask: annotation 21' in result.stdout + result.stderr


@pytest.mark.slow
def test_what_stops_a_run(trained: Path, data: Path, tmp_path: Path) -> None:
    command = (
        'train.py',
        trained / 'small.py',
        '--work-dir',
        tmp_path / 'w',
        '--no-validate',
        '--cfg-options',
    )

    def error(*options: str) -> str:
        result = run_tool(*command, *options, data=data, cwd=tmp_path)
        assert result.returncode != 0
        return result.stdout + result.stderr

    words = error('optim_wrapper.optimizer.lr=1e30', 'optim_wrapper.clip_grad=None')
    assert re.search(
        r'FloatingPointError: the loss is not finite at iteration [12] on rank 0: '
        r'.*loss_rpn_cls .*files .*\.jpg',
        words,
    )
    assert not list((tmp_path / 'w').rglob('epoch_1.pth'))
    words = error('model.roi_head.bbox_head.num_classes=4')
    fault = 'model.roi_head.bbox_head.num_classes: is 4, but the data set of train_dataloader has 5 classes'
    assert fault in words
    assert 'there is no annotation file' in error('train_dataloader.dataset.ann_file=nowhere.json')


@pytest.fixture(scope='module')
def pure(trained: Path, data: Path) -> Path:
    """The config of ``trained`` in pure Python, with classes and without a default scope."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINI_DETECTION_ROOT', str(data))
        cfg = read_config(trained / 'small.py')
    enter_scope(cfg)
    return write_pure_python(cfg, trained / 'pure.py')


def test_a_pure_python_config_trains_alike(pure: Path, trained: Path, data: Path, tmp_path: Path) -> None:
    command = ['train.py', pure, '--work-dir', tmp_path / 'run', '--no-validate', '--auto-scale-lr']
    scale = ['--cfg-options', 'auto_scale_lr.base_batch_size=2']
    succeed(run_tool(*command, *scale, data=data, cwd=tmp_path))
    assert_weights_equal(tmp_path / 'run' / 'epoch_2.pth', trained / 'run' / 'epoch_2.pth', atol=0)


def test_a_pure_python_config_in_all_tools(pure: Path, trained: Path, data: Path, tmp_path: Path) -> None:
    checkpoint = trained / 'run' / 'epoch_2.pth'
    metrics = []
    for config in (pure, trained / 'small.py'):
        out = tmp_path / f'{config.stem}.json'
        command = ['test.py', config, checkpoint, '--resolutions', '48', '96', '--out', out, '--out-item']
        draw = ['--show-dir', tmp_path / config.stem]
        succeed(run_tool(*command, 'metrics', *draw, '--work-dir', tmp_path, data=data, cwd=tmp_path))
        metrics.append(json.loads(out.read_text()))
        assert len(list((tmp_path / config.stem).rglob('*.[jp][pn]g'))) == 6
    assert metrics[0] == metrics[1] and '96/coco/segm_mAP' in metrics[0]
    texts = [
        succeed(run_tool(*command, data=data, cwd=tmp_path)).stdout
        for command in (
            ('demo.py', data / 'val2017', pure, checkpoint, '--score-thr', '0'),
            ('dataset_converters/check_detection.py', '--config', pure),
            ('analysis_tools/browse_dataset.py', pure, '--output-dir', 'pictures', '-n', '2'),
            ('analysis_tools/get_flops.py', pure, '--shape', '64'),
        )
    ]
    assert '3 done, 0 skipped' in texts[0] and texts[1].endswith('sound\n')
    assert len(list((tmp_path / 'pictures').iterdir())) == 2
