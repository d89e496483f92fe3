"""Several processes do what one does, and the launch scripts pass on what they are given."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed.run
from runs import (
    ROOT,
    assert_weights_equal,
    free_port,
    run,
    run_dist,
    run_tool,
    succeed,
    training_log,
    validation_log,
    write_config,
    write_data,
)
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

# The shuffle of an epoch is dealt out in turns: two ranks with 4 images each take the 8 of one process.
MODES = {
    'joint': '',
    'one_per_iteration': """
train_dataloader = dict(
    batch_sampler=dict(type='resformer_mm.ResolutionBatchSampler', resolutions=[64, 48, 32])
)
""",
    'turn_by_turn': """
train_cfg = dict(type='resformer_mm.TurnByTurnEpochLoop')
""",
}
HOOK = """
custom_imports = dict(imports=['mean_loss_hook'])
custom_hooks = [dict(type='MeanLossHook')]
train_cfg = dict(max_epochs=2, val_interval=2)
"""
# The log of rank 0 holds its own loss: the trajectory of the run is the mean over the ranks.
HOOK_MODULE = """
import json
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class MeanLossHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        shapes = [tuple(image.shape[1:]) for image in data_batch['inputs']]
        means = {}
        for name in sorted(outputs):
            value = torch.as_tensor(outputs[name]).detach().clone().float()
            all_reduce(value, 'mean')
            means[name] = value.item()
        with open(f'{runner.work_dir}/rank_{runner.rank}.jsonl', 'a') as file:
            file.write(json.dumps(dict(shapes=shapes, losses=means)) + '\\n')
"""


def steps(work_dir: Path, rank: int = 0) -> list[dict]:
    return [json.loads(line) for line in (work_dir / f'rank_{rank}.jsonl').read_text().splitlines()]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), num_train=24, num_val=21)


@pytest.mark.slow
@pytest.mark.parametrize('mode', MODES)
def test_two_processes_train_as_one(mode: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / 'mean_loss_hook.py').write_text(HOOK_MODULE)
    base = write_config(tmp_path / 'small.py', HOOK)
    config = tmp_path / f'{mode}.py'
    config.write_text(f'_base_ = {str(base)!r}\n{MODES[mode]}')
    single, double = tmp_path / 'single', tmp_path / 'double'
    succeed(run_tool('train.py', config, '--work-dir', single, data=data, cwd=tmp_path))
    half = ['--work-dir', double, '--cfg-options', 'train_dataloader.batch_size=4']
    result = succeed(run_dist('dist_train.sh', config, 2, *half, data=data, cwd=tmp_path))
    assert result.stderr == ''
    for text in ('No GPU: processes communicate', 'Using env variable `MINI_DATA_ROOT`'):
        assert result.stdout.count(text) == 1  # not once per process

    expected, actual = steps(single), steps(double)
    assert actual == steps(double, rank=1) and len(actual) == len(expected) == 6
    for one, other in zip(actual, expected):
        assert one['shapes'] == other['shapes']
        assert one['losses'] == pytest.approx(other['losses'], abs=1e-4)
    losses = [step['losses']['loss'] for step in expected]
    assert len({round(loss, 3) for loss in losses}) == 6  # it trains
    for epoch in (1, 2):
        assert_weights_equal(double / f'epoch_{epoch}.pth', single / f'epoch_{epoch}.pth', 1e-4)
    sizes = {tuple(map(tuple, step['shapes'])) for step in expected}
    if mode == 'one_per_iteration':
        assert len(sizes) > 1 and all(len(shapes) == 1 for shapes in sizes)
    else:
        assert sizes == {((3, 64, 64), (3, 48, 48), (3, 32, 32))}
    # 21 images: the ranks share them unequally, and no image counts twice.
    (metrics,), (wanted,) = validation_log(double), validation_log(single)
    for name in ('64/accuracy/top1', '48/accuracy/top5', 'mean/accuracy/top1'):
        assert metrics[name] == pytest.approx(wanted[name], abs=1e-3)
    assert len(training_log(double)) == 6

    if mode == 'joint':  # two processes test as one
        results = []
        for launch in ('single', 'double'):
            out = tmp_path / f'{launch}.json'
            options = ['--work-dir', tmp_path / 'test', '--resolutions', 40, 64]
            options += ['--out', out, '--out-item', 'metrics']
            arguments = [config, single / 'epoch_2.pth']
            if launch == 'single':
                succeed(run_tool('test.py', *arguments, *options, data=data, cwd=tmp_path))
            else:
                succeed(run_dist('dist_test.sh', *arguments, 2, *options, data=data, cwd=tmp_path))
            results.append(json.loads(out.read_text()))
        assert {'40/accuracy/top1', '64/accuracy/top5', 'mean/accuracy/top1'} <= set(results[0])
        assert results[1] == pytest.approx(results[0], abs=1e-3)


# A thread of the process group that outlives Python aborts the process, often on a busy machine.
THREADS_AT_EXIT = """
import atexit, json, runpy, sys
from pathlib import Path

def write():
    names = [path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm')]
    Path('threads.json').write_text(json.dumps(names))

atexit.register(write)  # called after all that the tool registers
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
def test_no_thread_of_the_process_group_is_left(data: Path, tmp_path: Path) -> None:
    (tmp_path / 'watch.py').write_text(THREADS_AT_EXIT)
    config = write_config(tmp_path / 'small.py', 'train_cfg = dict(max_epochs=1)')
    process = {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port()}
    tool = [sys.executable, 'watch.py', ROOT / 'tools' / 'train.py', config, '--launcher', 'pytorch']
    succeed(run(tool, data, tmp_path, **process))
    assert not [name for name in json.loads((tmp_path / 'threads.json').read_text()) if 'gloo' in name]


# The launch scripts


def fake(folder: Path, name: str) -> Path:
    """A program that prints its arguments, one per line, and the path of the package."""
    path = folder / name
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\necho "PYTHONPATH=$PYTHONPATH"\n')
    path.chmod(0o755)
    return path


def launch(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ['bash', str(ROOT / 'tools' / script), *arguments]
    unset = ('GPUS', 'PORT', 'NNODES', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS')
    env = {key: value for key, value in os.environ.items() if key not in unset}
    return subprocess.run(command, env={**env, **environment}, capture_output=True, text=True, timeout=60)


ONE_THREAD = 'OMP_NUM_THREADS=1: each process computes with one thread on the CPU; set the variable for more'
OPTIONS = ('--cfg-options', 'a.b=1 2', 'c=[3, 4]')


@pytest.mark.parametrize(
    ('script', 'tool', 'arguments'),
    [
        ('slurm_train.sh', 'train.py', ('my config.py',)),
        ('slurm_test.sh', 'test.py', ('my config.py', 'my model.pth')),
    ],
)
def test_slurm_scripts(tmp_path: Path, script: str, tool: str, arguments: tuple[str, ...]) -> None:
    fake(tmp_path, 'srun')
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    result = launch(script, 'gpus', 'job', *arguments, *OPTIONS, PATH=path, PYTHON='my python')
    assert result.returncode == 0, result.stderr
    *words, pythonpath = result.stdout.splitlines()
    assert words == [
        '-p',
        'gpus',
        '--job-name=job',
        '--gres=gpu:8',
        '--ntasks=8',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        'my python',
        '-u',
        str(ROOT / 'tools' / tool),
        *arguments,
        '--launcher',
        'slurm',
        *OPTIONS,
    ]
    assert os.path.samefile(pythonpath.removeprefix('PYTHONPATH=').split(':')[0], ROOT)
    settings = dict(GPUS='16', GPUS_PER_NODE='4', CPUS_PER_TASK='7', SRUN_ARGS='--qos=high --exclusive')
    words = launch(script, 'gpus', 'job', *arguments, PATH=path, **settings).stdout.splitlines()
    assert words[3:10] == [
        '--gres=gpu:4',
        '--ntasks=16',
        '--ntasks-per-node=4',
        '--cpus-per-task=7',
        '--kill-on-bad-exit=1',
        '--qos=high',
        '--exclusive',
    ]


@pytest.mark.parametrize(
    ('script', 'tool', 'arguments'),
    [
        ('dist_train.sh', 'train.py', ('my config.py',)),
        ('dist_test.sh', 'test.py', ('my config.py', 'x.pth')),
    ],
)
def test_torchrun_scripts(tmp_path: Path, script: str, tool: str, arguments: tuple[str, ...]) -> None:
    python = str(fake(tmp_path, 'python'))
    settings = dict(NNODES='2', NODE_RANK='1', PORT='1234', MASTER_ADDR='10.0.0.1', OMP_NUM_THREADS='3')
    cases = [
        ({}, ['1', '0', '127.0.0.1', '29500']),
        (settings, ['2', '1', '10.0.0.1', '1234']),
    ]
    for environment, (nodes, rank, address, port) in cases:
        result = launch(script, *arguments, '4', *OPTIONS, PYTHON=python, **environment)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ('' if environment else f'{ONE_THREAD}\n')
        *words, pythonpath = result.stdout.splitlines()
        assert words == [
            str(ROOT / 'tools' / 'misc' / 'torchrun.py'),
            f'--nnodes={nodes}',
            f'--node_rank={rank}',
            f'--master_addr={address}',
            f'--master_port={port}',
            '--nproc_per_node=4',
            str(ROOT / 'tools' / tool),
            *arguments,
            '--launcher',
            'pytorch',
            *OPTIONS,
        ]
        assert os.path.samefile(pythonpath.removeprefix('PYTHONPATH=').split(':')[0], ROOT)


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_too_few_arguments_print_the_usage(script: str) -> None:
    result = launch(script, 'config.py')
    assert result.returncode == 2
    assert 'usage' in result.stderr and script in result.stderr and 'CONFIG' in result.stderr


def ends_with(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Run torchrun, whose second process ends with a status first."""

    def fail() -> None:
        ends = {0: (-15, 20), 1: (status, 10)}
        failures = {rank: ProcessFailure(rank, 1, code, 'none') for rank, (code, _) in ends.items()}
        for rank, (_, time) in ends.items():
            failures[rank].timestamp = time
        raise ChildFailedError('train.py', failures)

    monkeypatch.setattr(torch.distributed.run, 'main', fail)
    runpy.run_path(str(ROOT / 'tools' / 'misc' / 'torchrun.py'), run_name='__main__')


def test_torchrun_ends_as_the_first_process_with_a_usage_error(monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        ends_with(monkeypatch, 2)
    assert ended.value.code == 2
    assert capsys.readouterr().err == 'train.py has ended with status 2, see above\n'
    with pytest.raises(ChildFailedError):
        ends_with(monkeypatch, 1)
