"""Training curves and iteration times from MMEngine's logs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean, pstdev

# Keys that give the position of a line in the training.
PLACE = ('step', 'iter', 'epoch')


@dataclass(frozen=True)
class Curve:
    """One logged quantity over a training run.

    Attributes:
        key: its name in the log.
        iterations: number of iterations completed when each value was logged.
        values: the logged values.
        is_metric: whether the values come from validation, not from training.
    """

    key: str
    iterations: list[float]
    values: list[float]
    is_metric: bool


@dataclass
class _Run:
    """Lines of one log file with their iterations; validations have that of the preceding training line."""

    train: list[tuple[int, dict]] = field(default_factory=list)
    val: list[tuple[int, dict]] = field(default_factory=list)

    @property
    def start(self) -> int:
        """First iteration of the run: one logging interval before its first line."""
        first = self.train[0][0]
        interval = self.train[1][0] - first if len(self.train) > 1 else 1
        return max(0, first - interval)


class TrainingLog:
    """Log of one training, joined from all its runs.

    A run that resumed an earlier one replaces the lines logged after the checkpoint; a run that started from
    scratch replaces all lines. The result is the history of the last weights.

    Args:
        path: a work dir of MMEngine, one of its runs (a folder named by time), or a file
            ``vis_data/scalars.json``.

    Attributes:
        name: name of the work dir.
        files: the log files, in the order of the runs.
        iterations_per_epoch: length of an epoch; None if the log is by iteration or has only one epoch.

    Raises:
        FileNotFoundError: there is no such file or folder, or it has no training log.
        ValueError: a line is damaged (file and line number are named), or there are no training lines.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.files = _find_files(path)
        self.name = _name(path)
        self.train: list[tuple[int, dict]] = []
        val: list[tuple[int, dict]] = []
        for run in map(_read_run, self.files):
            if not run.train:
                continue
            self.train = [line for line in self.train if line[0] <= run.start] + run.train
            val = [line for line in val if line[0] <= run.start] + run.val
        if not self.train:
            raise ValueError(f'{path} has no training lines: nothing was logged before the run ended')
        self.by_epoch = 'epoch' in self.train[0][1]
        self.iterations_per_epoch = self._epoch_length()
        epochs = {iteration: line.get('epoch') for iteration, line in self.train}
        self.val = [(self._place(line['step'], before, epochs.get(before)), line) for before, line in val]

    @property
    def keys(self) -> list[str]:
        """Names of all logged numbers, in the order of their first appearance."""
        lines = [line for _, line in (*self.train, *self.val)]
        return list(
            dict.fromkeys(k for line in lines for k in line if k not in PLACE and _is_number(line[k]))
        )

    def match(self, patterns: Sequence[str]) -> list[str]:
        """Return the keys that match names or shell patterns such as 'loss_*' or '*/accuracy/top1'.

        Raises:
            ValueError: a name or pattern does not match any key; the message lists the keys.
        """
        found = []
        for pattern in patterns:
            matching = [key for key in self.keys if key == pattern or fnmatchcase(key, pattern)]
            if not matching:
                raise ValueError(f'{self.name} does not have {pattern!r}; it has: {", ".join(self.keys)}')
            found += matching
        return list(dict.fromkeys(found))

    def curve(self, key: str) -> Curve:
        """Return the curve of a key, from the training lines if they have it, else from the validations.

        Raises:
            ValueError: no line has the key.
        """
        for is_metric, lines in ((False, self.train), (True, self.val)):
            points = [(iteration, line[key]) for iteration, line in lines if _is_number(line.get(key))]
            if points:
                iterations, values = zip(*points)
                return Curve(key, list(iterations), list(values), is_metric)
        raise ValueError(f'{self.name} does not have {key!r}; it has: {", ".join(self.keys)}')

    def epochs(self, curve: Curve) -> list[float]:
        """Return the number of epochs completed at each point of a curve.

        Raises:
            ValueError: the length of an epoch is unknown.
        """
        if self.iterations_per_epoch is None:
            reason = 'only one epoch' if self.by_epoch else 'no epochs'
            raise ValueError(
                f'{self.name} has {reason}, so the length of an epoch is unknown: use iterations'
            )
        return [iteration / self.iterations_per_epoch for iteration in curve.iterations]

    def _epoch_length(self) -> float | None:
        # The first lines of all epochs are equally far from the start of their epoch.
        firsts: dict[int, int] = {}
        for iteration, line in self.train:
            if 'epoch' in line:
                firsts.setdefault(line['epoch'], iteration)
        if len(firsts) < 2:
            return None
        first, last = min(firsts), max(firsts)
        return (firsts[last] - firsts[first]) / (last - first)

    def _place(self, step: float, before: int, epoch: int | None) -> float:
        """Return the iteration of a validation, whose step is an epoch or an iteration.

        The preceding training line has the iteration ``before`` and the epoch ``epoch``.
        """
        if step == epoch:
            return epoch * self.iterations_per_epoch if self.iterations_per_epoch else before
        return max(step, before)


@dataclass(frozen=True)
class TrainTime:
    """Seconds per training iteration.

    Attributes:
        mean: mean over the selected lines.
        by_epoch: epoch -> mean; empty if the log is by iteration.
    """

    mean: float
    by_epoch: dict[int, float]

    def __str__(self) -> str:
        lines = []
        if self.by_epoch:
            slowest = max(self.by_epoch, key=self.by_epoch.__getitem__)
            fastest = min(self.by_epoch, key=self.by_epoch.__getitem__)
            lines += [
                f'slowest epoch: {slowest}, {self.by_epoch[slowest]:.4f} s/iter',
                f'fastest epoch: {fastest}, {self.by_epoch[fastest]:.4f} s/iter',
                f'standard deviation over epochs: {pstdev(self.by_epoch.values()):.4f} s/iter',
            ]
        return '\n'.join([*lines, f'average: {self.mean:.4f} s/iter'])


def train_time(log: TrainingLog, include_outliers: bool = False) -> TrainTime:
    """Return the time per iteration of a training.

    Args:
        log: the log.
        include_outliers: whether to include the first line of every epoch, when the data loaders start (if
            the log is by iteration, the first line of the training).

    Raises:
        ValueError: the log has no times, or none without the outliers.
    """
    groups: dict[int | None, list[float]] = {}
    for _, line in log.train:
        if _is_number(line.get('time')):
            groups.setdefault(line.get('epoch'), []).append(line['time'])
    if not groups:
        raise ValueError(f'{log.name} has no `time` in its training lines: train with the IterTimerHook')
    if not include_outliers:
        groups = {epoch: times[1:] for epoch, times in groups.items()}
        empty = [str(epoch) for epoch, times in groups.items() if not times and epoch is not None]
        if empty or not any(groups.values()):
            where = f'epoch {", ".join(empty)}' if empty else 'the training'
            raise ValueError(
                f'{log.name} has only one line in {where}, and the first one is excluded as an outlier: '
                'use --include-outliers, or log more often (default_hooks.logger.interval)'
            )
    by_epoch = {epoch: fmean(times) for epoch, times in groups.items() if epoch is not None}
    return TrainTime(fmean(time for times in groups.values() for time in times), by_epoch)


def _read_run(path: Path) -> _Run:
    run, before = _Run(), 0
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ValueError(
                f'{path}, line {number} is damaged ({error}): {text[:60]!r}. '
                'If the run was interrupted there, delete the line'
            ) from error
        if not isinstance(line, dict) or not _is_number(line.get('step')):
            raise ValueError(
                f'{path}, line {number} is not a line of a log (an object with a `step`): {text[:60]!r}. '
                'Give the vis_data/scalars.json of a run, or its work dir'
            )
        line = {key: math.nan if value is None else value for key, value in line.items()}  # null is NaN
        # Only training lines have the iteration or, before MMEngine 0.8, only the learning rate.
        if 'iter' in line or 'lr' in line:
            before = line['step']
            run.train.append((before, line))
        else:
            run.val.append((before, line))
    return run


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f'there is no log {path}: give a work dir, or its */vis_data/scalars.json')
    for pattern in ('scalars.json', 'vis_data/scalars.json', '*/vis_data/scalars.json'):
        files = sorted(path.glob(pattern))  # folders of runs are named by time
        if files:
            return files
    raise FileNotFoundError(
        f'{path} has no training log, */vis_data/scalars.json: give the work dir of a training'
    )


def _name(path: Path) -> str:
    path = path.resolve()
    if path.is_file() and path.parent.name != 'vis_data':
        return path.stem
    parts = list(path.parts)
    return parts[parts.index('vis_data') - 2] if 'vis_data' in parts else path.name


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
