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
from experiment import Experiment, VariantKey
from image_data import ImageData
from measured import append_rows, expected_seconds, has_row, read_rows
from mmengine.device import get_device

from resformer_mm.analysis.machine import describe_device

ROOT = Path(__file__).resolve().parents[2]
TRAIN, TEST = ROOT / 'tools' / 'train.py', ROOT / 'tools' / 'test.py'
RESOLUTIONS_PER_PASS = 4
"""How many resolutions a test finishes at a time."""
SECONDS_BETWEEN_LOOKS = 2.0
"""How often a training looks whether the one that it starts from has ended."""
CONVERTED = Path('start', 'converted.pth')
"""Converted checkpoint, in the folder of the training that starts from it."""


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
    """Trainings and tests of an experiment, and of the variants of others that it shares, on one data set.

    Every experiment has its own CSV files and its own folder of checkpoints. What is shared is found there.

    Attributes:
        experiment: the experiment.
        data: the images.
        work_dirs: folder of the folders of checkpoints and logs.
        results: folder of the CSV files.
        resolutions: test resolutions.
        all_images: whether no test is thinned.
        length: that of a training, in epochs or iterations.
        workers: loader workers of a run.
        dtype: type in which a model is tested.
        commands: what runs the commands.
        budget: time of all runs.
    """

    experiment: Experiment
    data: ImageData
    work_dirs: Path
    results: Path
    resolutions: Sequence[int]
    all_images: bool
    length: int
    workers: int
    dtype: str
    commands: Commands
    budget: Budget

    def run(self, trained: VariantKey, tested: Sequence[VariantKey], seed: int) -> None:
        """Train a variant with a seed, and test it and those that use its weights, where that is missing.

        Args:
            trained: the variant to train.
            tested: the variants to test; without any, the variant is only trained.
            seed: seed of the training.

        Raises:
            NotFinished: something is not finished; what comes after it is not started.
        """
        tests = self._missing(tested, seed)
        if tested and not tests:
            return
        with lock(self._folder(trained, seed), f'{trained.variant}, seed {seed}') as descriptor:
            checkpoint = self._train(trained, seed, descriptor)
            for key, resolutions in tests.items():
                for step in sorted({self._step(key, resolution) for resolution in resolutions}):
                    own = [size for size in resolutions if self._step(key, size) == step]
                    self._test(key, seed, own, step, checkpoint, descriptor)

    def seconds_left(self, trained: VariantKey, tested: Sequence[VariantKey], seed: int) -> float:
        """Return how long :meth:`run` will take, as far as it can be known from earlier runs."""
        tests = self._missing(tested, seed)
        if tested and not tests:
            return 0
        return self._training_seconds(trained, seed) + sum(
            self._expected(key, 'test', self._amount(key, resolutions)) or 0
            for key, resolutions in tests.items()
        )

    def _training_seconds(self, key: VariantKey, seed: int) -> float:
        if self._checkpoint(key, seed).is_file():
            return 0
        before = 0 if key.start is None else self._training_seconds(key.start.trained, seed)
        return before + (self._expected(key, 'training', self._length_left(key, seed)) or 0)

    def _missing(self, keys: Sequence[VariantKey], seed: int) -> dict[VariantKey, list[int]]:
        """Return variant -> resolutions at which it is to be tested."""
        found: dict[VariantKey, list[int]] = {}
        for key in keys:
            rows = read_rows(self.results / key.owner.metrics_file)
            identity = dict(variant=key.variant, seed=seed)
            found[key] = [
                size
                for size in self.resolutions
                if not has_row(rows, dict(identity, resolution=size, **self._setting(key, size)))
            ]
        return {key: resolutions for key, resolutions in found.items() if resolutions}

    def _setting(self, key: VariantKey, resolution: int) -> dict[str, int]:
        """Return what rows of comparable tests at a resolution have in common."""
        return {'images': self._images(key, resolution), key.schedule.column: self._length(key.trained)}

    def _step(self, key: VariantKey, resolution: int) -> int:
        """Return n, where a test takes every n-th image."""
        return 1 if self.all_images else key.owner.thinned.get(resolution, 1)

    def _images(self, key: VariantKey, resolution: int) -> int:
        return len(range(0, self.data.test_images, self._step(key, resolution)))

    def _length(self, key: VariantKey) -> int:
        """Return the length of a training, which ``length`` scales in the experiments of this schedule."""
        is_scaled = key.owner.schedule == self.experiment.schedule
        return key.length(self.length) if is_scaled else key.schedule.length

    def _folder(self, key: VariantKey, seed: int) -> Path:
        name = f'seed_{seed}_{self._length(key)}{key.schedule.column[0]}'
        return self.work_dirs / key.experiment / key.variant / name

    def _checkpoint(self, key: VariantKey, seed: int) -> Path:
        return self._folder(key, seed) / key.schedule.checkpoint(self._length(key))

    def _length_left(self, key: VariantKey, seed: int) -> int:
        files = self._folder(key, seed).glob(key.schedule.checkpoint('*'))
        return self._length(key) - max((int(file.stem.rpartition('_')[2]) for file in files), default=0)

    def _amount(self, key: VariantKey, resolutions: Sequence[int]) -> float:
        """Return the work of a test: megapixels of all images together."""
        return sum(resolution**2 * self._images(key, resolution) for resolution in resolutions) / 1e6

    def _train(self, key: VariantKey, seed: int, descriptor: int) -> Path:
        """Return the last checkpoint of a training, which is begun or continued unless it is finished."""
        checkpoint = self._checkpoint(key, seed)
        if checkpoint.is_file():
            return checkpoint
        label = f'{key.variant}, seed {seed}, training'
        start = self._start(key, seed, label, descriptor)
        folder, length = self._folder(key, seed), self._length_left(key, seed)
        self._check_time(key, 'training', length, label)
        config = self._config(key, folder, start)
        words = [sys.executable, TRAIN, config, '--work-dir', folder, '--no-validate']
        is_begun = any(folder.glob('*.pth'))
        words += ['--resume'] if is_begun else []
        words += ['--cfg-options', f'randomness.seed={seed}', f'train_dataloader.num_workers={self.workers}']
        words += [f'{field}={self._length(key)}' for field in key.schedule.fields]
        say(f'{label}: {"continues" if is_begun else "begins"}')
        variables = self.data.train_variables
        seconds = self.commands.run(words, folder / 'training.log', label, descriptor, variables)
        if not checkpoint.is_file():
            raise NotFinished(f'{label}: ended without {checkpoint}')
        self._add_time(key, seed, 'training', length, seconds)
        return checkpoint

    def _start(self, key: VariantKey, seed: int, label: str, descriptor: int) -> Path | None:
        """Return the checkpoint that a training starts from, after the training that makes it; None for none.

        Raises:
            NotFinished: it cannot be made here, or its training is not finished.
        """
        if key.start is None:
            return None
        first = key.start.trained
        checkpoint = self._checkpoint(first, seed)
        if not checkpoint.is_file():
            if first.owner.data != self.experiment.data:
                raise NotFinished(
                    f'{label}: starts from {checkpoint}, a training on other images; make it by run.py '
                    f'{first.experiment} --variants {first.variant} --seeds {seed}'
                )
            name = f'{first.variant}, seed {seed}'
            with lock(checkpoint.parent, name, self.commands.is_stopped) as other:
                self._train(first, seed, other)
        return self._converted(key, first, seed, checkpoint, descriptor)

    def _converted(
        self, key: VariantKey, first: VariantKey, seed: int, checkpoint: Path, descriptor: int
    ) -> Path:
        """Return the checkpoint to start from, which is written where a variant converts it."""
        if not key.declaration.convert:
            return checkpoint
        folder = self._folder(key, seed)
        out = folder / CONVERTED
        if not out.is_file():
            out.parent.mkdir(exist_ok=True)
            places = {
                '{config}': self._config(first, folder, checkpoint),
                '{checkpoint}': checkpoint,
                '{out}': out,
            }
            script, *words = (str(places.get(word, word)) for word in key.declaration.convert)
            label = f'{key.variant}, seed {seed}, conversion'
            log, variables = folder / 'conversion.log', self.data.train_variables
            self.commands.run([sys.executable, ROOT / script, *words], log, label, descriptor, variables)
        return out

    def _test(
        self,
        key: VariantKey,
        seed: int,
        resolutions: Sequence[int],
        step: int,
        checkpoint: Path,
        descriptor: int,
    ) -> None:
        """Test at the resolutions, on every image or every n-th, and append the metrics."""
        label = f'{key.variant}, seed {seed}, test'
        folder = checkpoint.parent / self._test_folder(key, step)
        folder.mkdir(exist_ok=True)
        amount = self._amount(key, resolutions)
        self._check_time(key, 'test', amount, label)
        out = folder / 'metrics.json'
        indices = f'list(range(0, {self.data.test_images}, {step}))'
        thinned = f'test_dataloader = dict(dataset=dict(indices={indices}))'
        config = self._config(key, folder, checkpoint, *([thinned] if step > 1 else []))
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
                for column, metric in key.owner.metrics.items()
            }
            setting = dict(self._setting(key, size), dtype=self.dtype)
            rows.append({'variant': key.variant, 'seed': seed, 'resolution': size, **values, **setting})
        append_rows(self.results / key.owner.metrics_file, rows)
        self._add_time(key, seed, 'test', amount, seconds)
        shown = [' '.join(str(row[column]) for column in key.owner.metrics) for row in rows]
        say(f'{label}: {", ".join(f"{size}: {values}" for size, values in zip(resolutions, shown))}')

    @staticmethod
    def _test_folder(key: VariantKey, step: int) -> str:
        """Return the name of the folder of a test, in that of the training."""
        owner = '' if key.experiment == key.trained.experiment else f'{key.experiment}_'
        return f'test_{owner}{key.variant}' + (f'_every_{step}' if step > 1 else '')

    @staticmethod
    def _config(key: VariantKey, folder: Path, checkpoint: Path | None, *lines: str) -> Path:
        path = folder / f'{key.variant}.py'
        text = key.declaration.config_text(ROOT, *lines, checkpoint=checkpoint)
        path.write_text(text, encoding='utf-8')
        return path

    def _expected(self, key: VariantKey, part: str, amount: float) -> float | None:
        rows = read_rows(self.results / key.owner.times_file)
        return expected_seconds(rows, key.variant, part, amount)

    def _check_time(self, key: VariantKey, part: str, amount: float, label: str) -> None:
        self.budget.check(self._expected(key, part, amount), label)

    def _add_time(self, key: VariantKey, seed: int, part: str, amount: float, seconds: float) -> None:
        row = dict(
            variant=key.variant,
            seed=seed,
            part=part,
            amount=f'{amount:.2f}',  # epochs or iterations, or megapixels
            seconds=f'{seconds:.1f}',
            threads=self.commands.environment['OMP_NUM_THREADS'],
            dtype=self.dtype,
            torch=torch.__version__,
            machine=describe_device(get_device()),
        )
        append_rows(self.results / key.owner.times_file, [row])


def say(text: str, stream: TextIO = sys.stdout) -> None:
    """Print a line at once, so that those of several threads do not mix."""
    stream.write(f'{text}\n')
    stream.flush()


@contextlib.contextmanager
def lock(folder: Path, name: str, is_stopped: threading.Event | None = None) -> Iterator[int]:
    """Make a folder and hold its lock, which another call of this program may hold; yield its descriptor.

    Args:
        folder: the folder of a training.
        name: name of the run, for messages.
        is_stopped: if given, the lock is waited for until this is set.

    Raises:
        NotFinished: another call holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if is_stopped is None or is_stopped.wait(SECONDS_BETWEEN_LOOKS):
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
