"""What data sets make of a file that needs repairs: those of this package, and those of the libraries."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import redirect_stdout
from copy import copy
from io import StringIO
from itertools import zip_longest
from typing import Any

from resformer_mm.libraries import LIBRARIES
from resformer_mm.repairs import is_strict

from .report import REPAIRED, Finding

READ_OTHERWISE = 'read otherwise by this data set'


def foreign(dataset: Any) -> Any:
    """Return a data set whose class is one of the upstream libraries, else None."""
    return dataset if type(dataset).__module__.partition('.')[0] in LIBRARIES else None


def moved(dataset: Any, place: Callable[[str], str]) -> Any:
    """Return a data set of a library that reads the copy of its files; None for None.

    Args:
        dataset: see :func:`foreign`.
        place: function from a file or folder to its copy.
    """
    if dataset is None:
        return None
    copied = copy(dataset)
    copied.ann_file = place(dataset.ann_file) if dataset.ann_file else dataset.ann_file
    copied.data_prefix = {key: place(value) for key, value in dataset.data_prefix.items() if value}
    return copied


def reading_findings(
    path: str,
    repairs: Iterable[object],
    dataset: Any,
    remedy: str,
    expected: Sequence[Hashable],
    entry: Callable[[dict], Hashable],
) -> list[Finding]:
    """Return notes about the repairs of a file, or a fault if a library's own data set reads something else.

    Args:
        path: the file or folder.
        repairs: what the data sets of this package repair.
        dataset: the data set that reads it in a config, see :func:`foreign`; None for those of this package.
        remedy: ``type`` of the data set of this package.
        expected: what should be read.
        entry: function from an entry of the data set to what it reads.
    """
    done = [str(repair) for repair in repairs]
    if dataset is None:
        return [Finding(path, REPAIRED, repair, is_fault=is_strict()) for repair in done]
    name = f'{type(dataset).__module__.partition(".")[0]}.{type(dataset).__name__}'
    problem = _difference(dataset, expected, entry)
    if problem is None:
        detail = f'not by {name}, whose entries are the same'
        return [Finding(path, REPAIRED, f'{repair}; {detail}', is_fault=False) for repair in done]
    needed = f'. Needed: {"; ".join(done)}' if done else ''
    advice = f'use type={remedy!r}, or a copy by tools/check_data.py --fix'
    return [Finding(path, READ_OTHERWISE, f'{name} {problem}{needed}: {advice}')]


def _difference(dataset: Any, expected: Sequence[Hashable], entry: Callable[[dict], Hashable]) -> str | None:
    """Return how the entries of a data set differ from what is expected; None if they are the same."""
    try:
        with redirect_stdout(StringIO()):  # pycocotools reports its progress
            found = [entry(info) for info in dataset.load_data_list()]
    except Exception as error:  # libraries read files without checks
        return f'cannot read it ({type(error).__name__}: {error})'
    if set(found) == set(expected):
        return None
    wrong, right = next(pair for pair in zip_longest(found, expected) if pair[0] != pair[1])
    return f'reads {_shown(wrong)} instead of {_shown(right)}'


def _shown(entry: Hashable) -> str:
    parts = ['nothing'] if entry is None else map(str, entry if isinstance(entry, tuple) else [entry])
    return ' '.join(part if part.isprintable() else repr(part) for part in parts)
