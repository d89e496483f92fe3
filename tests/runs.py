"""Small training and test runs through the command line, shared by the tests of the tools."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import runpy
import socket
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / 'configs' / 'classification' / 'resformer-mini_mr-64-48-32_1xb64-30e_mini.py'

# What makes the config small, and its training a function of the seed alone.
SMALL = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        patch_size=16,
        drop_path_rate=0.0,
    ),
    head=dict(in_channels=32),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        pipeline=[
            dict(type='resformer_mm.LoadImage'),
            dict(
                type='resformer_mm.MultiResolution',
                resolutions=[64, 48, 32],
                transforms=[dict(type='Resize', scale={resolution!r})],
            ),
            dict(type='PackInputs'),
        ]
    ),
)
val_dataloader = dict(batch_size=10, num_workers=0, persistent_workers=False)
test_dataloader = dict(batch_size=10, num_workers=0, persistent_workers=False)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=2e-3))
param_scheduler = dict(_delete_=True, type='LinearLR', start_factor=0.5, begin=0, end=4, by_epoch=True)
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
{extra}
"""


def write_data(root: Path, num_train: int = 16, num_val: int = 20, num_classes: int = 10) -> Path:
    """Write noisy pictures of one colour per class, ``ROOT/{train,val}/CLASS/*.png``."""
    rng = np.random.default_rng(0)
    for split, number in (('train', num_train), ('val', num_val)):
        for label in range(num_classes):
            (root / split / f'class_{label}').mkdir(parents=True)
        for index in range(number):
            label = index % num_classes
            colour = np.array([25 * label, 250 - 25 * label, 60 * (label % 4)])
            pixels = np.clip(colour + rng.normal(0, 30, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / f'class_{label}' / f'image_{index:03d}.png')
    return root


def write_config(path: Path, extra: str = '', base: Path = CONFIG) -> Path:
    """Write the small config, with further lines at its end."""
    path.write_text(SMALL.format(base=str(base), resolution='{resolution}', extra=extra))
    return path


def data_roots(data: Path) -> dict[str, str]:
    """Return the environment variables that say where the data of the small configs are."""
    tasks = ('MINI_DATA', 'MINI_DETECTION', 'MINI_SEGMENTATION', 'MINI_VIDEO', 'BCCD', 'EUROSAT')
    names = [f'{task}_ROOT' for task in tasks]
    return dict.fromkeys(names, str(data))


def run(command: list, data: Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a command from a folder outside the project, on one thread, without a GPU."""
    env = {
        **os.environ,
        **data_roots(data),
        'PYTHONPATH': os.pathsep.join((str(ROOT), str(cwd), os.environ.get('PYTHONPATH', ''))),
        'PYTHON': sys.executable,
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        **environment,
    }
    command = [str(word) for word in command]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=400)


def run_dist(script: str, *arguments: object, data: Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run ``tools/SCRIPT``, a script that starts several processes, as :func:`run` does."""
    return run(['bash', ROOT / 'tools' / script, *arguments], data, cwd, PORT=free_port())


def free_port() -> str:
    """Return a port of this machine that nobody uses."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def run_tool(name: str, *arguments: object, data: Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run ``tools/NAME`` as :func:`run` does, but in a copy of a process that has imported the libraries.

    That saves their seconds; what depends on a fresh interpreter is for :func:`run` to test.
    """
    (result,) = run_tool_in_processes(1, name, *arguments, data=data, cwd=cwd)
    return result


def run_tool_in_processes(
    number: int, name: str, *arguments: object, data: Path, cwd: Path, **environment: str
) -> list[subprocess.CompletedProcess]:
    """Run a tool as :func:`run_tool` does, in several connected processes without a launcher.

    The other processes are killed a second after one of them ends with an error, as a launcher does.
    """
    context = copies()
    words = [str(word) for word in arguments]
    if number > 1:
        words += ['--launcher', 'pytorch']
    outputs = [[cwd / f'{stream}_{rank}.txt' for stream in ('stdout', 'stderr')] for rank in range(number)]
    ranks = dict(WORLD_SIZE=str(number), MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port())
    processes = []
    for rank in range(number):
        variables = dict(ranks, RANK=str(rank), LOCAL_RANK=str(rank)) if number > 1 else {}
        variables.update(environment)
        arguments = (name, words, data, cwd, outputs[rank], variables)
        processes.append(context.Process(target=_run_here, args=arguments))
        processes[-1].start()
    end = time.monotonic() + 400
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        multiprocessing.connection.wait([one.sentinel for one in processes if one.is_alive()], timeout=1)
        if any(process.exitcode for process in processes):
            end = min(end, time.monotonic() + 1)
    for process in processes:
        process.kill()
        process.join()
    texts = [[path.read_text() for path in paths] for paths in outputs]
    return [
        subprocess.CompletedProcess([name, *words], process.exitcode, *text)
        for process, text in zip(processes, texts)
    ]


def copies() -> ForkServerContext:
    """Return the context of processes that are copies of one that has imported the libraries."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['resformer_mm.apis', 'mmpretrain.models', 'mmpretrain.datasets'])
    return context


def _run_here(
    name: str, words: list[str], data: Path, cwd: Path, outputs: list[Path], variables: dict[str, str]
) -> None:
    os.environ.update(variables)
    for stream, path in zip((1, 2), outputs):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')
    os.environ.update({**data_roots(data), 'CUDA_VISIBLE_DEVICES': ''})
    os.chdir(cwd)
    sys.path.insert(0, str(cwd))
    torch.set_num_threads(1)
    tool = ROOT / 'tools' / name
    sys.argv = [str(tool), *words]
    try:
        runpy.run_path(str(tool), run_name='__main__')
    finally:
        sys.stdout.flush()


def succeed(result: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    """Show the end of the output of a run that failed."""
    assert result.returncode == 0, f'{result.stdout[-3000:]}\n{result.stderr[-6000:]}'
    return result


def scalars(work_dir: Path) -> list[dict]:
    """Return what all runs in a work dir logged, in order of time."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def training_log(work_dir: Path) -> list[dict]:
    """Return the logged training iterations."""
    return [line for line in scalars(work_dir) if 'loss' in line]


def validation_log(work_dir: Path) -> list[dict]:
    """Return the logged metrics, one dict per validation."""
    return [line for line in scalars(work_dir) if 'mean/accuracy/top1' in line]


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the parameters in a checkpoint."""
    return torch.load(path, map_location='cpu', weights_only=False)['state_dict']


def assert_weights_equal(actual: Path, expected: Path, atol: float) -> None:
    """Compare the parameters in two checkpoints."""
    actual, expected = weights(actual), weights(expected)
    assert set(actual) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name], value, rtol=0, atol=atol, msg=lambda text, name=name: f'{name}: {text}'
        )
