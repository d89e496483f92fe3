"""A training that is killed and continued ends with the bits of an undisturbed one.

The cases are those of ``benchmarks/fault_injection.py``, which has more of them.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from runs import ROOT, run_tool_in_processes, succeed, write_data

sys.path.insert(0, str(ROOT / 'benchmarks'))  # also of the processes that are started
from fault_injection import (
    SAVED_BY_EPOCH,
    TURNS,
    WORKERS,
    Case,
    differences,
    last_checkpoint,
    plan_fault,
    write_configs,
)

ALONE = Case(
    WORKERS.format(True) + 'optim_wrapper = dict(accumulative_counts=3)\n'
    'default_hooks = dict(checkpoint=dict(interval=1))\ntrain_cfg = dict(max_epochs=2)',
    faults=('after_train_iter:2', 'before_train_iter:3', 'before_val:4'),
)
TOGETHER = Case(
    TURNS.replace('max_epochs=3', 'max_epochs=2'),
    processes=2,
    faults=('after_train_iter:1', 'after_val:2', 'before_train_iter:3'),
)
STOPPED = Case(SAVED_BY_EPOCH + 'train_cfg = dict(max_epochs=1)', number=signal.SIGTERM)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), num_train=32, num_val=10)


@pytest.fixture
def train(data, tmp_path):
    """Function that trains a case up to a fault and returns the results of all processes."""

    def run(case: Case, work_dir: str, fault: str, *options: str) -> list:
        config = write_configs(tmp_path, case)
        plan_fault(config, fault, case.number)
        arguments = ('train.py', config, '--work-dir', tmp_path / work_dir, '--no-check', *options)
        return run_tool_in_processes(case.processes, *arguments, data=data, cwd=tmp_path)

    return run


@pytest.mark.parametrize('case', [ALONE, TOGETHER], ids=['one_process', 'two_processes'])
def test_three_kills(case, train, tmp_path):
    for result in train(case, 'undisturbed', 'none'):
        succeed(result)
    for fault in case.faults:
        results = train(case, 'disturbed', fault, '--resume')
        assert results[-1].returncode == -signal.SIGKILL, results[-1].stderr
    for result in train(case, 'disturbed', 'none', '--require-resume'):
        succeed(result)
    undisturbed, disturbed = (last_checkpoint(tmp_path / name) for name in ('undisturbed', 'disturbed'))
    assert differences(undisturbed, disturbed) == []
    assert undisturbed['meta']['iter'] == disturbed['meta']['iter']


def test_a_signal_saves_and_stops(train, tmp_path):
    (result,) = train(STOPPED, 'run', 'before_train_iter:1')
    assert result.returncode == 85
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


def test_nothing_to_resume_from(train):
    (result,) = train(STOPPED, 'empty', 'none', '--require-resume')
    assert result.returncode == 2
    assert '--require-resume: there is no checkpoint in' in result.stderr
    (result,) = train(STOPPED, 'empty', 'none', '--resume')
    assert 'THE TRAINING STARTS FROM THE BEGINNING' in succeed(result).stdout
