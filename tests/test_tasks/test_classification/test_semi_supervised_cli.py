"""Semi-supervised training through the command line: interrupted, in two processes, in 16 bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import (
    ROOT,
    assert_weights_equal,
    run_tool,
    run_tool_in_processes,
    succeed,
    training_log,
    validation_log,
    weights,
    write_config,
    write_data,
)

BASE = ROOT / 'configs' / 'classification' / 'resformer-mini_semi-10-labels_mr-64-48-32_1xb64-30e_mini.py'
PER_CLASS = 2
EXTRA = """
train_dataloader['sampler'] = dict(batch_size=8, labelled=2)
train_dataloader['dataset']['per_class'] = 2
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), num_train=40)


def train(config: Path, data: Path, folder: Path, *arguments: object, processes: int = 1) -> list:
    words = (config, '--work-dir', folder, *arguments)
    results = run_tool_in_processes(processes, 'train.py', *words, data=data, cwd=config.parent)
    return [succeed(result) for result in results]


def test_an_interrupted_training_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path, data: Path
) -> None:
    """Weights and averages, from a checkpoint in the middle of an epoch of six steps."""
    extra = EXTRA + "default_hooks['checkpoint'] = dict(by_epoch=False, interval=4)\n"
    config = write_config(tmp_path / 'semi.py', extra, base=BASE)
    options = ('--no-validate', '--cfg-options', 'model.backbone.drop_path_rate=0.2')
    train(config, data, tmp_path / 'whole', *options)
    (tmp_path / 'again').mkdir()
    (tmp_path / 'again' / 'iter_4.pth').write_bytes((tmp_path / 'whole' / 'iter_4.pth').read_bytes())
    (tmp_path / 'again' / 'last_checkpoint').write_text(str(tmp_path / 'again' / 'iter_4.pth'))
    train(config, data, tmp_path / 'again', '--resume', *options)
    paths = [tmp_path / name / 'iter_12.pth' for name in ('whole', 'again')]
    assert_weights_equal(*paths, atol=0)
    averaged = [torch.load(path, weights_only=False)['ema_state_dict'] for path in paths]
    assert all(torch.equal(value, averaged[1][name]) for name, value in averaged[0].items())
    assert any(not value.equal(averaged[0][f'module.{name}']) for name, value in weights(paths[0]).items())
    log = training_log(tmp_path / 'whole')
    assert {'loss_unlabelled_64', 'loss_unlabelled_32', 'loss_consistency_48', 'confident_64'} <= log[
        0
    ].keys()


def test_two_processes_take_the_steps_of_one(tmp_path: Path, data: Path) -> None:
    """Batches of four in each of two processes are those of eight in one."""
    one = write_config(tmp_path / 'one.py', EXTRA, base=BASE)
    half = EXTRA.replace('batch_size=8, labelled=2', 'batch_size=4, labelled=1')
    two = write_config(tmp_path / 'two.py', half + "train_dataloader['batch_size'] = 4\n", base=BASE)
    train(one, data, tmp_path / 'one', '--no-validate')
    train(two, data, tmp_path / 'two', '--no-validate', processes=2)
    assert_weights_equal(tmp_path / 'two' / 'epoch_2.pth', tmp_path / 'one' / 'epoch_2.pth', atol=2e-4)


def test_in_16_bits_and_the_test_uses_the_average(tmp_path: Path, data: Path) -> None:
    config = write_config(tmp_path / 'semi.py', EXTRA, base=BASE)
    train(config, data, tmp_path / 'semi', '--amp')
    metrics = validation_log(tmp_path / 'semi')[-1]
    arguments = (config, tmp_path / 'semi' / 'epoch_2.pth', '--work-dir', tmp_path / 'test')
    resolutions = ('--resolutions', 64, 32, '--out', tmp_path / 'metrics.json', '--out-item', 'metrics')
    succeed(run_tool('test.py', *arguments, *resolutions, data=data, cwd=tmp_path))
    assert f'"64/accuracy/top1": {metrics["64/accuracy/top1"]}' in (tmp_path / 'metrics.json').read_text()
