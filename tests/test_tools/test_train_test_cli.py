"""``tools/train.py`` and ``tools/test.py`` from the command line, on a few pictures."""

from __future__ import annotations

import json
import pickle
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import (
    CONFIG,
    ROOT,
    assert_weights_equal,
    run,
    run_tool,
    run_tool_in_processes,
    succeed,
    training_log,
    validation_log,
    weights,
    write_config,
    write_data,
)

from resformer_mm.engine.precision import half_pays

pytestmark = pytest.mark.slow
TRAIN, TEST = 'train.py', 'test.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs: a folder with the config and the work dir."""
    folder = tmp_path_factory.mktemp('trained')
    extra = "default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best='mean/accuracy/top1'))"
    config = write_config(folder / 'small.py', extra)
    train = ROOT / 'tools' / 'train.py'
    succeed(run([sys.executable, train, config, '--work-dir', folder / 'run'], data, folder))
    return folder


def test_training_logs_by_resolution_and_saves(trained: Path) -> None:
    log = training_log(trained / 'run')
    assert len(log) == 4  # 2 epochs of 16 images, 8 at a time
    terms = ['loss_cls_64', 'loss_cls_48', 'loss_cls_32', 'loss_consistency_48', 'loss_consistency_32']
    for line in log:
        assert line['loss'] == pytest.approx(sum(line[term] for term in terms), abs=1e-4)
    assert [line['lr'] for line in log] == pytest.approx([1e-3, 1e-3, 1e-3 * 4 / 3, 1e-3 * 4 / 3])
    validations = validation_log(trained / 'run')
    assert len(validations) == 2
    for line in validations:
        for k in (1, 5):
            values = [line[f'{resolution}/accuracy/top{k}'] for resolution in (64, 48, 32)]
            assert line[f'mean/accuracy/top{k}'] == pytest.approx(sum(values) / 3, abs=1e-3)
    assert {'epoch_1.pth', 'epoch_2.pth', 'last_checkpoint', 'small.py'} < {
        path.name for path in (trained / 'run').iterdir()
    }
    best = [path.name for path in (trained / 'run').rglob('best_*.pth')]
    assert len(best) == 1 and 'top1' in best[0]


def test_a_resumed_run_ends_as_if_it_had_not_stopped(trained: Path, data: Path, tmp_path: Path) -> None:
    config = trained / 'small.py'
    one = ['--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1']
    succeed(run_tool(TRAIN, config, *one, data=data, cwd=tmp_path))
    assert not (tmp_path / 'epoch_2.pth').exists()
    result = succeed(run_tool(TRAIN, config, '--work-dir', tmp_path, '--resume', data=data, cwd=tmp_path))
    assert 'resumed epoch: 1, iter: 2' in result.stdout + result.stderr
    expected = training_log(trained / 'run')
    assert [line['step'] for line in training_log(tmp_path)] == [1, 2, 3, 4]
    losses = [line['loss'] for line in training_log(tmp_path)]
    assert losses == pytest.approx([line['loss'] for line in expected], abs=1e-6)
    assert_weights_equal(tmp_path / 'epoch_2.pth', trained / 'run' / 'epoch_2.pth', 1e-6)


def test_resuming_from_a_named_checkpoint(trained: Path, data: Path, tmp_path: Path) -> None:
    checkpoint = trained / 'run' / 'epoch_1.pth'
    command = [TRAIN, trained / 'small.py', '--work-dir', tmp_path, '--resume', checkpoint, '--no-validate']
    succeed(run_tool(*command, data=data, cwd=tmp_path))
    assert [line['step'] for line in training_log(tmp_path)] == [3, 4]
    assert not validation_log(tmp_path) and not list(tmp_path.rglob('best_*'))
    assert_weights_equal(tmp_path / 'epoch_2.pth', trained / 'run' / 'epoch_2.pth', 1e-6)


def test_mixed_precision_and_scaled_learning_rate(trained: Path, data: Path, tmp_path: Path) -> None:
    command = [
        TRAIN,
        trained / 'small.py',
        '--work-dir',
        tmp_path,
        '--amp',
        '--auto-scale-lr',
        '--no-validate',
    ]
    succeed(
        run_tool(
            *command, '--cfg-options', 'train_cfg.max_epochs=1', 'randomness.seed=0', data=data, cwd=tmp_path
        )
    )
    log, exact = training_log(tmp_path), training_log(trained / 'run')
    scaled = 8 / 64  # the batch over auto_scale_lr.base_batch_size
    assert log[0]['lr'] == pytest.approx(exact[0]['lr'] * scaled)
    assert log[0]['loss'] == pytest.approx(exact[0]['loss'], rel=2e-2)
    if not torch.cuda.is_available() and half_pays('bfloat16', 'cpu', 'this test'):
        assert log[0]['loss'] != pytest.approx(exact[0]['loss'], rel=1e-6)  # bfloat16
        assert 'resformer_mm.AutocastOptimWrapper' in (tmp_path / 'small.py').read_text()
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / 'epoch_1.pth').values())


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='a setting for x86 processors')
def test_bfloat16_is_never_emulated(trained: Path, data: Path, tmp_path: Path) -> None:
    """The instructions are switched off; one line says so, whatever asks for bfloat16."""
    emulated = dict(ONEDNN_MAX_CPU_ISA='AVX2')

    def said(result: subprocess.CompletedProcess) -> int:
        succeed(result)
        return (result.stdout + result.stderr).count('float32 is used')

    config, checkpoint = trained / 'small.py', trained / 'run' / 'epoch_2.pth'
    options = ['--cfg-options', 'val_cfg.fp16=True', 'randomness.seed=0', 'train_cfg.max_epochs=1']
    command = [TRAIN, config, '--work-dir', tmp_path / 'train', '--amp', *options]
    [result] = run_tool_in_processes(1, *command, data=data, cwd=tmp_path, **emulated)
    assert said(result) == 1, result.stdout + result.stderr
    first = training_log(tmp_path / 'train')[0]
    assert first['loss'] == pytest.approx(training_log(trained / 'run')[0]['loss'], rel=1e-6)
    scores = []
    for dtype in ('float32', 'bfloat16', 'float16'):
        out = tmp_path / f'{dtype}.pkl'
        command = [TEST, config, checkpoint, '--work-dir', tmp_path / dtype, '--out', out, '--dtype', dtype]
        options = ['--resolutions', '48']
        [result] = run_tool_in_processes(1, *command, *options, data=data, cwd=tmp_path, **emulated)
        assert said(result) == int(dtype != 'float32'), result.stdout + result.stderr
        predicted = pickle.loads((tmp_path / f'{dtype}_48.pkl').read_bytes())
        scores.append(torch.stack([sample['pred_score'] for sample in predicted]))
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])


def test_the_random_pipeline_of_the_config(data: Path, tmp_path: Path) -> None:
    """The config as it stands, with worker processes, but for its size."""
    options = {
        'model.backbone.arch.embed_dims': 32,
        'model.backbone.arch.num_layers': 1,
        'model.backbone.arch.feedforward_channels': 32,
        'model.head.in_channels': 32,
        'train_dataloader.batch_size': 8,
        'val_dataloader.batch_size': 10,
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1,
    }
    words = [f'{name}={value}' for name, value in options.items()]
    command = [sys.executable, ROOT / 'tools' / 'train.py', CONFIG, '--cfg-options', *words]
    result = succeed(run(command, data, tmp_path))
    work_dir = tmp_path / 'work_dirs' / CONFIG.stem  # where it goes without --work-dir
    assert (work_dir / 'epoch_1.pth').is_file()
    assert '64/accuracy/top1' in result.stdout + result.stderr


RESOLUTIONS = (48, 64)


@pytest.fixture(scope='module')
def swept(trained: Path, data: Path) -> Path:
    """A folder with the results of a sweep over two resolutions."""
    folder = trained / 'swept'
    command = [
        sys.executable,
        ROOT / 'tools' / 'test.py',
        trained / 'small.py',
        trained / 'run' / 'epoch_2.pth',
    ]
    command += ['--work-dir', folder, '--out', folder / 'pred.pkl', '--show-dir', folder / 'shown']
    succeed(run([*command, '--resolutions', *RESOLUTIONS, '--interval', 10], data, trained))
    return folder


def logged_metrics(work_dir: Path) -> dict:
    (path,) = work_dir.glob('2*/*.json')
    return json.loads(path.read_text())


def accuracy(predictions: list[dict]) -> float:
    return 100 * sum(int(p['pred_label']) == int(p['gt_label']) for p in predictions) / len(predictions)


def test_a_sweep_writes_predictions_of_every_resolution(swept: Path) -> None:
    metrics = logged_metrics(swept)
    for resolution in RESOLUTIONS:
        predictions = pickle.loads((swept / f'pred_{resolution}.pkl').read_bytes())
        assert len(predictions) == 20
        assert accuracy(predictions) == pytest.approx(metrics[f'{resolution}/accuracy/top1'], abs=1e-3)
    scores = [
        torch.stack([p['pred_score'] for p in pickle.loads((swept / f'pred_{r}.pkl').read_bytes())])
        for r in RESOLUTIONS
    ]
    assert not torch.allclose(*scores)
    mean = sum(metrics[f'{resolution}/accuracy/top1'] for resolution in RESOLUTIONS) / 2
    assert metrics['mean/accuracy/top1'] == pytest.approx(mean, abs=1e-3)
    assert not (swept / 'pred.pkl').exists()


def test_a_sweep_shows_pictures_of_every_resolution(swept: Path) -> None:
    for resolution in RESOLUTIONS:
        assert len(list((swept / 'shown' / str(resolution)).glob('*.png'))) == 2  # every 10th of 20


@pytest.mark.parametrize('resolution', RESOLUTIONS)
def test_a_sweep_equals_separate_runs(
    swept: Path, trained: Path, data: Path, tmp_path: Path, resolution
) -> None:
    """Also that of mmengine's own loop at one resolution."""
    command = [TEST, trained / 'small.py', trained / 'run' / 'epoch_2.pth', '--work-dir', tmp_path]
    if resolution == 64:
        field = 'test_dataloader.dataset.pipeline.1.resolution'
        options = ['test_cfg._delete_=True', 'test_cfg.type=TestLoop', f'{field}={resolution}']
        command += ['--cfg-options', *options, '--out', tmp_path / 'metrics.json', '--out-item', 'metrics']
        prefix = ''
    else:
        command += ['--resolutions', resolution, '--out', tmp_path / 'metrics.json', '--out-item', 'metrics']
        prefix = f'{resolution}/'
    succeed(run_tool(*command, data=data, cwd=tmp_path))
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    expected = logged_metrics(swept)
    for k in (1, 5):
        name = f'accuracy/top{k}'
        assert metrics[prefix + name] == pytest.approx(expected[f'{resolution}/{name}'], abs=1e-3)


def test_test_time_augmentation_averages_with_the_flip(
    swept: Path, trained: Path, data: Path, tmp_path
) -> None:
    command = [TEST, trained / 'small.py', trained / 'run' / 'epoch_2.pth', '--work-dir', tmp_path]
    options = ['--tta', '--resolutions', *RESOLUTIONS, '--out', tmp_path / 'pred.pkl']
    succeed(run_tool(*command, *options, data=data, cwd=tmp_path))
    for resolution in RESOLUTIONS:
        plain = pickle.loads((swept / f'pred_{resolution}.pkl').read_bytes())
        flipped = pickle.loads((tmp_path / f'pred_{resolution}.pkl').read_bytes())
        assert len(plain) == len(flipped)
        pairs = [(one['pred_score'], other['pred_score']) for one, other in zip(plain, flipped)]
        assert all(torch.allclose(one, other, atol=0.1) for one, other in pairs)
        assert not all(torch.allclose(one, other, atol=1e-6) for one, other in pairs)


def test_the_resolutions_of_the_config_are_the_default(trained: Path, data: Path, tmp_path: Path) -> None:
    command = [TEST, trained / 'small.py', trained / 'run' / 'epoch_2.pth', '--work-dir', tmp_path]
    options = ['--cfg-options', 'test_cfg.resolutions=[40,20]', '--amp']
    succeed(run_tool(*command, *options, data=data, cwd=tmp_path))
    names = {name.split('/')[0] for name in logged_metrics(tmp_path) if 'accuracy' in name}
    assert names == {'40', '20', 'mean'}


# Bad input


def fail(result, *words: object) -> None:
    output = result.stdout + result.stderr
    assert result.returncode != 0, output[-3000:]
    for word in words:
        assert str(word) in output, f'{word!r} is not in {output[-3000:]}'


def test_missing_files(trained: Path, data: Path, tmp_path: Path) -> None:
    missing = tmp_path / 'nowhere.py'
    fail(run_tool(TRAIN, missing, data=data, cwd=tmp_path), f'there is no config {missing}')
    config = trained / 'small.py'
    resume = ['--resume', tmp_path / 'no.pth']
    fail(run_tool(TRAIN, config, *resume, data=data, cwd=tmp_path), 'there is no checkpoint to resume from')
    checkpoint = tmp_path / 'no.pth'
    result = run_tool(TEST, config, checkpoint, data=data, cwd=tmp_path)
    fail(result, f'there is no checkpoint {checkpoint}')
    assert 'Traceback' not in result.stderr
    result = run_tool(
        TEST, config, trained / 'run' / 'epoch_2.pth', '--out', 'pred.json', data=data, cwd=tmp_path
    )
    fail(result, '--out pred.json', '.pkl')


@pytest.mark.parametrize('tool', [TRAIN, TEST])
def test_a_broken_config(tool: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / 'broken.py').write_text("model = dict(type='ImageClassifier'")
    result = run_tool(tool, 'broken.py', *['w.pth'] * (tool == TEST), data=data, cwd=tmp_path)
    fail(result, 'broken.py is not a valid config: SyntaxError')
    assert 'Traceback' not in result.stderr


def test_a_missing_data_folder(trained: Path, tmp_path: Path) -> None:
    fail(
        run_tool(TRAIN, trained / 'small.py', data=tmp_path / 'no_data', cwd=tmp_path), 'no_data', 'data_root'
    )


@pytest.mark.parametrize(
    ('resolutions', 'words'),
    [(['8'], ['patch', '16']), (['64', '0'], ['0', 'positive']), (['64', '64'], ['twice'])],
    ids=str,
)
def test_bad_test_resolutions(trained: Path, data: Path, tmp_path: Path, resolutions, words) -> None:
    command = [TEST, trained / 'small.py', trained / 'run' / 'epoch_2.pth', '--work-dir', tmp_path]
    fail(run_tool(*command, '--resolutions', *resolutions, data=data, cwd=tmp_path), *words)


def test_a_checkpoint_of_another_width(trained: Path, data: Path, tmp_path: Path) -> None:
    command = [TEST, trained / 'small.py', trained / 'run' / 'epoch_2.pth', '--work-dir', tmp_path]
    options = ['model.backbone.arch.embed_dims=48', 'model.head.in_channels=48']
    fail(
        run_tool(*command, '--cfg-options', *options, data=data, cwd=tmp_path),
        'epoch_2.pth does not fit',
        'backbone.cls_token has shape (1, 1, 32), the model needs (1, 1, 48)',
    )


def test_a_checkpoint_of_other_classes(trained: Path, data: Path, tmp_path: Path) -> None:
    command = [TEST, trained / 'small.py', trained / 'run' / 'epoch_2.pth', '--work-dir', tmp_path]
    fail(
        run_tool(*command, '--cfg-options', 'model.head.num_classes=7', data=data, cwd=tmp_path),
        'head.fc.weight has shape (10, 32), the model needs (7, 32)',
    )


def test_bad_training_options(trained: Path, data: Path, tmp_path: Path) -> None:
    command = [TRAIN, trained / 'small.py', '--work-dir', tmp_path]
    bad = ['train_dataloader.dataset.pipeline.1.resolutions=[32,48]']
    fail(run_tool(*command, '--cfg-options', *bad, data=data, cwd=tmp_path), 'high to low: (48, 32)')
    no_base = ['auto_scale_lr.base_batch_size=0']
    fail(
        run_tool(*command, '--auto-scale-lr', '--cfg-options', *no_base, data=data, cwd=tmp_path),
        'base_batch_size',
    )


def test_a_corrupt_training_image(trained: Path, tmp_path: Path) -> None:
    broken = write_data(tmp_path / 'data')
    path = broken / 'train' / 'class_3' / 'image_003.png'
    path.write_bytes(path.read_bytes()[:-500])
    command = [TRAIN, trained / 'small.py', '--work-dir', tmp_path / 'run', '--no-validate']
    command += ['--cfg-options', 'train_dataloader.num_workers=1', 'train_cfg.max_epochs=1']
    fail(
        run_tool(*command, data=broken, cwd=tmp_path),
        'ImageReadError',
        path,
        'Repair or remove',
        "on_error='skip'",
    )
    assert not (tmp_path / 'run' / 'epoch_1.pth').exists()
    result = succeed(
        run_tool(*command, 'train_dataloader.dataset.pipeline.0.on_error=skip', data=broken, cwd=tmp_path)
    )
    output = result.stdout + result.stderr
    assert 'reads of unreadable training files were skipped so far' in output
    assert f'cannot read the image {path}' in output
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()
