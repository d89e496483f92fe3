"""Trainings with FSDP and DeepSpeed in two processes: interrupted, and against DistributedDataParallel."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from runs import ROOT, run_tool_in_processes, succeed, training_log, write_data

sys.path.insert(0, str(ROOT / 'benchmarks'))  # also of the processes that are started
from fault_injection import CASES, TURNS, Case, differences, last_checkpoint, plan_fault, write_configs

ENTRIES = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
COMPARED = (
    'train_cfg = dict(max_epochs=2)\n'
    'default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1, save_best=None))\n'
)
# The norm is clipped in every step.
CLIPPED = 'optim_wrapper = dict(clip_grad=dict(max_norm=0.5))\n'
FSDP = "strategy = dict(type='FSDPStrategy')\n"
NO_AVERAGES = 'custom_hooks = [_base_.custom_hooks[0]]\n'
DEEPSPEED = """
strategy = dict(type='DeepSpeedStrategy', zero_optimization=dict(stage=2), gradient_clipping=0.5)
optim_wrapper = dict(type='DeepSpeedOptimWrapper', clip_grad=None)
"""
needs_deepspeed = pytest.mark.skipif(find_spec('deepspeed') is None, reason='DeepSpeed is not installed')


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), num_train=32, num_val=10)


@pytest.fixture
def train(data, tmp_path):
    """Function that trains a case up to a fault and returns the results of all processes."""

    def run(case: Case, work_dir: str, fault: str, *options: object) -> list:
        config = write_configs(tmp_path, case)
        plan_fault(config, fault, case.number)
        arguments = ('train.py', config, '--work-dir', tmp_path / work_dir, '--no-check', *options)
        return run_tool_in_processes(case.processes, *arguments, data=data, cwd=tmp_path)

    return run


def load(folder: Path) -> dict:
    return {**dict.fromkeys(ENTRIES, {}), **last_checkpoint(folder)}


@pytest.mark.parametrize(
    'case',
    [
        CASES['two_processes_fsdp'],
        pytest.param(
            Case(DEEPSPEED + NO_AVERAGES, faults=('after_train_iter:3',), processes=2),
            marks=needs_deepspeed,
        ),
    ],
    ids=['fsdp', 'deepspeed'],
)
def test_kills(train, tmp_path, case):
    for result in train(case, 'undisturbed', 'none'):
        succeed(result)
    for fault in case.faults:
        results = train(case, 'disturbed', fault, '--resume')
        assert results[-1].returncode == -signal.SIGKILL, results[-1].stderr
    for result in train(case, 'disturbed', 'none', '--require-resume'):
        succeed(result)
    assert differences(load(tmp_path / 'undisturbed'), load(tmp_path / 'disturbed')) == []


@pytest.mark.parametrize(
    ('strategy', 'common'),
    [
        (FSDP + CLIPPED, ''),
        (FSDP + CLIPPED, TURNS.replace('max_epochs=3', 'max_epochs=2')),
        pytest.param(DEEPSPEED, NO_AVERAGES, marks=needs_deepspeed),
    ],
    ids=['fsdp', 'fsdp turn by turn', 'deepspeed'],
)
def test_the_checkpoint_is_that_of_an_unsharded_training(train, data, tmp_path, strategy, common):
    for name, lines in (('whole', CLIPPED), ('sharded', strategy)):
        for result in train(Case(lines + COMPARED + common, processes=2), name, 'none'):
            succeed(result)
    losses = [[line['loss'] for line in training_log(tmp_path / name)] for name in ('whole', 'sharded')]
    assert len(losses[0]) == 4
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-5, atol=1e-5)
    whole, sharded = (load(tmp_path / name) for name in ('whole', 'sharded'))
    for entry in ('state_dict', 'ema_state_dict'):
        assert list(whole[entry]) == list(sharded[entry])
        for name, value in whole[entry].items():
            torch.testing.assert_close(sharded[entry][name], value, rtol=1e-4, atol=1e-5)
    assert whole['param_schedulers'] == sharded['param_schedulers']
    for before, after in zip(whole['optimizer']['param_groups'], sharded['optimizer']['param_groups']):
        assert before == after
    assert whole['optimizer']['state'].keys() == sharded['optimizer']['state'].keys()
    for number, state in whole['optimizer']['state'].items():
        torch.testing.assert_close(sharded['optimizer']['state'][number], state, rtol=1e-3, atol=1e-6)
    if 'TurnByTurn' in common:
        return
    # One process tests the weights of several, and goes on from them.
    checkpoint = tmp_path / 'sharded' / 'epoch_2.pth'
    arguments = (tmp_path / 'case.py', checkpoint, '--work-dir', tmp_path / 'test')
    (result,) = run_tool_in_processes(1, 'test.py', *arguments, data=data, cwd=tmp_path)
    assert '64/accuracy/top1' in succeed(result).stdout
    alone = Case(CLIPPED + COMPARED + common + 'train_cfg = dict(max_epochs=3)\n')
    (result,) = train(alone, 'alone', 'none', '--resume', checkpoint)
    assert 'Each takes 16 samples instead of 8' in succeed(result).stdout
    assert last_checkpoint(tmp_path / 'alone')['meta']['epoch'] == 3
