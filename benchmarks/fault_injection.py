"""Trainings that are killed again and again, compared bit for bit with undisturbed ones.

    python benchmarks/fault_injection.py                                # all rows, update the CSV
    python benchmarks/fault_injection.py --only joint_workers sigterm   # some rows

Every row is a small training on generated images, through tools/train.py or tools/dist_train.sh, with random
augmentation, mixup, CutMix and stochastic depth. It runs once undisturbed. Then it is killed at each of the
points of the row, and continued with --resume. Augmentation that repeats, a batch that is read twice, or a
validation that is left out would change the bits of the weights. In the rows with restarts, the launcher
continues it; two machines are two launchers, of which one is killed and started again. The disk that fills
up is a tmpfs, which only root can mount.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.progress import track
from resformer_mm.resuming import whole_files
from resformer_mm.synthetic import write_image_folder

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks' / 'results' / 'fault_injection.csv'
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['fault_injection'], allow_failed_imports=False)
custom_hooks = [dict(type='FaultHook', file={file!r}), dict(type='EMAHook', momentum=0.01)]
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        patch_size=16,
        drop_path_rate=0.2,
    ),
    head=dict(in_channels=32),
)
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=20, num_workers=0, persistent_workers=False)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=2e-3))
param_scheduler = dict(_delete_=True, type='LinearLR', start_factor=0.1, begin=0, end=12, by_epoch=False)
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(by_epoch=False, interval=2, save_best='mean/accuracy/top1', rule='greater'),
)
randomness = dict(seed=3, deterministic=True)
"""
# Numbers that stand for something else than a signal.
STRUCK = 'struck.txt'  # file with the time of the last fault
ERROR = 0
LOST_MACHINE = -1  # the process and its launcher are killed
FULL_DISK = -2  # nothing is left on the disk of the work dir
DAMAGE = -3  # a byte of the newest checkpoint changes, and the process is killed
SAVING = -4  # the process is killed in the next checkpoint, before that gets its name
OTHERS = {
    ERROR: 'error',
    LOST_MACHINE: 'SIGKILL of a machine',
    FULL_DISK: 'full disk',
    DAMAGE: 'SIGKILL, damaged checkpoint',
    SAVING: 'SIGKILL in a checkpoint',
}
FILLER = 'filler'  # file that fills a disk
DISK_MIB = 16
WORKERS = 'train_dataloader = dict(num_workers=2, persistent_workers={})\n'
SAVED_BY_EPOCH = 'default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))\n'
ALWAYS_SAVED = 'default_hooks = dict(checkpoint=dict(interval=1))\n'
TURNS = "train_cfg = dict(_delete_=True, type='resformer_mm.TurnByTurnEpochLoop', max_epochs=3)\n"
STEERED = (
    'train_dataloader = dict(num_workers=2, persistent_workers=True, '
    "batch_sampler=dict(type='resformer_mm.ImageResolutionBatchSampler', keep=[32]))\n"
    "custom_hooks = [*_base_.custom_hooks, dict(type='resformer_mm.LossProgressHook', rate=4.0)]\n"
)
ITERATIONS = (
    "train_cfg = dict(_delete_=True, type='{}', max_iters=12, val_interval=4)\n"
    "train_dataloader = dict(sampler=dict(type='{}'){})\n"
)


@dataclass(frozen=True)
class Case:
    """A training and how it is disturbed.

    Attributes:
        extra: lines at the end of the config.
        faults: where a process is killed, one of them in each run: hook method and iterations that are done.
        processes: number of processes.
        number: signal that is sent.
        status: exit status of a run that is disturbed; None if any but 0 will do.
        machines: number of machines, each with one of the processes.
        restarts: number of restarts by the launcher, which continues the run instead of ``--resume``.
        says: text that the disturbed runs must print.
    """

    extra: str = ''
    faults: tuple[str, ...] = ('before_train_iter:1', 'after_train_iter:3', 'before_val:4', 'after_val:8')
    processes: int = 1
    number: int = signal.SIGKILL
    status: int | None = None
    machines: int = 1
    restarts: int = 0
    says: str = ''


# 32 images: an epoch has 4 batches.
CASES = {
    'joint': Case(),
    'joint_workers': Case(WORKERS.format(False)),
    'joint_persistent_workers': Case(WORKERS.format(True)),
    'epochs': Case(SAVED_BY_EPOCH),
    'turn_by_turn': Case(TURNS),
    'one_resolution': Case(
        "train_dataloader = dict(batch_sampler=dict(type='resformer_mm.ResolutionBatchSampler'))"
    ),
    'drawn_resolutions': Case(
        'train_dataloader = dict(\n'
        "    batch_sampler=dict(type='resformer_mm.MultiResolutionBatchSampler', number=2))\n"
    ),
    'steered_resolutions': Case(STEERED, faults=('after_train_iter:1', 'after_train_iter:3')),
    'two_processes_steered': Case(
        STEERED, processes=2, faults=('after_train_iter:2', 'before_train_iter:4', 'after_train_iter:5')
    ),
    'accumulation': Case('optim_wrapper = dict(accumulative_counts=3)\n' + ALWAYS_SAVED),
    'iterations': Case(ITERATIONS.format('IterBasedTrainLoop', 'InfiniteSampler', '')),
    'iterations_workers': Case(
        ITERATIONS.format('IterBasedTrainLoop', 'InfiniteSampler', ', num_workers=2, persistent_workers=True')
    ),
    'iterations_passes': Case(ITERATIONS.format('IterBasedTrainLoop', 'DefaultSampler', '')),
    'iterations_turn_by_turn': Case(
        ITERATIONS.format('resformer_mm.TurnByTurnIterLoop', 'InfiniteSampler', '')
    ),
    'bfloat16': Case("optim_wrapper = dict(type='resformer_mm.AutocastOptimWrapper')"),
    'two_processes': Case(processes=2, faults=('after_train_iter:1', 'before_train_iter:3', 'before_val:4')),
    'two_processes_turn_by_turn': Case(
        TURNS + WORKERS.format(True), processes=2, faults=('after_train_iter:3', 'after_train_iter:5')
    ),
    'two_processes_iterations': Case(
        ITERATIONS.format('IterBasedTrainLoop', 'InfiniteSampler', '')
        + 'optim_wrapper = dict(accumulative_counts=2)\n'
        + ALWAYS_SAVED,
        processes=2,
        faults=('after_train_iter:3', 'before_train_iter:7'),
    ),
    'two_processes_fsdp': Case(
        "strategy = dict(type='FSDPStrategy', model_wrapper=dict(sharding_strategy='SHARD_GRAD_OP'))\n",
        processes=2,
        faults=('after_train_iter:3', 'before_val:4'),
    ),
    'twenty_kills': Case(
        ALWAYS_SAVED,
        faults=tuple(f'{"after" if n % 2 else "before"}_train_iter:{(n + 1) // 2}' for n in range(20)),
    ),
    'sigterm': Case(
        SAVED_BY_EPOCH,
        faults=('before_train_iter:1', 'after_train_iter:6', 'before_val:8'),
        number=signal.SIGTERM,
        status=85,
    ),
    'sigusr1_workers': Case(
        SAVED_BY_EPOCH + WORKERS.format(True),
        faults=('before_train_iter:2', 'after_train_iter:6'),
        number=signal.SIGUSR1,
        status=85,
    ),
    'sigterm_two_processes': Case(
        SAVED_BY_EPOCH,
        faults=('before_train_iter:1', 'after_train_iter:3'),
        processes=2,
        number=signal.SIGTERM,
        status=85,
    ),
    'while_saving': Case(faults=('before_train_iter:3', 'before_train_iter:7'), number=SAVING),
    'full_disk': Case(
        faults=('before_train_iter:5',), number=FULL_DISK, says='cannot be written: No space left'
    ),
    'damaged_checkpoint': Case(
        faults=('after_train_iter:6',), number=DAMAGE, says='is damaged: the check sum of'
    ),
    'lost_workers': Case(WORKERS.format(True), processes=2, faults=('after_train_iter:1',)),
    'lost_error': Case(processes=2, faults=('before_train_iter:3',), number=ERROR),
    'lost_restart': Case(processes=2, faults=('before_train_iter:3',), restarts=1),
    'lost_machine': Case(
        processes=2, faults=('after_train_iter:3',), number=LOST_MACHINE, machines=2, restarts=2
    ),
}


@HOOKS.register_module()
class FaultHook(Hook):
    """Sends a signal to this process, the last of all, at a point of the training.

    Args:
        file: has the point and the number of the signal, as :func:`plan_fault` writes it.
    """

    priority = 'LOWEST'

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def _strike(self, runner: Any, method: str, done: int) -> None:
        point, number = self.file.read_text().split()
        if point == f'{method}:{done}' and runner.rank == runner.world_size - 1:
            plan_fault(self.file, 'none', 0)  # a run that goes on by itself passes here again
            self.file.with_name(STRUCK).write_text(str(time.time()))
            if int(number) == ERROR:
                raise ValueError('an error as planned')
            if int(number) == FULL_DISK:
                fill_disk(Path(runner.work_dir))
                return
            if int(number) == SAVING:
                whole_files._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)
                return
            if int(number) == DAMAGE:
                damage_newest(Path(runner.work_dir))
            if int(number) == LOST_MACHINE:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), int(number) if int(number) > 0 else signal.SIGKILL)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Before a step."""
        self._strike(runner, 'before_train_iter', runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """After a step, and the checkpoint of it."""
        self._strike(runner, 'after_train_iter', runner.iter + 1)

    def before_val(self, runner: Any) -> None:
        """Before a validation."""
        self._strike(runner, 'before_val', runner.iter)

    def after_val(self, runner: Any) -> None:
        """After a validation, and the best checkpoint."""
        self._strike(runner, 'after_val', runner.iter)


@dataclass
class Outcome:
    """The outcome of a case.

    Attributes:
        survived: number of runs that were disturbed as planned.
        differences: what differs from the undisturbed run.
        end: longest time in seconds from a fault to the end of all processes.
        wall: seconds of all runs.
    """

    survived: int = 0
    differences: list[str] = field(default_factory=list)
    end: float = 0.0
    wall: float = 0.0


def fill_disk(work_dir: Path) -> None:
    """Write a file that leaves nothing of the small disk of a work dir."""
    assert os.path.ismount(work_dir.parent), 'this would fill the disk of somebody else'
    with open(work_dir.with_name(FILLER), 'wb', buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


def damage_newest(work_dir: Path) -> None:
    """Change a byte in the middle of the newest checkpoint."""
    path = work_dir / Path((work_dir / 'last_checkpoint').read_text()).name
    with open(path, 'r+b') as file:
        middle = file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(middle)
        file.write(bytes([byte ^ 255]))


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Mount a disk of :data:`DISK_MIB` at a place."""
    place.mkdir(parents=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={DISK_MIB}m', 'tmpfs', place], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', place], check=True)


def write_configs(folder: Path, case: Case) -> Path:
    """Write the config of a case, and the one that it is based on; return the path of the first."""
    base = ROOT / 'configs' / 'classification' / 'resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'small.py').write_text(CONFIG.format(base=str(base), file=str(folder / 'fault.txt')))
    config = folder / 'case.py'
    config.write_text(f"_base_ = 'small.py'\n{case.extra}")
    return config


def plan_fault(config: Path, fault: str, number: int) -> None:
    """Let the next training of a config be struck by a signal; the fault 'none' is none."""
    config.with_name('fault.txt').write_text(f'{fault} {int(number)}')


def train(config: Path, case: Case, data: Path, fault: str, *options: str) -> subprocess.CompletedProcess:
    """Train into a work dir, with one fault."""
    command: list[object] = [sys.executable, ROOT / 'tools' / 'train.py', config]
    if case.processes > 1:
        command = ['bash', ROOT / 'tools' / 'dist_train.sh', config, case.processes // case.machines]
        options = (*options, '--max-restarts', str(case.restarts))
    plan_fault(config, fault, case.number)
    environment = {
        **os.environ,
        'MINI_DATA_ROOT': str(data),
        'PYTHONPATH': os.pathsep.join((str(ROOT), str(ROOT / 'benchmarks'))),
        'PYTHON': sys.executable,
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
    }
    words = [str(word) for word in (*command, '--no-check', *options)]
    if case.machines == 1:
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    return run_machines(words, {**environment, 'NNODES': str(case.machines), 'PORT': free_port()})


def run_machines(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Run a command on two simulated machines, and again on the second if it is killed there.

    Returns the result of the first machine.
    """
    with tempfile.TemporaryFile('w+') as output:

        def start(rank: int) -> subprocess.Popen:
            variables = {**environment, 'NODE_RANK': str(rank)}
            stream = output if rank == 0 else subprocess.DEVNULL
            return subprocess.Popen(words, env=variables, stdout=stream, stderr=stream)

        first = start(0)
        time.sleep(1)  # the first one connects them
        second = start(1)
        end = time.monotonic() + 600
        try:
            while first.poll() is None and time.monotonic() < end:
                if second.poll() == -signal.SIGKILL:
                    second = start(1)
                time.sleep(0.1)
            second.wait(60)
        finally:
            for process in (first, second):
                process.kill()
                process.wait()
        output.seek(0)
        return subprocess.CompletedProcess(words, first.returncode, output.read(), '')


def free_port() -> str:
    """Return a port that nobody uses."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def run_case(case: Case, data: Path, folder: Path) -> Outcome:
    """Train undisturbed, and disturbed; compare what remains.

    Raises:
        RuntimeError: a run ended otherwise than planned.
    """
    disk = folder / 'disk'
    with small_disk(disk) if case.number == FULL_DISK else nullcontext():
        return _run_case(case, data, folder, disk / 'disturbed')


def _run_case(case: Case, data: Path, folder: Path, disturbed: Path) -> Outcome:
    start, outcome, said = time.time(), Outcome(), ''
    config = write_configs(folder, case)
    undisturbed = folder / 'undisturbed'
    runs = [(undisturbed, 'none'), *((disturbed, fault) for fault in case.faults)]
    if not case.restarts:
        runs.append((disturbed, 'none'))
    for work_dir, fault in runs:
        resume = ['--resume'] if work_dir.exists() else []
        result = train(config, case, data, fault, '--work-dir', str(work_dir), *resume)
        if fault != 'none' and not case.restarts:
            outcome.end = max(outcome.end, time.time() - float(config.with_name(STRUCK).read_text()))
        if fault == 'none':
            as_planned = result.returncode == 0
        elif case.restarts:
            as_planned = result.returncode == 0 and 'restarted: the training goes on from' in result.stdout
        elif case.status is not None:
            as_planned = result.returncode == case.status
        else:
            as_planned = result.returncode != 0
        if not as_planned:
            raise RuntimeError(
                f'{fault}: status {result.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}'
            )
        outcome.survived += fault != 'none'
        said += result.stdout + result.stderr
        disturbed.with_name(FILLER).unlink(missing_ok=True)
    if case.says not in said:
        raise RuntimeError(f'no run has said {case.says!r}:\n{said[-4000:]}')
    if left := list(disturbed.glob('.*.partial*')):
        raise RuntimeError(f'left behind: {left}')
    outcome.differences = differences(last_checkpoint(undisturbed), last_checkpoint(disturbed))
    outcome.wall = time.time() - start
    return outcome


def last_checkpoint(work_dir: Path) -> dict:
    """Return the content of the last checkpoint."""
    path = work_dir / Path((work_dir / 'last_checkpoint').read_text()).name
    return torch.load(path, map_location='cpu', weights_only=False)


def differences(expected: Any, actual: Any, name: str = '') -> list[str]:
    """Return the names of weights, averaged weights and states of optimiser and schedules that differ."""
    if not name:
        entries = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
        return [text for entry in entries for text in differences(expected[entry], actual[entry], entry)]
    if isinstance(expected, torch.Tensor):
        return [] if torch.equal(expected, actual) else [name]
    if isinstance(expected, dict):
        found = [] if expected.keys() == actual.keys() else [name]
        return found + [
            text for key in expected for text in differences(expected[key], actual.get(key), f'{name}.{key}')
        ]
    if isinstance(expected, (list, tuple)) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual))
        return [text for index, pair in pairs for text in differences(*pair, f'{name}.{index}')]
    return [] if expected == actual else [name]


def write_row(name: str, case: Case, outcome: Outcome) -> None:
    """Put the row of a case into the CSV, in the order of the cases."""
    rows = {}
    if RESULTS.is_file():
        with open(RESULTS, newline='') as file:
            rows = {row['row']: row for row in csv.DictReader(file)}
    rows[name] = {
        'row': name,
        'processes': case.processes,
        'signal': OTHERS.get(case.number) or signal.Signals(case.number).name,
        'faults': ' '.join(case.faults),
        'survived': outcome.survived,
        'differences': len(outcome.differences),
        'seconds_to_end': '' if case.restarts else round(outcome.end, 1),
        'seconds': round(outcome.wall),
        'torch': torch.__version__,
        'machine': describe_device('cpu'),
    }
    empty = dict.fromkeys(rows[name], '')  # rows of an earlier version may lack columns
    write_csv(RESULTS, [{**empty, **rows[known]} for known in CASES if known in rows])


def main() -> None:
    """Run the cases, and update the CSV.

    Raises:
        SystemExit: weights differ.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', nargs='+', choices=list(CASES), default=list(CASES), metavar='ROW')
    args = parser.parse_args()
    unequal = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, 'data')
        write_image_folder(data, num_train=32, num_val=20, size=64)
        for name in track(args.only, 'rows'):
            case = CASES[name]
            outcome = run_case(case, data, Path(folder, name))
            write_row(name, case, outcome)
            number, planned = len(outcome.differences), len(case.faults)
            equal = 'equal' if not number else f'{number} differ, e.g. {outcome.differences[0]}'
            end = '' if case.restarts else f'ended after {outcome.end:.1f} s, '
            times = f'{end}{outcome.wall:.0f} s in all'
            print(f'{name:28} {outcome.survived} of {planned} faults, {equal}, {times}', flush=True)
            unequal += [name] * bool(number)
    if unequal:
        sys.exit(f'other bits than the undisturbed runs: {", ".join(unequal)}')


if __name__ == '__main__':
    main()
