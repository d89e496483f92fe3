"""Several processes do what one does, and the launch scripts pass on what they are given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
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

# The shuffle of an epoch is dealt out in turns: two ranks with 4 images each take the 8 of one process.
MODES = {
    'joint': '',
    'one_per_iteration': """
train_dataloader = dict(
    batch_sampler=dict(type='resformer_mm.ResolutionBatchSampler', resolutions=[64, 48, 32])
)
""",
    'drawn': """
train_dataloader = dict(
    batch_sampler=dict(type='resformer_mm.MultiResolutionBatchSampler', number=2, keep=[64])
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
    elif mode == 'drawn':
        assert sizes == {((3, 64, 64), (3, 48, 48)), ((3, 64, 64), (3, 32, 32))}
        names = {name for step in expected for name in step['losses']}
        assert names == {'loss', *(f'loss_cls_{size}' for size in (64, 48, 32))} | {
            f'loss_consistency_{size}' for size in (48, 32)
        }
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
    for environment in ({}, dict(OMP_NUM_THREADS='3')):
        result = launch(script, *arguments, '4', *OPTIONS, PYTHON=python, **environment)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ('' if environment else f'{ONE_THREAD}\n')
        *words, pythonpath = result.stdout.splitlines()
        assert words == [
            '-m',
            'resformer_mm.processes.torchrun',
            '4',
            str(ROOT / 'tools' / tool),
            *arguments,
            '--launcher',
            'pytorch',
            *OPTIONS,
        ]
        assert os.path.samefile(pythonpath.removeprefix('PYTHONPATH=').split(':')[0], ROOT)


# Slurm: the first step is stopped by a signal, which its tasks note; a later one ends.
SRUN = """#!/usr/bin/env bash
echo "${*:15}" >> calls
if [ "$(wc -l < calls)" = 1 ]; then echo 85 > "$RESFORMER_MM_LAUNCH/status"; fi
"""
SCONTROL = '#!/usr/bin/env bash\necho "scontrol $*" >> calls\nexit "${SCONTROL_STATUS:-0}"\n'


@pytest.mark.parametrize(
    ('settings', 'calls', 'status'),
    [
        ({}, ['', '--resume'], 0),
        (dict(SLURM_JOB_ID='7'), ['', 'scontrol requeue 7'], 85),
        (dict(SLURM_JOB_ID='7', SCONTROL_STATUS='1'), ['', 'scontrol requeue 7'], 85),
        (dict(REQUEUE='0'), [''], 85),
    ],
    ids=['a_new_step', 'a_batch_job', 'not_a_batch_job', 'left_out'],
)
def test_a_training_that_slurm_stops_goes_on(
    tmp_path: Path, settings: dict[str, str], calls: list[str], status: int
) -> None:
    for name, text in (('srun', SRUN), ('scontrol', SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    command = ['bash', str(ROOT / 'tools' / 'slurm_train.sh'), 'gpus', 'job', 'config.py']
    environment = {**os.environ, 'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}', **settings}
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == status
    assert (tmp_path / 'calls').read_text().splitlines() == calls
    assert ('with --resume goes on' in result.stderr) == ('SCONTROL_STATUS' in settings)
    assert {path.name for path in tmp_path.iterdir()} == {'srun', 'scontrol', 'calls'}


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_too_few_arguments_print_the_usage(script: str) -> None:
    result = launch(script, 'config.py')
    assert result.returncode == 2
    assert 'usage' in result.stderr and script in result.stderr and 'CONFIG' in result.stderr
