"""A training that is killed and continued ends with the bits of an undisturbed one.

The cases are those of ``benchmarks/fault_injection.py``, which has more of them.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest
from runs import ROOT, run_tool_in_processes, succeed, write_data

sys.path.insert(0, str(ROOT / 'benchmarks'))  # also of the processes that are started
from fault_injection import (
    SAVED_BY_EPOCH,
    STEERED,
    TURNS,
    Case,
    differences,
    last_checkpoint,
    plan_fault,
    write_configs,
)

ALONE = Case(
    STEERED + 'optim_wrapper = dict(accumulative_counts=3)\n'
    'default_hooks = dict(checkpoint=dict(interval=1))\ntrain_cfg = dict(max_epochs=2)',
    faults=('after_train_iter:2', 'before_train_iter:3', 'before_val:4'),
)
AUGMENT = (
    'model = dict(data_preprocessor=dict(augment=dict(\n'
    '    color_jitter=dict(brightness=0.4, contrast=0.4), erasing=dict(erase_prob=0.5, mode="rand"))))\n'
)
DRAWN = (
    'train_dataloader = dict(batch_sampler=dict(type="resformer_mm.MultiResolutionBatchSampler", number=2))\n'
)
TOGETHER = Case(
    TURNS.replace('max_epochs=3', 'max_epochs=2') + AUGMENT + DRAWN,
    processes=2,
    faults=('after_train_iter:1', 'before_val:2', 'before_train_iter:3'),
)
STOPPED = Case(SAVED_BY_EPOCH + 'train_cfg = dict(max_epochs=1)', number=signal.SIGTERM)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), num_train=32, num_val=10)


@pytest.fixture
def train(data, tmp_path):
    """Function that trains a case up to a fault and returns the results of all processes."""

    def run(case: Case, work_dir: str, fault: str, *options: str, **variables: str) -> list:
        config = write_configs(tmp_path, case)
        plan_fault(config, fault, case.number)
        arguments = ('train.py', config, '--work-dir', tmp_path / work_dir, '--no-check', *options)
        return run_tool_in_processes(case.processes, *arguments, data=data, cwd=tmp_path, **variables)

    return run


def check_equal(folder: Path) -> None:
    undisturbed, disturbed = (last_checkpoint(folder / name) for name in ('undisturbed', 'disturbed'))
    assert differences(undisturbed, disturbed) == []
    assert undisturbed['meta']['iter'] == disturbed['meta']['iter']


def test_three_kills(train, tmp_path):
    (result,) = train(ALONE, 'undisturbed', 'none')
    succeed(result)
    for fault in ALONE.faults:
        (result,) = train(ALONE, 'disturbed', fault, '--resume')
        assert result.returncode == -signal.SIGKILL, result.stderr
    (result,) = train(ALONE, 'disturbed', 'none', '--require-resume')
    succeed(result)
    check_equal(tmp_path)


def test_three_kills_of_two_processes_that_a_launcher_restarts(train, tmp_path):
    for result in train(TOGETHER, 'undisturbed', 'none'):
        succeed(result)
    (tmp_path / 'disturbed').mkdir()  # with a checkpoint of an earlier run
    shutil.copy(tmp_path / 'undisturbed' / 'iter_4.pth', tmp_path / 'disturbed')
    for count, fault in enumerate((*TOGETHER.faults, 'none')):
        results = train(TOGETHER, 'disturbed', fault, TORCHELASTIC_RESTART_COUNT=str(count))
        if fault == 'none':
            succeed(results[0])
        else:
            assert results[-1].returncode == -signal.SIGKILL, results[-1].stderr
    assert 'restarted: the training goes on from' in results[0].stdout
    check_equal(tmp_path)


def test_a_signal_saves_and_stops(train, tmp_path):
    # The launcher of this folder ends with the status that it finds there.
    (result,) = train(STOPPED, 'run', 'before_train_iter:1', RESFORMER_MM_LAUNCH=str(tmp_path))
    assert result.returncode == 0 and (tmp_path / 'status').read_text() == '85'
    assert 'Stopped by SIGTERM after iteration 2, saved as' in result.stdout
    content = last_checkpoint(tmp_path / 'run')
    assert (content['meta']['epoch'], content['meta']['iter']) == (0, 2)
    assert sorted(path.name for path in (tmp_path / 'run').glob('*.pth')) == ['iter_2.pth']
    (result,) = train(STOPPED, 'run', 'none', '--resume')
    succeed(result)
    assert 'Epoch(train) [1][3/4]' in ' '.join(result.stdout.split())
    assert 'Epoch(train) [1][1/4]' not in ' '.join(result.stdout.split())
    assert [path.name for path in (tmp_path / 'run').glob('epoch_*.pth')] == ['epoch_1.pth']
    assert not (tmp_path / 'run' / 'iter_2.pth').exists()


def test_nothing_to_resume_from(train, tmp_path):
    (result,) = train(STOPPED, 'empty', 'none', '--require-resume')
    assert result.returncode == 2
    assert '--require-resume: there is no checkpoint in' in result.stderr
    (result,) = train(STOPPED, 'empty', 'none', '--resume')
    line = 'THE TRAINING STARTS FROM THE BEGINNING'
    assert line in succeed(result).stdout
    (log,) = (tmp_path / 'empty').glob('*/*.log')
    assert log.read_text().count(line) == 1


def test_a_run_with_one_group_per_tensor_goes_on_with_merged_groups(train, tmp_path):
    """As checkpoints of versions before the merging do."""
    settings = (
        'optim_wrapper = dict(constructor={!r}, optimizer=dict(fused=False), clip_grad=None)\n'
        'param_scheduler = dict(_delete_=True, type="PolyLR", end=2, by_epoch=True)\n'
        'default_hooks = dict(checkpoint=dict(interval=1))\ntrain_cfg = dict(max_epochs=2)'
    )
    plain, merged = (
        Case(settings.format(name))
        for name in ('DefaultOptimWrapperConstructor', 'resformer_mm.MergedGroupsOptimWrapperConstructor')
    )
    succeed(train(plain, 'undisturbed', 'none')[0])
    assert train(plain, 'disturbed', 'before_train_iter:5')[0].returncode == -signal.SIGKILL
    succeed(train(merged, 'disturbed', 'none', '--require-resume')[0])
    one_each, few = (last_checkpoint(tmp_path / name) for name in ('undisturbed', 'disturbed'))
    assert len(few['optimizer']['param_groups']) < 5 < len(one_each['optimizer']['param_groups'])
    assert differences(one_each['state_dict'], few['state_dict'], 'state_dict') == []
