"""Training and testing a recognizer from the command line, on generated clips."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from clip_files import write_damaged, write_truncated
from mmengine.runner import Runner, set_random_seed
from PIL import Image
from pure_python import write_pure_python
from runs import ROOT, assert_weights_equal, run_dist, run_tool, scalars, succeed, training_log

from resformer_mm.apis import VideoInferencer, enter_scope, load_model, read_config
from resformer_mm.synthetic import MOTIONS, write_clips

FOLDER = ROOT / 'configs' / 'video'
[MULTI] = FOLDER.glob('resformer-mini_mr-40-32-24_divST_*_mini.py')
[SPACE_TIME] = FOLDER.glob('resformer-mini_mr-*x*_divST_*_mini.py')
# Small, and a function of the seed alone.
SMALL = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        patch_size=16,
        drop_path_rate=0.0,
        init_cfg=None,
    ),
    cls_head=dict(in_channels=32, dropout_ratio=0.0),
)
train_transforms = [
    dict(type='Resize', scale=('{{resolution}}', '{{resolution}}'), keep_ratio=False),
    dict(type='FormatShape', input_format='NCTHW'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False),
    dataset=dict(pipeline=[
        dict(type='resformer_mm.ClipInit'),
        dict(
            type='resformer_mm.MultiResolutionClips',
            resolutions=[64, 48, 32],
            num_frames={frames},
            # As long as the clips, so that nothing is drawn.
            frame_interval=2,
            transforms=train_transforms,
        ),
        dict(type='resformer_mm.PackClips'),
    ]),
)
val_dataloader = dict(batch_size=3, num_workers=0, persistent_workers=False)
test_dataloader = dict(batch_size=3, num_workers=0, persistent_workers=False)
param_scheduler = dict(_delete_=True, type='LinearLR', start_factor=0.5, begin=0, end=2, by_epoch=True)
train_cfg = dict(max_epochs=2, val_interval=2)
val_cfg = dict(resolutions=[64, 32])
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
{extra}
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'clips'
    write_clips(root, num_train=8, num_val=6, size=64, num_frames=8)
    return root


def config(path: Path, base: Path = MULTI, frames: object = 4, extra: str = '') -> Path:
    path.write_text(SMALL.format(base=str(base), frames=frames, extra=extra))
    return path


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory) -> Path:
    """A folder with small.py and a finished run in run/."""
    folder = tmp_path_factory.mktemp('trained')
    command = ['train.py', config(folder / 'small.py'), '--work-dir', folder / 'run']
    succeed(run_tool(*command, data=data, cwd=folder))
    return folder


@pytest.mark.parametrize('path', sorted(FOLDER.glob('resformer-mini_*.py')), ids=lambda path: path.stem)
def test_every_small_config_learns_from_its_data(
    path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('MINI_VIDEO_ROOT', str(data))
    set_random_seed(0)
    model = load_model(path, cfg_options={'model.backbone.init_cfg': None}, device='cpu').train()
    loader = {**model.cfg.train_dataloader, 'num_workers': 0, 'persistent_workers': False, 'batch_size': 2}
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    table = model.backbone.temporal_position
    assert ('spaceOnly' in path.stem) == (table is None)
    assert table is None or table.table.grad.abs().min() > 0
    # Six classes about as likely as each other; two clips of random weights tell no more.
    assert abs(float(sum(v for k, v in losses.items() if 'loss_cls' in k)) - np.log(6)) < 1.5


@pytest.mark.slow
def test_training_validates_and_resumes(trained: Path, data: Path, tmp_path: Path) -> None:
    log = training_log(trained / 'run')
    assert len(log) == 4 and all(np.isfinite(line['loss']) for line in log)
    assert {'loss_cls_64', 'loss_consistency_48', 'loss_consistency_32', 'top1_acc_32'} <= set(log[0])
    [metrics] = [line for line in scalars(trained / 'run') if 'mean/acc/top1' in line]
    assert {'64/acc/top1', '32/acc/top1'} <= set(metrics)
    command = ['train.py', trained / 'small.py', '--work-dir', tmp_path / 'run']
    succeed(run_tool(*command, '--cfg-options', 'train_cfg.max_epochs=1', data=data, cwd=tmp_path))
    succeed(run_tool(*command, '--resume', data=data, cwd=tmp_path))
    assert_weights_equal(tmp_path / 'run' / 'epoch_2.pth', trained / 'run' / 'epoch_2.pth', atol=0)


@pytest.mark.slow
def test_testing_draws_dumps_and_sweeps(trained: Path, data: Path, tmp_path: Path) -> None:
    model = (trained / 'small.py', trained / 'run' / 'epoch_2.pth')
    outputs = ['--out', 'scores.pkl', '--show-dir', 'pictures', '--interval', 2, '--resolutions', 48, 32]
    succeed(run_tool('test.py', *model, '--work-dir', 'w', *outputs, data=data, cwd=tmp_path))
    top1 = {}
    for resolution in (48, 32):
        with open(tmp_path / f'scores_{resolution}.pkl', 'rb') as file:
            samples = pickle.load(file)
        assert len(samples) == 6
        top1[resolution] = np.mean([s['pred_score'].argmax() == s['gt_label'].item() for s in samples])
        pictures = sorted((tmp_path / 'pictures' / str(resolution)).iterdir())
        assert [path.name for path in pictures] == [
            'val_clockwise_000004.png',
            'val_left_000000.png',
            'val_up_000002.png',
        ]
        with Image.open(pictures[0]) as picture:
            assert picture.width >= 4 * resolution
    sweep = ('analysis_tools/resolution_sweep.py', *model, '--resolutions', 32, 48, '--out-dir', 'sweep')
    succeed(run_tool(*sweep, '--rounds', 1, data=data, cwd=tmp_path))
    points = json.loads((tmp_path / 'sweep' / 'sweep.json').read_text())['models'][0]['points']
    for resolution, expected in top1.items():
        assert points[str(resolution)]['metrics']['acc/top1'] == pytest.approx(expected)
    assert points['48']['flops'] > points['32']['flops']


@pytest.mark.slow
def test_the_demo_and_the_browser_take_clips(trained: Path, data: Path, tmp_path: Path) -> None:
    model = (trained / 'small.py', trained / 'run' / 'epoch_2.pth')
    clips = tmp_path / 'clips'
    clips.mkdir()
    (clips / 'a.avi').write_bytes((data / 'val' / 'left' / '000000.avi').read_bytes())
    (clips / 'empty.avi').touch()
    result = succeed(run_tool('demo.py', clips, *model, '--resolution', 64, data=data, cwd=tmp_path))
    assert any(motion in result.stdout for motion in MOTIONS)
    assert 'empty.avi' in result.stdout + result.stderr
    browse = ('analysis_tools/browse_dataset.py', trained / 'small.py', '-o', 'seen', '-n', 2)
    succeed(run_tool(*browse, data=data, cwd=tmp_path))
    pictures = list((tmp_path / 'seen').iterdir())
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:
        assert picture.width >= 4 * (64 + 48 + 32)


@pytest.mark.slow
def test_inference_of_mmaction_gives_the_same_scores(
    trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('MINI_VIDEO_ROOT', str(data))
    model = (str(trained / 'small.py'), str(trained / 'run' / 'epoch_2.pth'))
    clip = str(data / 'val' / 'left' / '000000.avi')
    [best] = VideoInferencer(*model, device='cpu')(clip)['predictions']
    from mmaction.apis import inference_recognizer, init_recognizer
    from mmaction.apis.inferencers import MMAction2Inferencer

    scores = inference_recognizer(init_recognizer(*model, device='cpu'), clip).pred_score.tolist()
    assert int(np.argmax(scores)) == best['pred_label']
    assert max(scores) == pytest.approx(best['pred_score'], abs=1e-6)
    (tmp_path / 'classes.txt').write_text('\n'.join(MOTIONS))
    theirs = MMAction2Inferencer(*model, label_file=str(tmp_path / 'classes.txt'), device='cpu')
    assert theirs(clip)['predictions'][0]['rec_scores'][0] == pytest.approx(scores, abs=1e-6)


@pytest.mark.slow
def test_two_processes_train_copies_in_space_and_time_as_one(data: Path, tmp_path: Path) -> None:
    # No Adam, which makes a step of full size out of the rounding error of a gradient that is nearly zero.
    extra = "optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))\n"
    path = config(tmp_path / 'small.py', SPACE_TIME, [4, 3, 2], extra)
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    succeed(run_tool('train.py', path, '--work-dir', 'one', *options, data=data, cwd=tmp_path))
    options += ['train_dataloader.batch_size=2']
    succeed(run_dist('dist_train.sh', path, 2, '--work-dir', 'two', *options, data=data, cwd=tmp_path))
    assert_weights_equal(tmp_path / 'two' / 'epoch_1.pth', tmp_path / 'one' / 'epoch_1.pth', atol=1e-5)
    log = training_log(tmp_path / 'one')[0]
    assert {'loss_cls_4x64', 'loss_consistency_3x48', 'loss_consistency_2x32'} <= set(log)


@pytest.mark.slow
def test_bad_clips_stop_the_training_or_are_skipped(trained: Path, tmp_path: Path) -> None:
    broken = tmp_path / 'broken'
    write_clips(broken, num_train=8, num_val=6, size=64, num_frames=8)
    for write, name in ((write_truncated, 'left/000000.avi'), (write_damaged, 'up/000002.avi')):
        write(tmp_path / 'bad.mp4').rename(broken / 'train' / name)  # decoders do not look at the suffix
    command = ['train.py', trained / 'small.py', '--work-dir', 'w', '--cfg-options', 'train_cfg.max_epochs=1']
    result = run_tool(*command, data=broken, cwd=tmp_path)
    assert result.returncode != 0
    words = result.stdout + result.stderr
    assert 'train/left/000000.avi (truncated); tools/dataset_converters/check_video.py' in words
    skip = ['train_dataloader.dataset.pipeline.0.on_error=skip', 'train_dataloader.num_workers=2']
    skip.append('randomness.seed=0')  # it decides by which clips they are replaced: here by sound ones
    result = succeed(run_tool(*command, *skip, data=broken, cwd=tmp_path))
    said = result.stdout + result.stderr
    assert '2 reads of unreadable training files were skipped so far' in said, said[-3000:]
    assert {name for name in ('left/000000.avi', 'up/000002.avi') if name in said} == {
        'left/000000.avi',
        'up/000002.avi',
    }
    (broken / 'train' / 'down' / '000003.avi').unlink()
    with open(broken / 'train_list.txt', 'a') as file:
        file.write('train/left/000000.avi 6\n')
    result = run_tool(*command, data=broken, cwd=tmp_path)
    assert result.returncode != 0
    assert "train_list.txt, line 9: label out of range, 6 of 'train/left/000000.avi'" in result.stderr


@pytest.fixture(scope='module')
def pure(trained: Path, data: Path) -> Path:
    """The config of ``trained`` in pure Python, with classes and without a default scope."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINI_VIDEO_ROOT', str(data))
        cfg = read_config(trained / 'small.py')
    enter_scope(cfg)
    return write_pure_python(cfg, trained / 'pure.py')


def test_a_pure_python_config_trains_alike(pure: Path, trained: Path, data: Path, tmp_path: Path) -> None:
    command = ['train.py', pure, '--work-dir', tmp_path / 'run', '--no-validate']
    succeed(run_tool(*command, data=data, cwd=tmp_path))
    assert_weights_equal(tmp_path / 'run' / 'epoch_2.pth', trained / 'run' / 'epoch_2.pth', atol=0)


def test_a_pure_python_config_in_all_tools(pure: Path, trained: Path, data: Path, tmp_path: Path) -> None:
    checkpoint = trained / 'run' / 'epoch_2.pth'
    metrics = []
    for path in (pure, trained / 'small.py'):
        out = tmp_path / f'{path.stem}.json'
        command = ['test.py', path, checkpoint, '--resolutions', '32', '64', '--amp', '--out', out]
        draw = ['--out-item', 'metrics', '--show-dir', tmp_path / path.stem]
        succeed(run_tool(*command, *draw, '--work-dir', tmp_path, data=data, cwd=tmp_path))
        metrics.append(json.loads(out.read_text()))
        assert len(list((tmp_path / path.stem).iterdir())) == 2
    assert metrics[0] == metrics[1] and '64/acc/top1' in metrics[0]
    clip = data / (data / 'val_list.txt').read_text().split()[0]
    texts = [
        succeed(run_tool(*command, data=data, cwd=tmp_path)).stdout
        for command in (
            ('demo.py', clip, pure, checkpoint, '--resolution', '32', '64'),
            ('dataset_converters/check_video.py', '--config', pure),
            ('analysis_tools/browse_dataset.py', pure, '--output-dir', 'pictures', '-n', '2'),
            ('analysis_tools/get_flops.py', pure, '--shape', '64'),
        )
    ]
    assert '1 done, 0 skipped' in texts[0] and texts[1].endswith('sound\n')
    assert len(list((tmp_path / 'pictures').iterdir())) == 2
