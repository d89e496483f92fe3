"""Progress of long commands, on the standard error: a bar on a terminal, single lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sized
from datetime import timedelta
from types import TracebackType
from typing import IO, Any, TypeVar

from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from resformer_mm.control_characters import printable

__all__ = ['ProgressDisplay', 'track']

Item = TypeVar('Item')
REFRESH = 0.1
"""Least seconds between two drawings of a bar."""
INTERVAL = 30.0
"""Least seconds between two lines where the standard error is not a terminal."""


class ProgressDisplay:
    """Count, rate and time left of one or several tasks, while it is entered.

    On a terminal, every task has a bar, and what the command prints or logs meanwhile appears above the bars.
    Elsewhere, in logs and pipes, a line is written every 30 seconds, so a short command writes nothing. Only
    the first of several processes shows anything.

    Nothing is drawn between two calls: without a thread, loader workers can be forked at any time, and
    nothing disturbs times that are measured.

    Args:
        shown: whether to show anything.
    """

    def __init__(self, shown: bool = True) -> None:
        self._view: _Bars | _Lines | None = None
        if shown and is_main_process():
            self._view = _Bars() if _is_terminal() else _Lines(sys.stderr)

    def __enter__(self) -> ProgressDisplay:
        if self._view is not None:
            self._view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._view is not None:
            self._view.stop()

    def add(self, title: str, total: int | None = None) -> int:
        """Add a task, and return its number.

        Args:
            title: what is counted.
            total: the count at the end; None if it is not known yet.
        """
        return 0 if self._view is None else self._view.add(printable(title), total)

    def set_total(self, task: int, total: int) -> None:
        """Set the count at the end of a task."""
        if self._view is not None:
            self._view.set_total(task, total)

    def advance(self, task: int) -> None:
        """Count one more."""
        if self._view is not None:
            self._view.advance(task)


def track(
    items: Iterable[Item], title: str, total: int | None = None, shown: bool = True
) -> Generator[Item, None, None]:
    """Yield the items, and show how many were used.

    Close the generator after an error of the loop over it: the display then ends before the error is printed.

    Args:
        items: the items.
        title: what is counted.
        total: number of items; by default their length, if they have one.
        shown: whether to show anything.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with ProgressDisplay(shown) as display:
        task = display.add(title, total)
        for item in items:
            yield item
            display.advance(task)


def _is_terminal() -> bool:
    # Not what rich takes for a terminal: variables of CI systems make it write bars to files.
    return sys.stderr.isatty() and not Console(stderr=True, force_terminal=True).is_dumb_terminal


class _Bars:
    """A bar per task on a terminal."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True, force_terminal=True),
            auto_refresh=False,
            # Else what is printed to a pipe or file would go to the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._redirected: list[tuple[IO, IO]] = []
        self._drawn = 0.0

    def start(self) -> None:
        before = sys.stdout, sys.stderr
        self._progress.start()
        self._redirected = [pair for pair in zip(before, (sys.stdout, sys.stderr)) if pair[0] is not pair[1]]
        _redirect_logging(self._redirected)

    def stop(self) -> None:
        self._progress.stop()
        # Also for handlers that were made meanwhile.
        _redirect_logging([(to, original) for original, to in self._redirected])

    def add(self, title: str, total: int | None) -> int:
        return self._progress.add_task(title, total=total)

    def set_total(self, task: int, total: int) -> None:
        self._progress.update(TaskID(task), total=total)
        self._draw()

    def advance(self, task: int) -> None:
        self._progress.advance(TaskID(task))
        self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= REFRESH:
            self._drawn = now
            self._progress.refresh()


class _RateColumn(ProgressColumn):
    """Items per second, or seconds per item."""

    def render(self, task: Task) -> Text:
        return Text(_rate_text(task.finished_speed or task.speed))


class _Lines:
    """A line of text for the task that moves, every :data:`INTERVAL` seconds."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._tasks: list[_Count] = []

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def add(self, title: str, total: int | None) -> int:
        self._tasks.append(_Count(title, total))
        return len(self._tasks) - 1

    def set_total(self, task: int, total: int) -> None:
        self._tasks[task] = _Count(self._tasks[task].title, total)  # what came before does not count

    def advance(self, task: int) -> None:
        count = self._tasks[task]
        count.done += 1
        now = time.monotonic()
        is_last = count.done == count.total and count.told > count.start
        if is_last or now - count.told >= INTERVAL:
            count.told = now
            print(count.line(now), file=self._stream, flush=True)


class _Count:
    """State of a task without a bar."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title, self.total, self.done = title, total, 0
        self.start = self.told = time.monotonic()

    def line(self, now: float) -> str:
        """Return count, rate and time left, or at the end the time taken."""
        seconds = now - self.start
        of_all = '' if self.total is None else f'/{self.total}'
        parts = [f'{self.title}: {self.done}{of_all}', _rate_text(self.done / seconds if seconds else None)]
        if self.total is not None and self.done >= self.total:
            parts.append(f'{_duration(seconds)} in all')
        elif self.total is not None:
            parts.append(f'{_duration(seconds / self.done * (self.total - self.done))} left')
        return ', '.join(filter(None, parts))


def _rate_text(rate: float | None) -> str:
    if not rate:
        return ''
    return f'{rate:.3g}/s' if rate >= 1 else f'{1 / rate:.3g} s each'


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _redirect_logging(pairs: list[tuple[IO, IO]]) -> None:
    """Let the handlers of all loggers that write to the first stream of a pair write to the second."""
    for handler in _handlers():
        for before, after in pairs:
            if handler.stream is before:
                handler.setStream(after)
                break


def _handlers() -> Iterator[Any]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values(), *MMLogger._instance_dict.values()]
    for logger in loggers:
        for handler in getattr(logger, 'handlers', ()):
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                yield handler
