"""The rule for problems of data and files from outside.

What is certain is repaired and told once, with a count (:func:`repair`); in strict mode it is an error. What
is ambiguous is an error that names file, field and remedy, raised where it is found. What is unusual but
legal is told once (:func:`remark`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Iterator

import torch
import torch.utils.data
from mmengine.logging import print_log

# In the environment, because loader workers that are not forked import this module anew.
_VARIABLE = 'RESFORMER_MM_STRICT_DATA'
_told: set[str] = set()
# What loader workers told: they share this memory, and those of the next epoch start from nothing told.
_told_by_workers = torch.zeros(2**16, dtype=torch.uint8).share_memory_()
_listener: list[str] | None = None
_collector: list[str] | None = None


class StrictError(ValueError):
    """A repair that strict mode refuses. The message names the file and what would have been repaired."""


def set_strict(strict: bool) -> None:
    """Set whether a repair is an error, for this process and those that it starts afterwards."""
    os.environ[_VARIABLE] = str(int(strict))


def is_strict() -> bool:
    """Return whether a repair is an error."""
    return os.environ.get(_VARIABLE) == '1'


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
    _tell(f'repaired: {text}')


def remark(where: object, what: str) -> None:
    """Tell something unusual but legal, once per run."""
    _tell(f'{where}: {what}')


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


def _tell(text: str) -> None:
    if _listener is not None:
        if text not in _listener:
            _listener.append(text)
        return
    if torch.utils.data.get_worker_info() is not None:
        slot = zlib.crc32(text.encode()) % len(_told_by_workers)
        is_new = not _told_by_workers[slot]
        _told_by_workers[slot] = 1
    else:
        is_new = text not in _told
    if is_new:
        _told.add(text)
        print_log(text, logger='current', level=logging.WARNING)
