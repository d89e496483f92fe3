"""Top-1 accuracy over all test sizes, of models that are trained for it, with several seeds.

    python benchmarks/every_size.py --train-data DATA --test-data TEST --variants plain fuzzy --seeds 0 1 2
    python benchmarks/every_size.py --table

DATA has ``train/CLASS`` and ``val/CLASS``, TEST has ``CLASS``, with the same classes. Every variant of
`every_size_variants.py` is trained by tools/train.py and tested by tools/test.py. Accuracies are appended to
``--out``, seconds to ``--times``, as soon as they are known. What an earlier call has finished is not
repeated, and an interrupted training continues from its last checkpoint: after an interruption, give the same
command again. Several calls at once share the work.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import torch
from every_size_results import (
    accuracy_table,
    append_rows,
    expected_seconds,
    missing_resolutions,
    read_rows,
)
from every_size_variants import VARIANTS
from mmengine.device import get_device

from resformer_mm.analysis.machine import describe_device
from resformer_mm.engine.precision import half_pays

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks' / 'results'
TRAIN, TEST = ROOT / 'tools' / 'train.py', ROOT / 'tools' / 'test.py'
RESOLUTIONS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 320)
RESOLUTIONS_PER_PASS = 4
"""How often a test writes down what it has finished."""
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png')


class NotFinished(Exception):
    """A run was not started, was stopped, or failed; the message says which."""


@dataclass
class Budget:
    """Time that all runs have together.

    Attributes:
        hours: length in hours; infinite by default.
        start: time of the clock at which it began.
    """

    hours: float = float('inf')
    start: float = field(default_factory=time.monotonic)

    def check(self, seconds: float | None, name: str) -> None:
        """Check that a run ends in time; one of unknown length, None, may start while any time is left.

        Raises:
            NotFinished: it does not.
        """
        left = 3600 * self.hours - (time.monotonic() - self.start)
        if left < (seconds or 0):
            raise NotFinished(f'{name}: needs about {seconds or 0:.0f} s, and {max(left, 0):.0f} s are left')


class Commands:
    """Commands that run with few threads, and end together.

    Args:
        environment: variables besides those of this process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = {**os.environ, **environment}
        self.is_stopped = threading.Event()
        self._running: set[subprocess.Popen] = set()

    def stop(self) -> None:
        """End all commands; trainings write a checkpoint before."""
        self.is_stopped.set()
        for process in list(self._running):
            process.terminate()

    def run(self, words: Sequence[object], log: Path, name: str, kept_open: int) -> float:
        """Run a command, append its output to a log, and return its seconds.

        Args:
            words: the command.
            log: file of the output.
            name: name of the run, for messages.
            kept_open: file descriptor of a lock, which the command holds as well, should this process end
                before it.

        Raises:
            NotFinished: it failed, or was stopped.
        """
        if self.is_stopped.is_set():
            raise NotFinished(f'{name}: not started')
        start = time.monotonic()
        with open(log, 'a', encoding='utf-8') as file:
            process = subprocess.Popen(
                list(map(str, words)),
                cwd=ROOT,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[kept_open],
            )
            self._running.add(process)
            if self.is_stopped.is_set():  # it may have come too late for `stop`
                process.terminate()
            code = process.wait()
            self._running.discard(process)
        if self.is_stopped.is_set():
            raise NotFinished(f'{name}: stopped')
        if code:
            last = log.read_text(encoding='utf-8').splitlines()[-15:]
            raise NotFinished('\n'.join([f'{name}: failed with status {code}, see {log}', *last]))
        return time.monotonic() - start


@dataclass
class Comparison:
    """Trainings and tests of variants.

    Attributes:
        train_data: folder with ``train`` and ``val``.
        test_data: folder of the classes of the test.
        work_dir: folder of checkpoints and logs.
        accuracies: CSV file of the accuracies.
        times: CSV file of the seconds.
        resolutions: test resolutions.
        epochs: length of a training.
        workers: loader workers of a run.
        dtype: type in which a model is tested.
        commands: what runs the commands.
        budget: time of all runs.
    """

    train_data: Path
    test_data: Path
    work_dir: Path
    accuracies: Path
    times: Path
    resolutions: Sequence[int]
    epochs: int
    workers: int
    dtype: str
    commands: Commands
    budget: Budget

    def __post_init__(self) -> None:
        """Count the test images."""
        files = self.test_data.glob('*/*')
        self.images = sum(file.suffix.lower() in IMAGE_ENDINGS for file in files)

    def run(self, trained: str, tested: Sequence[str], seed: int) -> None:
        """Train a variant with a seed, and test it and those that use its weights.

        Args:
            trained: name of the variant to train.
            tested: names of the variants to test.
            seed: seed of the training.

        Raises:
            NotFinished: something is not finished; the rest of it is not started.
        """
        tests = {name: self._missing(name, seed) for name in tested}
        if not any(tests.values()):
            return
        folder = self.work_dir / trained / f'seed_{seed}_{self.epochs}e'
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / 'lock', f'{trained}, seed {seed}') as descriptor:
            checkpoint = self._train(trained, seed, folder, descriptor)
            for name, resolutions in tests.items():
                if resolutions:
                    self._test(name, seed, resolutions, checkpoint, descriptor)

    def _missing(self, name: str, seed: int) -> list[int]:
        rows = read_rows(self.accuracies)
        return missing_resolutions(rows, self._identity(name, seed), self.resolutions)

    def _identity(self, name: str, seed: int) -> dict[str, object]:
        return dict(variant=name, seed=seed, epochs=self.epochs, images=self.images)

    def _train(self, name: str, seed: int, folder: Path, descriptor: int) -> Path:
        """Return the last checkpoint of a training, which is continued or begun if there is none yet."""
        checkpoint = folder / f'epoch_{self.epochs}.pth'
        if checkpoint.is_file():
            return checkpoint
        label = f'{name}, seed {seed}, training'
        epochs = self.epochs - max(
            (int(file.stem.rpartition('_')[2]) for file in folder.glob('epoch_*.pth')), default=0
        )
        self._check_time(name, 'training', epochs, label)
        begins = epochs == self.epochs
        options = [
            f'randomness.seed={seed}',
            f'train_dataloader.num_workers={self.workers}',
            f'train_cfg.max_epochs={self.epochs}',
            f'param_scheduler.1.end={self.epochs}',
            f'param_scheduler.1.T_max={self.epochs}',
        ]
        words = [sys.executable, TRAIN, self._config(name, folder), '--work-dir', folder, '--no-validate']
        words += [] if begins else ['--resume']
        print(f'{label}: {"begins" if begins else "continues"}', flush=True)
        seconds = self.commands.run(
            [*words, '--cfg-options', *options], folder / 'training.log', label, descriptor
        )
        if not checkpoint.is_file():
            raise NotFinished(f'{label}: ended without {checkpoint}')
        self._add_time(name, seed, 'training', epochs, seconds)
        return checkpoint

    def _test(
        self, name: str, seed: int, resolutions: Sequence[int], checkpoint: Path, descriptor: int
    ) -> None:
        """Test at the resolutions, and append the accuracies."""
        label = f'{name}, seed {seed}, test'
        folder = checkpoint.parent / f'test_{name}'
        folder.mkdir(exist_ok=True)
        amount = sum(resolution**2 for resolution in resolutions) / 1e6 * self.images
        self._check_time(name, 'test', amount, label)
        options = [
            f'test_dataloader.dataset.data_root={self.test_data.absolute()}',
            'test_dataloader.dataset.data_prefix=',
            f'test_dataloader.num_workers={self.workers}',
        ]
        out = folder / 'metrics.json'
        words = [
            sys.executable,
            TEST,
            self._config(name, folder),
            checkpoint,
            '--work-dir',
            folder,
            '--resume',
        ]
        words += ['--resolutions', *resolutions, '--resolutions-per-pass', RESOLUTIONS_PER_PASS]
        words += ['--dtype', self.dtype, '--out', out, '--out-item', 'metrics', '--cfg-options', *options]
        print(f'{label}: begins', flush=True)
        seconds = self.commands.run(words, folder / 'test.log', label, descriptor)
        metrics = json.loads(out.read_text(encoding='utf-8'))
        rows = [
            dict(
                variant=name,
                seed=seed,
                resolution=resolution,
                top1=f'{metrics[f"{resolution}/accuracy/top1"]:.2f}',
                images=self.images,
                epochs=self.epochs,
                dtype=self.dtype,
            )
            for resolution in resolutions
        ]
        append_rows(self.accuracies, rows)
        self._add_time(name, seed, 'test', amount, seconds)
        found = ', '.join(f'{row["resolution"]}: {row["top1"]}' for row in rows)
        print(f'{label}: {found}', flush=True)

    def _config(self, name: str, folder: Path) -> Path:
        path = folder / f'{name}.py'
        path.write_text(VARIANTS[name].config_text(str(ROOT)), encoding='utf-8')
        return path

    def _check_time(self, name: str, part: str, amount: float, label: str) -> None:
        self.budget.check(expected_seconds(read_rows(self.times), name, part, amount), label)

    def _add_time(self, name: str, seed: int, part: str, amount: float, seconds: float) -> None:
        row = dict(
            variant=name,
            seed=seed,
            part=part,
            amount=f'{amount:.2f}',  # epochs, or megapixels of all images together
            seconds=f'{seconds:.0f}',
            dtype=self.dtype,
            torch=torch.__version__,
            machine=describe_device(get_device()),
        )
        append_rows(self.times, [row])


@contextlib.contextmanager
def lock(path: Path, name: str) -> Iterator[int]:
    """Hold a lock file, which another call of this program may hold; yield its descriptor.

    Raises:
        NotFinished: another call holds it.
    """
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotFinished(f'{name}: another call is at work') from None
        yield file.fileno()


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Return name of a trained variant -> variants to test with its weights."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(VARIANTS[name].weights_of or name, []).append(name)
    return groups


def run_all(comparison: Comparison, names: Sequence[str], seeds: Sequence[int], jobs: int) -> list[str]:
    """Train and test variants, all with the first seed, then all with the next one; return what is missing.

    Args:
        comparison: what trains and tests.
        names: names of the variants.
        seeds: seeds of the trainings.
        jobs: number of runs side by side.
    """
    problems = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = [
            pool.submit(comparison.run, trained, tested, seed)
            for seed in seeds
            for trained, tested in grouped(names).items()
        ]
        for future in as_completed(futures):
            try:
                future.result()
            except NotFinished as error:
                problems.append(str(error))
                print(error, file=sys.stderr, flush=True)
    return problems


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--table', action='store_true', help='print the table of what is measured, and end')
    parser.add_argument('--train-data', type=Path, help='folder with train/CLASS and val/CLASS')
    parser.add_argument('--test-data', type=Path, help='folder with CLASS, the test images')
    parser.add_argument(
        '--variants', nargs='+', choices=VARIANTS, metavar='NAME', help=f'(all): {" ".join(VARIANTS)}'
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='(0 1 2)')
    parser.add_argument('--epochs', type=int, default=30, help='length of a training (30)')
    parser.add_argument('--resolutions', nargs='+', type=int, default=list(RESOLUTIONS), help='of the test')
    parser.add_argument('--jobs', type=int, default=1, help='runs side by side (1)')
    parser.add_argument('--threads', type=int, default=1, help='threads of a run (1)')
    parser.add_argument('--workers', type=int, default=1, help='loader workers of a run (1)')
    parser.add_argument(
        '--hours',
        type=float,
        default=float('inf'),
        help='time for all runs: none is started that would not end within it, by the times of earlier ones',
    )
    parser.add_argument('--out', type=Path, default=RESULTS / 'every_size_top1.csv', help='accuracies')
    parser.add_argument('--times', type=Path, default=RESULTS / 'every_size_seconds.csv', help='seconds')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/every_size'), help='of checkpoints')
    args = parser.parse_args(arguments)
    for name in ('train_data', 'test_data'):
        path = getattr(args, name)
        option = f'--{name.replace("_", "-")}'
        if not args.table and (path is None or not path.is_dir()):
            parser.error(f'{option} {path} is not a folder' if path else f'{option} is missing')
    for name in ('epochs', 'jobs', 'threads'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    return args


def main() -> None:
    """Train and test, or print the table."""
    args = parse_args()
    if args.table:
        rows = [row for row in read_rows(args.out) if row['epochs'] == str(args.epochs)]
        if len(numbers := {row['images'] for row in rows}) > 1:
            sys.exit(f'{args.out} has tests on {" and ".join(sorted(numbers))} images: one table needs one')
        print(accuracy_table(rows, args.variants))
        return
    device = get_device()
    threads = str(args.threads)
    commands = Commands(
        dict(
            MINI_DATA_ROOT=str(args.train_data.absolute()),
            OMP_NUM_THREADS=threads,
            MKL_NUM_THREADS=threads,
            OMP_WAIT_POLICY='PASSIVE',
        )
    )
    comparison = Comparison(
        train_data=args.train_data,
        test_data=args.test_data,
        work_dir=args.work_dir.absolute(),
        accuracies=args.out,
        times=args.times,
        resolutions=args.resolutions,
        epochs=args.epochs,
        workers=args.workers,
        # What the training chooses as well.
        dtype='bfloat16' if half_pays('bfloat16', device, 'every_size.py') else 'float32',
        commands=commands,
        budget=Budget(args.hours),
    )
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: commands.stop())
    problems = run_all(comparison, args.variants or list(VARIANTS), args.seeds, args.jobs)
    sys.exit(1 if problems else 0)


if __name__ == '__main__':
    main()
