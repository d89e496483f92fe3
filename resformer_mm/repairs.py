"""The rule for problems of data and files from outside.

What is certain is repaired and told once, with a count (:func:`repair`); in strict mode it is an error. What
is ambiguous is an error that names file, field and remedy, raised where it is found. What is unusual but
legal is told once (:func:`remark`).
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import tempfile
import zlib
from collections.abc import Iterator
from multiprocessing.util import Finalize

import torch
import torch.utils.data
from mmengine.logging import MMLogger, print_log

from resformer_mm.control_characters import printable

# In the environment, because loader workers that are not forked import this module anew.
_VARIABLE, _FILE = 'RESFORMER_MM_STRICT_DATA', 'RESFORMER_MM_TOLD'
_told: set[str] = set()
# Who told what, by hash. Loader workers share it, since those of the next epoch start from nothing told.
_SLOTS = 2**16
_NOBODY, _MAIN, _WORKER = range(3)
_told_in_run = torch.zeros(_SLOTS, dtype=torch.uint8).share_memory_()
_listener: list[str] | None = None
_collector: list[str] | None = None
_not_in_a_file: list[str] = []


class StrictError(ValueError):
    """A repair that strict mode refuses. The message names the file and what would have been repaired."""


def set_strict(strict: bool) -> None:
    """Set whether a repair is an error, for this process and those that it starts afterwards."""
    os.environ[_VARIABLE] = str(int(strict))


def is_strict() -> bool:
    """Return whether a repair is an error."""
    return os.environ.get(_VARIABLE) == '1'


def share_with_workers() -> None:
    """Let loader workers that this process starts know what was told, also if they are not forked.

    Call it once the start method of processes is set.
    """
    global _told_in_run
    # The first of all methods is the default of the platform; to ask for it would set it.
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method == 'fork' or os.environ.get(_FILE, '').endswith(f'-{os.getpid()}'):
        return
    path = os.path.join(tempfile.mkdtemp(prefix='resformer_mm-'), f'told-{os.getpid()}')
    told = torch.from_file(path, shared=True, size=_SLOTS, dtype=torch.uint8)
    _told_in_run = told.copy_(_told_in_run)
    os.environ[_FILE] = path
    Finalize(None, _remove, (path, os.getpid()), exitpriority=0)  # unlike atexit, also in child processes


def repair(where: object, what: str, count: int | None = None) -> None:
    """Tell that something was repaired, with one warning per file and kind, or refuse it.

    Call it once per file, before the repair, with the number of places.

    Args:
        where: the file, folder or config field.
        what: what is wrong and what is done, e.g. 'annotations without `iscrowd`: taken as 0'.
        count: number of places; None if there can be only one.

    Raises:
        StrictError: strict mode is set.
    """
    done = what if count is None else f'{count} {what}'
    if _collector is not None:
        _collector.append(done)
        return
    text = f'{where}: {done}'
    if is_strict():
        raise StrictError(f'{text}. Strict mode repairs nothing: correct the file, or leave strict mode off')
    tell_once(f'repaired: {text}')


def remark(where: object, what: str, key: str | None = None) -> None:
    """Tell something unusual but legal, once per run.

    Args:
        where: the file, folder or config field.
        what: what is unusual.
        key: what counts as the same remark; by default, the same text.
    """
    tell_once(f'{where}: {what}', key)


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Collect the repairs of the block, which are neither told nor refused, without the file or folder."""
    global _collector
    before, _collector = _collector, []
    try:
        yield _collector
    finally:
        _collector = before


@contextlib.contextmanager
def overheard() -> Iterator[list[str]]:
    """Collect what the block would tell, in this process; afterwards, it counts as not told."""
    global _listener
    before, told = _listener, set(_told)
    _listener = []
    try:
        yield _listener
    finally:
        _listener = before
        _told.clear()
        _told.update(told)


def tell_once(text: str, key: str | None = None) -> bool:
    """Log a warning that this process or one of its loader workers has not logged before.

    Args:
        text: the warning.
        key: what counts as the same warning; by default, the same text.

    Returns:
        Whether it was logged.
    """
    text = printable(text)
    if _listener is not None:
        if text not in _listener:
            _listener.append(text)
        return False
    key = printable(key or text)
    told, slot = _shared_memory(), zlib.crc32(key.encode()) % _SLOTS
    before = int(told[slot])
    if torch.utils.data.get_worker_info() is not None:
        is_new, teller = before == _NOBODY, _WORKER
    else:
        is_new, teller = key not in _told and before != _WORKER, _MAIN
    if is_new:
        _told.add(key)
        told[slot] = teller
        print_log(text, logger='current', level=logging.WARNING)
        if not any(map(_files_of, MMLogger._instance_dict.values())):
            _not_in_a_file.append(text)
    return is_new


def write_earlier_warnings(logger: logging.Logger) -> None:
    """Write what was told before a run had a log file to the log file."""
    for text in _not_in_a_file if _files_of(logger) else ():
        record = logger.makeRecord(logger.name, logging.WARNING, __file__, 0, text, (), None)
        for handler in _files_of(logger):
            handler.handle(record)
    _not_in_a_file.clear()


def _files_of(logger: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]


def _shared_memory() -> torch.Tensor:
    """Return the memory of the run; a worker that was not forked finds it by its file."""
    parent, path = multiprocessing.parent_process(), os.environ.get(_FILE, '')
    if parent is None or not path.endswith(f'-{parent.pid}') or not os.path.isfile(path):
        return _told_in_run
    return torch.from_file(path, shared=True, size=_SLOTS, dtype=torch.uint8)


def _remove(path: str, creator: int) -> None:
    if os.getpid() == creator:  # forked workers must not
        os.remove(path)
        os.rmdir(os.path.dirname(path))
