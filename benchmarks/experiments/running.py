"""Trainings and tests of an experiment by the tools of the project, side by side, within a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import torch
from experiment import Experiment
from image_data import ImageData
from measured import append_rows, expected_seconds, has_row, read_rows
from mmengine.device import get_device

from resformer_mm.analysis.machine import describe_device

ROOT = Path(__file__).resolve().parents[2]
TRAIN, TEST = ROOT / 'tools' / 'train.py', ROOT / 'tools' / 'test.py'
RESOLUTIONS_PER_PASS = 4
"""How many resolutions a test finishes at a time."""


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

    def run(
        self, words: Sequence[object], log: Path, name: str, kept_open: int, variables: Mapping[str, str]
    ) -> float:
        """Run a command, append its output to a log, and return its seconds.

        Args:
            words: the command.
            log: file of the output.
            name: name of the run, for messages.
            kept_open: file descriptor of a lock, which the command holds as well, should this process end
                before it.
            variables: environment variables of this command.

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
                env={**self.environment, **variables},
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
class Runs:
    """Trainings and tests of an experiment, on one data set.

    Attributes:
        experiment: the experiment.
        data: the images.
        work_dir: folder of checkpoints and logs.
        metrics: CSV file of the metrics.
        times: CSV file of the seconds.
        resolutions: test resolutions.
        thinned: see :class:`~experiment.Experiment`.
        length: that of a training, in epochs or iterations.
        workers: loader workers of a run.
        dtype: type in which a model is tested.
        commands: what runs the commands.
        budget: time of all runs.
    """

    experiment: Experiment
    data: ImageData
    work_dir: Path
    metrics: Path
    times: Path
    resolutions: Sequence[int]
    thinned: Mapping[int, int]
    length: int
    workers: int
    dtype: str
    commands: Commands
    budget: Budget

    def run(self, trained: str, tested: Sequence[str], seed: int) -> None:
        """Train a variant with a seed, and test it and those that use its weights, where that is missing.

        Args:
            trained: name of the variant to train.
            tested: names of the variants to test.
            seed: seed of the training.

        Raises:
            NotFinished: something is not finished; what comes after it is not started.
        """
        tests = self._missing(tested, seed)
        if not tests:
            return
        folder = self._folder(trained, seed)
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / 'lock', f'{trained}, seed {seed}') as descriptor:
            checkpoint = self._train(trained, seed, folder, descriptor)
            for name, resolutions in tests.items():
                for step in sorted({self.thinned.get(resolution, 1) for resolution in resolutions}):
                    own = [size for size in resolutions if self.thinned.get(size, 1) == step]
                    self._test(name, seed, own, step, checkpoint, descriptor)

    def seconds_left(self, trained: str, tested: Sequence[str], seed: int) -> float:
        """Return how long :meth:`run` will take, as far as it can be known from earlier runs."""
        tests = self._missing(tested, seed)
        if not tests:
            return 0
        rows = read_rows(self.times)
        parts = [expected_seconds(rows, trained, 'training', self._length_left(self._folder(trained, seed)))]
        parts += [
            expected_seconds(rows, name, 'test', self._amount(resolutions))
            for name, resolutions in tests.items()
        ]
        return sum(part or 0 for part in parts)

    def _missing(self, names: Sequence[str], seed: int) -> dict[str, list[int]]:
        """Return name -> resolutions at which the variant is to be tested."""
        rows = read_rows(self.metrics)
        found: dict[str, list[int]] = {}
        for name in names:
            identity = dict(variant=name, seed=seed)
            found[name] = [
                size
                for size in self.resolutions
                if not has_row(rows, dict(identity, resolution=size, **self._setting(size)))
            ]
        return {name: resolutions for name, resolutions in found.items() if resolutions}

    def _setting(self, resolution: int) -> dict[str, int]:
        """Return what rows of comparable tests at a resolution have in common."""
        return {'images': self.images(resolution), self.experiment.schedule.column: self.length}

    def images(self, resolution: int) -> int:
        """Return the number of images of a test at a resolution."""
        return len(range(0, self.data.test_images, self.thinned.get(resolution, 1)))

    def _folder(self, name: str, seed: int) -> Path:
        return self.work_dir / name / f'seed_{seed}_{self.length}{self.experiment.schedule.column[0]}'

    def _length_left(self, folder: Path) -> int:
        files = folder.glob(self.experiment.schedule.checkpoint('*'))
        return self.length - max((int(file.stem.rpartition('_')[2]) for file in files), default=0)

    def _amount(self, resolutions: Sequence[int]) -> float:
        """Return the work of a test: megapixels of all images together."""
        return sum(resolution**2 * self.images(resolution) for resolution in resolutions) / 1e6

    def _train(self, name: str, seed: int, folder: Path, descriptor: int) -> Path:
        """Return the last checkpoint of a training, which is begun or continued unless it is finished."""
        schedule = self.experiment.schedule
        checkpoint = folder / schedule.checkpoint(self.length)
        if checkpoint.is_file():
            return checkpoint
        label = f'{name}, seed {seed}, training'
        length = self._length_left(folder)
        self._check_time(name, 'training', length, label)
        words = [sys.executable, TRAIN, self._config(name, folder), '--work-dir', folder, '--no-validate']
        is_begun = any(folder.glob('*.pth'))
        words += ['--resume'] if is_begun else []
        words += ['--cfg-options', f'randomness.seed={seed}', f'train_dataloader.num_workers={self.workers}']
        words += [f'{field}={self.length}' for field in schedule.fields]
        say(f'{label}: {"continues" if is_begun else "begins"}')
        variables = self.data.train_variables
        seconds = self.commands.run(words, folder / 'training.log', label, descriptor, variables)
        if not checkpoint.is_file():
            raise NotFinished(f'{label}: ended without {checkpoint}')
        self._add_time(name, seed, 'training', length, seconds)
        return checkpoint

    def _test(
        self, name: str, seed: int, resolutions: Sequence[int], step: int, checkpoint: Path, descriptor: int
    ) -> None:
        """Test at the resolutions, on every image or every n-th, and append the metrics."""
        label = f'{name}, seed {seed}, test'
        folder = checkpoint.parent / (f'test_{name}' if step == 1 else f'test_{name}_every_{step}')
        folder.mkdir(exist_ok=True)
        amount = self._amount(resolutions)
        self._check_time(name, 'test', amount, label)
        out = folder / 'metrics.json'
        indices = f'list(range(0, {self.data.test_images}, {step}))'
        thinned = f'test_dataloader = dict(dataset=dict(indices={indices}))'
        config = self._config(name, folder, *([thinned] if step > 1 else []))
        words = [sys.executable, TEST, config, checkpoint, '--work-dir', folder]
        words += ['--resume', '--resolutions', *resolutions, '--resolutions-per-pass', RESOLUTIONS_PER_PASS]
        words += ['--dtype', self.dtype, '--out', out, '--out-item', 'metrics', '--cfg-options']
        words += [*self.data.test_options, f'test_dataloader.num_workers={self.workers}']
        say(f'{label}: begins')
        variables = self.data.test_variables
        seconds = self.commands.run(words, folder / 'test.log', label, descriptor, variables)
        found = json.loads(out.read_text(encoding='utf-8'))
        rows: list[dict[str, object]] = []
        for size in resolutions:
            values = {
                column: f'{metric.factor * found[f"{size}/{metric.name}"]:.2f}'
                for column, metric in self.experiment.metrics.items()
            }
            setting = dict(self._setting(size), dtype=self.dtype)
            rows.append({'variant': name, 'seed': seed, 'resolution': size, **values, **setting})
        append_rows(self.metrics, rows)
        self._add_time(name, seed, 'test', amount, seconds)
        shown = [' '.join(str(row[column]) for column in self.experiment.metrics) for row in rows]
        say(f'{label}: {", ".join(f"{size}: {values}" for size, values in zip(resolutions, shown))}')

    def _config(self, name: str, folder: Path, *lines: str) -> Path:
        path = folder / f'{name}.py'
        path.write_text(self.experiment.variants[name].config_text(ROOT, *lines), encoding='utf-8')
        return path

    def _check_time(self, name: str, part: str, amount: float, label: str) -> None:
        self.budget.check(expected_seconds(read_rows(self.times), name, part, amount), label)

    def _add_time(self, name: str, seed: int, part: str, amount: float, seconds: float) -> None:
        row = dict(
            variant=name,
            seed=seed,
            part=part,
            amount=f'{amount:.2f}',  # epochs or iterations, or megapixels
            seconds=f'{seconds:.1f}',
            threads=self.commands.environment['OMP_NUM_THREADS'],
            dtype=self.dtype,
            torch=torch.__version__,
            machine=describe_device(get_device()),
        )
        append_rows(self.times, [row])


def say(text: str, stream: TextIO = sys.stdout) -> None:
    """Print a line at once, so that those of several threads do not mix."""
    stream.write(f'{text}\n')
    stream.flush()


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


def run_all(runs: Runs, names: Sequence[str], seeds: Sequence[int], jobs: int) -> list[str]:
    """Train and test variants, all with the first seed, then all with the next one; return what is missing.

    Args:
        runs: the trainings and tests.
        names: names of the variants.
        seeds: seeds of the trainings.
        jobs: number of runs side by side.
    """
    work = [(*group, seed) for seed in seeds for group in runs.experiment.groups(names).items()]
    problems = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(runs.run, *one): one for one in work}
        for number, future in enumerate(as_completed(futures), 1):
            try:
                future.result()
            except NotFinished as error:
                problems.append(str(error))
                say(str(error), sys.stderr)
            seconds = sum(runs.seconds_left(*one) for other, one in futures.items() if not other.done())
            say(f'{number} of {len(work)} done, about {seconds / jobs / 3600:.1f} h left')
    return problems
